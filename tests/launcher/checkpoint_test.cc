// Checkpoints: bit-exact between layouts, whole or absent, and every failure one sentence on every rank.
#include "launcher/checkpoints/checkpoint.h"

#include <gflags/gflags.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "launcher/checkpoints/weight_folder.h"
#include "runtime/errors.h"
#include "runtime/file_sum.h"
#include "runtime/world.h"
#include "tests/launcher/checkpoint_model.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// Gives each test folders of its own and removes them.
class CheckpointTest : public testing::Test {
 protected:
  std::string FreshRun(const std::string& name) {
    runs_.push_back(fs::path(testing::TempDir()) / ("checkpoint_" + name + "_" + std::to_string(getpid())));
    fs::remove_all(runs_.back());
    return runs_.back().string();
  }
  void TearDown() override {
    for (const fs::path& run : runs_) fs::remove_all(run);
  }

 private:
  std::vector<fs::path> runs_;
};

std::set<std::string> NamesIn(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

// Runs the body on threads and returns the text of the UserError that every rank threw; "" when none did.
std::string ErrorOn(int ranks, const std::function<void(Communicator&)>& body) {
  std::mutex mutex;
  std::vector<std::string> texts;
  EXPECT_EQ(0, RunWorld({.num_threads = ranks}, [&](World& world) {
              std::string text;
              try {
                body(*world.communicator);
              } catch (const UserError& error) {
                text = error.what();
              }
              std::lock_guard lock(mutex);
              texts.push_back(text);
            }));
  EXPECT_EQ(texts.size(), static_cast<size_t>(ranks));
  for (const std::string& text : texts) EXPECT_EQ(text, texts[0]) << "all ranks must throw the same";
  return texts.at(0);
}

std::string Save(const std::string& run, int64_t step, int ranks, uint64_t seed, int keep = 0,
                 int shift = 0) {
  std::string path;
  const std::string error = ErrorOn(ranks, [&](Communicator& world) {
    CheckpointModel model(world.rank(), world.size(), seed, shift);
    model.Fill();
    model.view.training_state = "{\"tokens\": 4096, \"note\": \"a\"}";
    const std::string saved = SaveCheckpoint(world, run, step, model.view, keep);
    if (world.rank() == 0) path = saved;
  });
  EXPECT_EQ(error, "");
  return path;
}

// Loads on `ranks` and compares every bit.
void ExpectLoads(const std::string& path, int ranks, uint64_t seed, int shift = 0) {
  const std::string error = ErrorOn(ranks, [&](Communicator& world) {
    CheckpointModel model(world.rank(), world.size(), seed, shift);
    model.Poison();
    EXPECT_GT(model.Wrong(), 5);
    LoadCheckpoint(world, path, model.view);
    EXPECT_EQ(model.Wrong(), 0) << "rank " << world.rank() << " of " << world.size();
    EXPECT_EQ(nlohmann::json::parse(model.view.training_state)["tokens"], 4096);
  });
  EXPECT_EQ(error, "");
}

TEST_F(CheckpointTest, AnyLayoutLoadsAnyOtherBitForBit) {
  for (int writers : {1, 2, 3, 7}) {
    const std::string run = FreshRun("layouts");
    const std::string path = Save(run, 12, writers, writers);
    EXPECT_EQ(path, run + "/checkpoints/step-12");
    for (int readers : {1, 2, 3, 5}) {
      for (int shift : {0, 2, 5}) ExpectLoads(path, readers, writers, shift > 0 && readers > 1 ? shift : 0);
    }
    fs::remove_all(run);
  }
}

TEST_F(CheckpointTest, HoldsTheFilesThatOthersRead) {
  const std::string run = FreshRun("files");
  const std::string sharded = Save(run, 1, 2, 1), single = Save(run, 2, 1, 1);
  EXPECT_THAT(NamesIn(sharded),
              ElementsAre("config.json", "config.txtpb", "model-00001-of-00002.safetensors",
                          "model-00002-of-00002.safetensors", "model.safetensors.index.json",
                          "optimizer-00001-of-00002.safetensors", "optimizer-00002-of-00002.safetensors",
                          "training_state.json"));
  EXPECT_THAT(NamesIn(single), ElementsAre("config.json", "config.txtpb", "model.safetensors",
                                           "optimizer-00001-of-00001.safetensors", "training_state.json"));
  const nlohmann::json index =
      nlohmann::json::parse(std::ifstream(sharded + "/model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 4 * (33 + 7 + 1 + 5 * 12));
  EXPECT_EQ(index["weight_map"].size(), 8u);
  EXPECT_EQ(index["weight_map"]["model.pool.experts.4.up_proj.weight"], "model-00002-of-00002.safetensors");
  EXPECT_EQ(nlohmann::json::parse(std::ifstream(sharded + "/training_state.json"))["step"], 1);
  EXPECT_EQ(NamesIn(run + "/checkpoints").size(), 2u);
}

// FindNewestCheckpoint of one rank; what is wrong with all where none can be used.
std::string NewestCheckpoint(const std::string& run) {
  std::string found;
  const std::string error =
      ErrorOn(1, [&](Communicator& world) { found = FindNewestCheckpoint(world, run); });
  return error.empty() ? found : error;
}

TEST_F(CheckpointTest, NewestCompleteOneIsFound) {
  const std::string run = FreshRun("newest");
  gflags::FlagSaver saver;
  FLAGS_minloglevel = google::GLOG_ERROR;  // the warnings about each damaged one
  EXPECT_EQ(NewestCheckpoint(run), "");
  const std::string nine = Save(run, 9, 2, 1), ten = Save(run, 10, 2, 2);
  fs::create_directories(run + "/checkpoints/step-11.partial");
  fs::create_directories(run + "/checkpoints/step-");
  fs::create_directories(run + "/checkpoints/step-12x");
  fs::create_directories(run + "/checkpoints/step-99");  // empty
  EXPECT_EQ(NewestCheckpoint(run), ten);
  EXPECT_EQ(StepOfCheckpoint(ten + "/"), 10);
  EXPECT_EQ(ErrorOn(3, [&](Communicator& world) { EXPECT_EQ(FindNewestCheckpoint(world, run), ten); }), "");
  // Each file in turn: missing, then short.
  for (const std::string& file : NamesIn(ten)) {
    const fs::path path = fs::path(ten) / file, aside = fs::path(run) / "aside";
    fs::rename(path, aside);
    EXPECT_EQ(NewestCheckpoint(run), nine) << file;
    fs::copy_file(aside, path);
    fs::resize_file(path, fs::file_size(path) - 3);
    EXPECT_EQ(NewestCheckpoint(run), nine) << file;
    fs::remove(path);
    fs::rename(aside, path);
    EXPECT_EQ(NewestCheckpoint(run), ten) << file;
  }
}

TEST_F(CheckpointTest, AFlippedBitOrAnotherStepsFileIsFound) {
  const std::string run = FreshRun("flipped");
  const std::string nine = Save(run, 9, 2, 1), ten = Save(run, 10, 2, 2);
  for (const std::string& file : NamesIn(ten)) {
    const std::string path = ten + "/" + file;
    const std::string whole = ReadTextFile(path);
    std::string flipped = whole;
    flipped[flipped.size() / 2] ^= 4;
    std::ofstream(path, std::ios::binary) << flipped;
    EXPECT_EQ(NewestCheckpoint(run), nine) << file;
    const std::string older = ReadTextFile(nine + "/" + file);
    std::ofstream(path, std::ios::binary) << older;
    EXPECT_EQ(NewestCheckpoint(run), older == whole ? ten : nine) << file;
    fs::remove(path);
    ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
    EXPECT_EQ(NewestCheckpoint(run), nine) << file;
    fs::remove(path);
    std::ofstream(path, std::ios::binary) << whole;
  }
  std::ofstream(ten + "/notes.txt") << "mine";
  EXPECT_EQ(NewestCheckpoint(run), ten);
}

TEST_F(CheckpointTest, WhereNoneIsWholeEachIsNamedAndNothingChanges) {
  const std::string run = FreshRun("none");
  for (int step : {9, 10}) fs::resize_file(Save(run, step, 1, 1) + "/model.safetensors", 100);
  EXPECT_THAT(NewestCheckpoint(run), AllOf(HasSubstr("step-9/model.safetensors: has 100 bytes"),
                                           HasSubstr("step-10/model.safetensors: has 100 bytes"),
                                           HasSubstr("nothing was changed"), HasSubstr("--anew")));
  std::ofstream(run + "/metrics.jsonl") << "{}\n";
  EXPECT_THAT(SetAside(run), HasSubstr("checkpoints.replaced-1"));
  EXPECT_EQ(NamesIn(run), (std::set<std::string>{"checkpoints.replaced-1", "metrics.replaced-1.jsonl"}));
  EXPECT_EQ(NewestCheckpoint(run), "");
}

// As programs wrote them before there were sums.
TEST_F(CheckpointTest, ACheckpointWithoutSumsIsJudgedByItsHeaders) {
  const std::string run = FreshRun("old"), seven = Save(run, 7, 2, 5), state = seven + "/training_state.json";
  std::ofstream(state) << R"({"optimizer_files":2,"step":7,"training_state":{"step":7}})";
  EXPECT_EQ(NewestCheckpoint(run), seven);
  for (const char* text :
       {"{}", "[]", "7", "", R"({"optimizer_files":2,"step":7,"training_state":{"step":6}})",
        R"({"optimizer_files":2,"step":8,"training_state":{"step":8}})",
        R"({"optimizer_files":4294967298,"step":7,"training_state":{"step":7}})",
        R"({"optimizer_files":2,"step":-7,"training_state":{"step":-7}})"}) {
    std::ofstream(state) << text;
    EXPECT_THAT(NewestCheckpoint(run), HasSubstr("training_state.json: is")) << text;
  }
}

TEST_F(CheckpointTest, OnlyUnfinishedStepsAreRemoved) {
  const std::string run = FreshRun("unfinished"), folder = run + "/checkpoints";
  for (const char* name : {"step-3.partial", "my-notes.partial", "step-.partial"}) {
    fs::create_directories(folder + "/" + name);
  }
  RemoveUnfinished(run);
  EXPECT_THAT(NamesIn(folder), ElementsAre("my-notes.partial", "step-.partial"));
}

TEST_F(CheckpointTest, ReplacesPrunesAndCleans) {
  const std::string run = FreshRun("prune"), folder = run + "/checkpoints";
  Save(run, 1, 2, 1);
  Save(run, 2, 2, 1);
  fs::create_directories(folder + "/step-3.partial");
  std::ofstream(folder + "/step-3.partial/model.safetensors") << "half";
  Save(run, 3, 2, 1, 2);
  EXPECT_THAT(NamesIn(folder), ElementsAre("step-2", "step-3"));
  ExpectLoads(Save(run, 3, 3, 77, 2), 2, 77);  // the same step again, by other ranks with other weights
  EXPECT_THAT(NamesIn(folder), ElementsAre("step-2", "step-3"));
  EXPECT_EQ(NamesIn(folder + "/step-3").count("model-00001-of-00002.safetensors"), 0u);
  // A replacement on a file system that cannot swap names may be cut short: the former checkpoint still
  // counts.
  fs::rename(folder + "/step-3", folder + "/step-3.replaced");
  EXPECT_EQ(NewestCheckpoint(run), folder + "/step-3.replaced");
  Save(run, 4, 2, 1, 1);
  EXPECT_THAT(NamesIn(folder), ElementsAre("step-4"));
}

// A child that saves is killed, in half of the rounds after its first checkpoint; what is found is whole.
TEST_F(CheckpointTest, KilledWhileSavingLeavesAWholeOneOrNone) {
  int found = 0;
  for (int round = 0; round < 8; ++round) {
    const std::string run = FreshRun("killed");
    const pid_t child = fork();
    if (child == 0) {
      RunWorld({.num_threads = 2}, [&](World& world) {
        for (int step = 1;; ++step) {
          CheckpointModel model(world.rank(), world.size(), step % 3 + 100 * (step / 3));
          model.Fill();
          model.view.training_state = "{\"tokens\": 4096}";
          SaveCheckpoint(*world.communicator, run, step / 3, model.view, 2);  // each step is replaced twice
        }
      });
      _exit(0);
    }
    for (int wait = 0; round >= 4 && wait < 30'000 && NewestCheckpoint(run).empty(); ++wait) usleep(2000);
    usleep(20000 + 17000 * round);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const std::string newest = NewestCheckpoint(run);
    if (newest.empty()) continue;
    ++found;
    const int64_t step = StepOfCheckpoint(newest);
    int matches = 0;
    for (int part = 0; part < 3; ++part) {
      EXPECT_EQ("", ErrorOn(1, [&](Communicator& world) {
                  CheckpointModel model(0, 1, part + 100 * step);
                  model.Poison();
                  LoadCheckpoint(world, newest, model.view);
                  matches += model.Wrong() == 0;
                }));
    }
    EXPECT_EQ(matches, 1) << newest;
    Save(run, step + 1, 1, 1, 1);
    EXPECT_THAT(NamesIn(run + "/checkpoints"), ElementsAre("step-" + std::to_string(step + 1)));
    fs::remove_all(run);
  }
  EXPECT_GE(found, 4);
}

// Gives the one rank that owns expert 4 more than fits, and checks what the others and the disk say. `file`:
// how the path of the file that the message names goes on behind the folder.
void ExpectSaveFails(const std::string& run, const std::string& good, uint64_t seed, const std::string& file,
                     const std::string& reason) {
  const std::string error = ErrorOn(3, [&](Communicator& world) {
    CheckpointModel model(world.rank(), world.size(), seed);
    model.Fill();
    std::vector<float> large(1 << 18);
    if (world.rank() == 2) {
      model.view.tensors.push_back(
          {"large", {1 << 18}, Tensor(large.data(), DType::kF32, {1 << 18}), true, false});
    }
    SaveCheckpoint(world, run, 8, model.view, 1);
  });
  EXPECT_THAT(error, AllOf(HasSubstr(run + "/checkpoints/step-8.partial/" + file), HasSubstr(reason),
                           HasSubstr("the checkpoint of step 8 was not saved in " + run)));
  EXPECT_EQ(NamesIn(run + "/checkpoints"), std::set<std::string>{"step-7"});
  EXPECT_EQ(NewestCheckpoint(run), good);
  ExpectLoads(good, 2, seed);
}

TEST_F(CheckpointTest, FileThatDoesNotFitIsOneSentenceAndLeavesNothing) {
  const std::string run = FreshRun("limit"), good = Save(run, 7, 3, 5);
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small{100'000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  ExpectSaveFails(run, good, 5, "model-00003-of-00003.safetensors", "File too large");
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
}

TEST_F(CheckpointTest, FullDiskIsOneSentenceAndLeavesNothing) {
  const std::string run = FreshRun("full");
  fs::create_directories(run);
  if (mount("unipool_test", run.c_str(), "tmpfs", 0, "size=256k") != 0)
    GTEST_SKIP() << "mounting a small disk needs root";
  // On a full disk any file may be the first that does not fit: the message says "FILE and 2 more files".
  ExpectSaveFails(run, Save(run, 7, 3, 5), 5, "", "No space left on device");
  umount2(run.c_str(), MNT_DETACH);
}

TEST_F(CheckpointTest, FolderThatCannotBeMadeIsOneSentence) {
  const std::string run = FreshRun("file");
  std::ofstream(run) << "a file";
  const std::string error = ErrorOn(2, [&](Communicator& world) {
    CheckpointModel model(world.rank(), world.size(), 1);
    SaveCheckpoint(world, run, 1, model.view, 0);
  });
  EXPECT_THAT(error,
              AllOf(HasSubstr(run + "/checkpoints: cannot be created"), HasSubstr("step 1 was not saved")));
}

TEST_F(CheckpointTest, OfAnotherModelNamesSettingsAndTensors) {
  const std::string run = FreshRun("other"), path = Save(run, 1, 2, 1);
  const std::string error = ErrorOn(2, [&](Communicator& world) {
    CheckpointModel model(world.rank(), world.size(), 1, 0, 3);
    model.view.config_text = "run_dir: \"x\"\nmodel {\n  hidden: 4\n}\n";
    model.view.tensors[1].shape = {1, 7};
    LoadCheckpoint(world, path, model.view);
  });
  EXPECT_EQ(error, path +
                       ": holds another model than the settings describe: of 6 tensors 0 missing, 2 unknown, "
                       "1 misshaped, 0 of a "
                       "type that cannot be read; model.hidden is 3 there and 4 here\n"
                       "  misshaped: model.norm.weight is [7] and must be [1,7]\n"
                       "  unknown: model.pool.experts.3.up_proj.weight [4,3]\n"
                       "  unknown: model.pool.experts.4.up_proj.weight [4,3]");
}

TEST_F(CheckpointTest, MissingMomentsAndStateAreNamed) {
  const std::string run = FreshRun("moments"), path = Save(run, 1, 1, 1);
  std::vector<float> value(40);
  const std::string error = ErrorOn(1, [&](Communicator& world) {
    CheckpointModel model(0, 1, 1);
    const Tensor memory(value.data(), DType::kF32, {40});
    model.view.pieces.push_back({"model.norm.weight", {5, 9}, memory.Rows(0, 4), memory.Rows(4, 4), true});
    model.view.state.push_back({"age", {2}, memory.Rows(8, 2), true, false});
    LoadCheckpoint(world, path, model.view);
  });
  EXPECT_EQ(error, path +
                       ": its optimizer state does not fit these settings\n"
                       "  exp_avg/model.norm.weight: elements 7 to 9 are missing\n"
                       "  exp_avg_sq/model.norm.weight: elements 7 to 9 are missing\n"
                       "  state/age: is missing");
}

TEST_F(CheckpointTest, StateThatMayBeMissingIsNamedInTheNote) {
  const std::string run = FreshRun("state_note"), path = Save(run, 1, 1, 1);
  std::vector<float> value(2, 5);
  EXPECT_EQ(ErrorOn(2,
                    [&](Communicator& world) {
                      CheckpointModel model(world.rank(), 2, 1);
                      std::vector<float> own = value;
                      model.view.state.push_back(
                          {"age", {2}, Tensor(own.data(), DType::kF32, {2}), world.rank() == 0, true});
                      const std::string note = LoadCheckpoint(world, path, model.view);
                      EXPECT_EQ(note,
                                world.rank() > 0
                                    ? ""
                                    : path +
                                          ": holds no age, since it was saved with other settings or on "
                                          "another number of ranks; they begin anew");
                      EXPECT_EQ(own, value);
                    }),
            "");
}

}  // namespace
}  // namespace unipool
