// Which checkpoints are kept, found, renamed and left aside.
#include "launcher/checkpoints/checkpoint_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "runtime/world.h"
#include "tests/launcher/checkpoint_model.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class CheckpointFolderTest : public testing::Test {
 protected:
  std::string FreshRun(const std::string& name) {
    run_ = fs::path(testing::TempDir()) / ("checkpoint_folder_" + name + "_" + std::to_string(getpid()));
    fs::remove_all(run_);
    return run_.string();
  }
  void TearDown() override { fs::remove_all(run_); }

 private:
  fs::path run_;
};

std::set<std::string> NamesIn(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
  return names;
}

std::string Save(const std::string& run, int64_t step, bool sound, int keep) {
  std::string path;
  RunWorld({.num_threads = 1}, [&](World& world) {
    CheckpointModel model(0, 1, 5);
    model.Fill();
    model.view.training_state = Format("{\"step\": %d, \"sound\": %s}", step, sound ? "true" : "false");
    path = SaveCheckpoint(*world.communicator, run, step, model.view, keep);
  });
  return path;
}

TEST_F(CheckpointFolderTest, TheNewestSoundOneIsKeptAndFound) {
  const std::string run = FreshRun("sound"), folder = run + "/checkpoints";
  const auto save = [&](int64_t step, bool sound) { Save(run, step, sound, 2); };
  EXPECT_EQ(NewestSoundStep(run, 100), -1);
  save(1, true);
  save(2, true);
  for (const int64_t step : {3, 4, 5}) save(step, false);
  EXPECT_THAT(NamesIn(folder), ElementsAre("step-2", "step-4", "step-5"));
  EXPECT_EQ(NewestSoundStep(run, 100), 2);
  EXPECT_EQ(NewestSoundStep(run, 1), -1);
  save(6, true);
  EXPECT_THAT(NamesIn(folder), ElementsAre("step-5", "step-6")) << "the older sound one is not needed now";
  EXPECT_THAT(AbandonAfter(run, 5), HasSubstr("step-6 is now step-6.abandoned"));
  EXPECT_EQ(AbandonAfter(run, 5), "");
  save(6, true);
  AbandonAfter(run, 5);
  EXPECT_THAT(NamesIn(folder), ElementsAre("step-5", "step-6.abandoned", "step-6.abandoned-2"));
  EXPECT_EQ(ListCheckpoints(run).size(), 1u);
  EXPECT_EQ(ListSetAside(run).size(), 2u);
}

TEST_F(CheckpointFolderTest, ADamagedOneInTheWayIsKept) {
  const std::string run = FreshRun("in_the_way"), folder = run + "/checkpoints";
  for (int i = 0; i < 2; ++i) {
    fs::resize_file(Save(run, 3, true, 0) + "/model.safetensors", 100);
  }
  EXPECT_EQ(WhyIncomplete(Save(run, 3, true, 0)), "");
  EXPECT_THAT(NamesIn(folder), ElementsAre("step-3", "step-3.damaged", "step-3.damaged-2"));
}

}  // namespace
}  // namespace unipool
