// A spread head changes who computes the logits, and no result but by rounding: losses, gradient norms and
// validations of every layout are those of the head on the last stage, bit for bit the same in every run; and
// what one kind of head saved the other continues.
#include "models/settings.h"
#include "models/stage_layers.h"
#include "tests/models/layouts.h"
#include "tests/models/rank_state.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

constexpr int kSteps = 5;

Config With(Config config, ParallelConfig::Head head) {
  config.mutable_parallel()->set_head(head);
  config.mutable_train()->set_clip(0.05);  // every step is clipped: a weight that is counted twice shows
  config.mutable_model()->set_vocab(131);
  config.mutable_model()->set_init_std(0.1);
  return config;
}

struct Result {
  RunTrace trace;
  double validation = 0;
  bool operator==(const Result&) const = default;
};

Result TrainAndValidate(const Config& config, World& world, DType dtype) {
  TrainingEngine engine(config, world, {.dtype = dtype});
  Result result;
  result.trace = RunSteps(engine, config, 0, kSteps);
  std::vector<int32_t> tokens;  // the last sequences are padding
  result.validation =
      engine.EvaluateLossSum(SamplesOf(engine, config, 3, 0, tokens), config.train().global_batch() - 2);
  const RunTrace after = RunSteps(engine, config, kSteps, kSteps + 1);  // a validation leaves nothing behind
  result.trace.loss.push_back(after.loss[0]);
  result.trace.pool_loss.push_back(after.pool_loss[0]);
  result.trace.grad_norm.push_back(after.grad_norm[0]);
  return result;
}

std::vector<Layout> LayoutsWithStages(int ranks) {
  std::vector<Layout> layouts = LayoutsOf(ranks);
  std::erase_if(layouts, [](const Layout& layout) { return layout.stages == 1; });
  return layouts;
}

struct Way {
  DType dtype = DType::kF64;
  double tolerance = 1e-11;
  int micro_batch = 1;
  bool recompute = false, sequential = false;
};

void CheckKind(const SmallModel& small, const Way& way) {
  RunOnRanks([&](World& world) {
    int num_layouts = 0;
    for (Layout layout : LayoutsWithStages(world.size())) {
      for (const bool uneven : {false, true}) {
        layout.layers.clear();
        if (uneven) layout.layers.assign(layout.stages, 1);
        if (uneven) layout.layers[0] = small.layers - layout.stages + 1;
        SCOPED_TRACE(NameOf(small) + ", " + NameOf(layout));
        Config config = Laid(TrainingConfigOf(small), layout);
        config.mutable_train()->set_micro_batch(way.micro_batch);
        config.mutable_train()->set_recompute_experts(way.recompute);
        config.mutable_train()->set_recompute_attention(way.recompute);
        if (way.sequential) config.mutable_parallel()->set_lanes(ParallelConfig::SEQUENTIAL);
        const Result last = TrainAndValidate(With(config, ParallelConfig::LAST_STAGE), world, way.dtype);
        const Result spread = TrainAndValidate(With(config, ParallelConfig::SPREAD), world, way.dtype);
        ExpectSameTraining(spread.trace, last.trace, way.tolerance);
        EXPECT_NEAR(spread.validation, last.validation, way.tolerance * last.validation);
        for (const double norm : spread.trace.grad_norm) EXPECT_GT(norm, 0.05);
        EXPECT_EQ(TrainAndValidate(With(config, ParallelConfig::SPREAD), world, way.dtype), spread)
            << "bit for bit";
        ++num_layouts;
      }
    }
    EXPECT_EQ(num_layouts > 0, world.size() > 1);
  });
}

TEST(SpreadHead, ChangesNoNumberOfUniPool) {
  CheckKind({.experts = 7, .top_k = 2}, {});
  CheckKind({.experts = 9}, {.dtype = DType::kF32, .tolerance = 1e-5, .micro_batch = 2});
}
TEST(SpreadHead, ChangesNoNumberWithRecomputation) {
  CheckKind({.experts = 7}, {.recompute = true});
}
TEST(SpreadHead, ChangesNoNumberWithLanesOneAfterTheOther) {
  CheckKind({.experts = 7}, {.sequential = true});
}
TEST(SpreadHead, ChangesNoNumberOfADenseModel) {
  CheckKind({.sharing = Sharing::DENSE, .balance = Balance::NONE, .experts = 5}, {});
}

// With one stage there is nobody to spread it to.
TEST(SpreadHead, OneStageIsAsBefore) {
  RunOnRanks([](World& world) {
    const Config config = TrainingConfigOf({.experts = 7});
    EXPECT_EQ(TrainAndValidate(With(config, ParallelConfig::SPREAD), world, DType::kF32),
              TrainAndValidate(With(config, ParallelConfig::LAST_STAGE), world, DType::kF32));
  });
}

// Whole tensors, and whole moments of which each rank has pieces.
using Whole = std::map<std::string, std::vector<char>>;

template <class Visit>
void VisitMoments(TrainingEngine& engine, Visit visit) {
  for (const OptimizerPiece& piece : engine.state().Moments()) {
    visit("first/" + piece.name, piece.elements.begin, piece.first_moment);
    visit("second/" + piece.name, piece.elements.begin, piece.second_moment);
  }
}

Whole Join(const Memory& memory) {
  Whole whole;
  for (const auto& [name, bytes] : memory) {
    const bool is_moment = name.rfind("first/", 0) == 0 || name.rfind("second/", 0) == 0;
    const size_t slash = name.rfind('/');
    std::vector<char>& all = whole[is_moment ? name.substr(0, slash) : name];
    const size_t begin = is_moment ? std::stoul(name.substr(slash + 1)) * sizeof(float) : 0;
    all.resize(std::max(all.size(), begin + bytes.size()));
    std::copy(bytes.begin(), bytes.end(), all.begin() + static_cast<int64_t>(begin));
  }
  return whole;
}

void RestoreWhole(TrainingEngine& engine, const Whole& whole) {
  const auto copy = [&](const std::string& name, int64_t begin, const Tensor& value) {
    ASSERT_EQ(whole.count(name), 1u) << name;
    const std::vector<char>& bytes = whole.at(name);
    ASSERT_LE(begin * int64_t{sizeof(float)} + value.bytes(), static_cast<int64_t>(bytes.size())) << name;
    std::memcpy(value.data, bytes.data() + begin * sizeof(float), value.bytes());
  };
  for (const DiskTensor& tensor : engine.state().ModelTensors()) copy(tensor.name, 0, tensor.value);
  VisitMoments(engine, copy);
  for (const DiskTensor& tensor : engine.state().BetweenSteps())
    copy("state/" + tensor.name, 0, tensor.value);
  engine.state().AllLoaded();
}

// The same kind continues bit for bit, the other one to rounding. The weight is written by one rank.
TEST(SpreadHead, EitherContinuesWhatTheOtherSaved) {
  RunOnRanks([](World& world) {
    for (const Layout& layout : LayoutsWithStages(world.size())) {
      SCOPED_TRACE(NameOf(layout));
      const Config config = Laid(TrainingConfigOf({.experts = 7}), layout);
      for (const auto head : {ParallelConfig::LAST_STAGE, ParallelConfig::SPREAD}) {
        Whole saved;
        RunTrace expected;
        const Config own = With(config, head);
        {
          TrainingEngine engine(own, world);
          RunSteps(engine, own, 0, 3);
          engine.state().Collect();
          saved = Join(Gather(engine, world));
          double writers = 0;
          for (const DiskTensor& tensor : engine.state().ModelTensors())
            writers += tensor.name == "lm_head.weight" && tensor.is_saved();
          world.communicator->AllReduceSum(Tensor(&writers, DType::kF64, {1}), {.operation = "writers"});
          EXPECT_EQ(writers, 1);
          expected = RunSteps(engine, own, 3, 6);
        }
        for (const auto next : {ParallelConfig::LAST_STAGE, ParallelConfig::SPREAD}) {
          Config other = With(config, next);
          other.mutable_train()->set_seed(777);  // other initial weights
          TrainingEngine engine(other, world);
          RunSteps(engine, other, 0, 1);
          RestoreWhole(engine, saved);
          const RunTrace trace = RunSteps(engine, other, 3, 6);
          ExpectSameTraining(trace, expected, 1e-5);
          if (next == head) {
            EXPECT_EQ(trace, expected);
          }
        }
      }
    }
  });
}

// AUTO_HEAD: a head that weighs layers is spread, one that weighs nothing is not.
TEST(SpreadHead, AutoGoesByThePrediction) {
  Config config = TrainingConfigOf({.experts = 8, .layers = 8});
  const MeshShape shape{.stages = 4};
  config.mutable_model()->set_vocab_multiple(1);
  config.mutable_model()->set_vocab(2);
  EXPECT_EQ(HeadPlaceOf(config, shape), HeadPlace::kLastStage);
  config.mutable_model()->set_vocab(2000);
  EXPECT_EQ(HeadPlaceOf(config, shape), HeadPlace::kSpread);
  EXPECT_EQ(LayersPerStage(config, shape), (std::vector<int>{2, 2, 2, 2}));
  EXPECT_EQ(HeadPlaceOf(config, {.data = 4}), HeadPlace::kLastStage) << "one stage";
  const Config chosen = WithChoices(config, shape);
  EXPECT_EQ(chosen.parallel().head(), ParallelConfig::SPREAD);
  EXPECT_EQ(chosen.parallel().layers_per_stage_size(), 4);
  config.mutable_parallel()->set_head(ParallelConfig::LAST_STAGE);
  EXPECT_EQ(HeadPlaceOf(config, shape), HeadPlace::kLastStage);
  config.clear_parallel();
  config.set_device(DeviceType::CUDA);
  EXPECT_EQ(HeadPlaceOf(config, shape), HeadPlace::kLastStage) << "no GPU was measured";
}

}  // namespace
}  // namespace unipool
