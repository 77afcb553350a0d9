// Plans beside runs whose numbers are written by hand: each line is judged by what is allowed of it.
#include "launcher/plan/forecast_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "launcher/config.h"
#include "models/settings.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr char kModel[] =
    "model { layers: 2 hidden: 32 heads: 4 kv_heads: 2 seq_length: 16 vocab: 64 } "
    "moe { experts: 8 width: 16 } train { global_batch: 4 micro_batch: 1 } parallel { ranks: 2 "
    "replace_every: 0 }";
constexpr int kSteps = 6;

// What a run measured in each step.
struct Numbers {
  double seconds = 1, bytes = 1000, unsent = 0, used = 1;
  int64_t memory = 0, rows = 16;  // that each array holds; 32 a slot for 2 ranks
  bool has_rows = true;
};

class ForecastCheckTest : public testing::Test {
 protected:
  ForecastCheckTest() : config_(ParseConfig(kModel, "model", {})) { fs::create_directories(folder_); }
  ~ForecastCheckTest() override { fs::remove_all(folder_); }

  RunRecord Run(const Numbers& numbers) const {
    std::ofstream file(folder_ / "metrics.jsonl");
    for (int step = 1; step <= kSteps; ++step) {
      nlohmann::json line{{"step", step},
                          {"loss", 1},
                          {"step_seconds", numbers.seconds},
                          {"tie_share", numbers.unsent},
                          {"used_experts", numbers.used},
                          {"wire_bytes", numbers.bytes + step},
                          {"wire_bytes_inter", 0},
                          {"peak_memory_bytes", numbers.memory > 0 ? numbers.memory : Memory(numbers.rows)},
                          {"peak_memory_rank", 1}};
      for (int i = 0; i < HeldRows::kNumNumbers && numbers.has_rows; ++i)
        line["peak_memory_rows"][HeldRows::Names()[i]] = Held(numbers.rows).values()[i];
      file << line.dump() << "\n";
    }
    file.close();
    RunRecord run(folder_.string());
    run.Read();
    return run;
  }
  // Each array has rows of its own.
  static HeldRows Held(int64_t rows) {
    HeldRows held;
    for (int64_t* number : held.numbers()) *number = rows++;
    return held;
  }
  int64_t Memory(int64_t rows) const {
    return PlanMemory(config_, MeshShapeOf(config_.parallel(), 2), 1, Held(rows)).total();
  }
  // A second a step and so many bytes.
  static Forecast Plan(double bytes) {
    Forecast forecast;
    forecast.step = 1;
    forecast.bytes[kIntraNode] = bytes;
    return forecast;
  }
  ForecastCheck Check(const Forecast& forecast, const Numbers& numbers, int64_t step = -1,
                      const std::vector<std::string>& settings = {}) const {
    const RunRecord run = Run(numbers);
    const Config config = ParseConfig(kModel, "model", settings);
    return CheckForecast(forecast, config, 2, {.run = run, .step = step}, {});
  }
  static std::vector<std::string> Outside(const ForecastCheck& check) {
    std::vector<std::string> names;
    for (const CheckLine& line : check.lines) {
      if (!line.Holds()) names.push_back(line.name);
    }
    EXPECT_EQ(check.Holds(), names.empty());
    return names;
  }
  const Config config_;
  const fs::path folder_ = fs::path(testing::TempDir()) / ("forecast_check_test_" + std::to_string(getpid()));
};

TEST_F(ForecastCheckTest, TheStepIsJudgedEitherWay) {
  EXPECT_THAT(Outside(Check(Plan(1000), {.seconds = 0.95})), ElementsAre());
  EXPECT_THAT(Outside(Check(Plan(1000), {.seconds = 1.08})), ElementsAre());
  EXPECT_THAT(Outside(Check(Plan(1000), {.seconds = 0.9})), ElementsAre("step"));
  EXPECT_THAT(Outside(Check(Plan(1000), {.seconds = 1.12})), ElementsAre("step"));
}

TEST_F(ForecastCheckTest, BytesOfARecordedStepAreEqual) {
  EXPECT_THAT(Outside(Check(Plan(1004), {}, 3)), ElementsAre()) << "step 3 is the fourth update";
  EXPECT_THAT(Outside(Check(Plan(1005), {}, 3)), ElementsAre("bytes of all ranks"));
  EXPECT_THAT(Outside(Check(Plan(1003), {}, 3)), ElementsAre("bytes of all ranks"));
  EXPECT_FALSE(Check(Plan(1), {}, 0).lines[4].measured) << "the first step lacks some";
}

TEST_F(ForecastCheckTest, BytesOfARecordedStepMayDifferWhereItSentMoreThanIsPlanned) {
  const auto more = [&](int64_t step, const std::vector<std::string>& settings) {
    const ForecastCheck check = Check(Plan(1000), {}, step, settings);
    EXPECT_EQ(check.lines[4].name, "bytes of all ranks");
    EXPECT_EQ(check.lines[4].Holds(), !check.more_bytes.empty()) << check.more_bytes;
    return check.more_bytes;
  };
  EXPECT_EQ(more(3, {}), "");
  EXPECT_THAT(more(3, {"parallel.shadow_experts=2"}), HasSubstr("parallel.shadow_experts=2"));
  EXPECT_THAT(more(3, {"parallel.shadow_experts=-1"}), HasSubstr("parallel.shadow_experts=auto"));
  EXPECT_THAT(more(3, {"moe.balance_scope=MICROBATCH"}), HasSubstr("moe.balance_scope=MICROBATCH"));
  // Step 3 is the fourth update: experts move behind it, or behind the one before.
  EXPECT_THAT(more(3, {"parallel.replace_every=4"}), HasSubstr("parallel.replace_every=4"));
  EXPECT_THAT(more(3, {"parallel.replace_every=3"}), HasSubstr("parallel.replace_every=3"));
  EXPECT_EQ(more(3, {"parallel.replace_every=5"}), "");
  EXPECT_EQ(more(3, {"parallel.replace_every=4", "parallel.placement=CONTIGUOUS"}), "");
  EXPECT_THAT(CheckText(Check(Plan(1000), {}, 3, {"parallel.replace_every=4"})),
              HasSubstr("Bytes are not equal, since these are planned without: experts that moved"));
}

TEST_F(ForecastCheckTest, OtherBytesMayBeThoseOfTheRunsStepsAndATenthMore) {
  EXPECT_THAT(Outside(Check(Plan(1104), {})), ElementsAre());  // steps have 1003 to 1006
  EXPECT_THAT(Outside(Check(Plan(904), {})), ElementsAre());
  EXPECT_THAT(Outside(Check(Plan(1110), {})), ElementsAre("bytes of all ranks"));
  EXPECT_THAT(Outside(Check(Plan(900), {})), ElementsAre("bytes of all ranks"));
  Forecast forecast = Plan(1000);
  forecast.bytes[kInterNode] = 1;
  EXPECT_THAT(Outside(Check(forecast, {})), ElementsAre("bytes between nodes"));
}

TEST_F(ForecastCheckTest, MemoryIsThatOfTheRowsThatTheRunHeld) {
  const auto outside = [this](const Numbers& numbers) { return Outside(Check(Plan(1000), numbers)); };
  const auto is_outside = ElementsAre("memory with the run's rows");
  EXPECT_THAT(outside({.memory = Memory(16)}), ElementsAre());
  EXPECT_THAT(outside({.memory = Memory(16) + 1}), is_outside);
  EXPECT_THAT(outside({.memory = Memory(16) * 96 / 100}), ElementsAre());
  EXPECT_THAT(outside({.memory = Memory(16) * 94 / 100}), is_outside);
  EXPECT_THAT(outside({.memory = Memory(160), .rows = 160}), ElementsAre());
  EXPECT_THAT(outside({.memory = Memory(160), .rows = 16}), is_outside);
}

// Where nothing tells how uneven rows were, all of them bound it.
TEST_F(ForecastCheckTest, MemoryOfAllRowsBoundsARunThatDoesNotTellItsRows) {
  const Numbers unknown{.memory = Memory(16), .has_rows = false};
  EXPECT_THAT(Outside(Check(Plan(1000), unknown)), ElementsAre());
  EXPECT_EQ(Check(Plan(1000), unknown).lines.back().name, "memory with all rows");
  const int64_t all = PlanMemory(config_, MeshShapeOf(config_.parallel(), 2), 0, kAllRowsHere).total();
  EXPECT_THAT(Outside(Check(Plan(1000), {.memory = all + 1, .has_rows = false})),
              ElementsAre("memory with all rows"));
}

// The peak may be of more experts than the settings name.
TEST_F(ForecastCheckTest, MemoryOfAPoolThatHasShrunkIsNotJudged) {
  const Numbers numbers{.memory = 2 * Memory(16)};
  EXPECT_THAT(Outside(Check(Plan(1000), numbers)), ElementsAre("memory with the run's rows"));
  const ForecastCheck check = Check(Plan(1000), numbers, -1, {"moe.shrink_to=8"});
  EXPECT_FALSE(check.lines.back().allowed);
  EXPECT_THAT(Outside(check), ElementsAre());
}

// The peak may have come before experts moved, and the plan has room for both.
TEST_F(ForecastCheckTest, ExpertsThatMoveHaveTheirRoom) {
  const std::vector<std::string> moves{"parallel.replace_every=2", "train.steps=6"};
  const Numbers numbers{.memory = Memory(16)};
  const auto planned = [&](const std::vector<std::string>& settings) {
    return Check(Plan(1000), numbers, -1, settings).lines.back().planned;
  };
  const double own = 4 * 2 * 16 * 32 * 4;  // experts, gate and up, width, hidden, bytes
  EXPECT_EQ(planned(moves) - planned({"parallel.replace_every=0"}), own);
  EXPECT_EQ(planned({"parallel.replace_every=6", "train.steps=60"}), planned({"parallel.replace_every=0"}))
      << "none has moved in six steps";
  EXPECT_THAT(Outside(Check(Plan(1000), numbers, -1, moves)), ElementsAre());
}

TEST_F(ForecastCheckTest, AStepOfSharedCoresIsNotJudged) {
  Forecast forecast = Plan(2000);
  forecast.not_planned = "4 ranks of a node share 2 cores";
  const ForecastCheck check = Check(forecast, {.seconds = 2});
  EXPECT_THAT(Outside(check), ElementsAre("bytes of all ranks"));
  const std::string text = CheckText(check);
  EXPECT_THAT(text, HasSubstr("The step is not judged: 4 ranks of a node share 2 cores."));
  EXPECT_THAT(text, HasSubstr("Outside what is allowed: bytes of all ranks."));
}

TEST_F(ForecastCheckTest, TextAndJsonSayWhatIsAllowed) {
  const ForecastCheck check = Check(Plan(1004), {.seconds = 0.5}, 3);
  const std::string text = CheckText(check);
  EXPECT_THAT(text, HasSubstr("-10 to +10 %  OUTSIDE"));
  EXPECT_THAT(text, HasSubstr("equal"));
  EXPECT_THAT(text, HasSubstr("0 to +5 %"));
  EXPECT_THAT(text, HasSubstr("The step is that of rank 0; nothing tells of the others"));
  EXPECT_THAT(text, HasSubstr("Outside what is allowed: step."));
  EXPECT_THAT(CheckText(Check(Plan(1004), {}, 3)), Not(HasSubstr("OUTSIDE")));
  const nlohmann::json json = nlohmann::json::parse(CheckJson(check));
  EXPECT_FALSE(json["holds"].get<bool>());
  EXPECT_FALSE(json["lines"][0]["holds"].get<bool>());
  EXPECT_EQ(json["lines"][4]["allowed"], nlohmann::json({0, 0}));
  EXPECT_FALSE(json["lines"][1].contains("allowed"));
}

TEST_F(ForecastCheckTest, ChoicesWithoutAScoreAreNoRows) {
  EXPECT_DOUBLE_EQ(UnsentShare(Run({.unsent = 0.25})), 0.25);
  EXPECT_DOUBLE_EQ(UsedExpertsOf(Run({.used = 0.75})), 0.75);
}

}  // namespace
}  // namespace unipool
