// Where experts live changes no number: losses and gradient norms are those of contiguous blocks bit for bit,
// whatever moves and when.
#include <cstring>
#include <map>
#include <random>

#include "parallel/slot_placement.h"
#include "tests/models/training_run.h"
#include "tests/parallel/shared_seed.h"
#include "tests/world_test.h"

namespace unipool {
namespace {

constexpr int kSteps = 8;

ExpertPlacement Shuffled(const ExpertPlacement& sizes, std::mt19937_64& random) {
  std::vector<int> owner;
  for (int i = 0; i < sizes.num_experts(); ++i) owner.push_back(sizes.owner(i));
  std::shuffle(owner.begin(), owner.end(), random);
  return ExpertPlacement(owner, sizes.num_ranks());
}

std::vector<Config> LayoutsOf(const Config& config, int ranks) {
  std::vector<Config> layouts;
  for (int stages = 1; stages <= ranks; ++stages) {
    for (int replicas = 1; stages * replicas <= ranks; ++replicas) {
      if (ranks % (stages * replicas) != 0) continue;
      for (auto experts : {ParallelConfig::POOL, ParallelConfig::PER_STAGE}) {
        if (experts == ParallelConfig::PER_STAGE && stages == 1) continue;
        Config layout = config;
        layout.mutable_parallel()->set_stages(stages);
        layout.mutable_parallel()->set_pool_replicas(replicas);
        layout.mutable_parallel()->set_experts(experts);
        layouts.push_back(layout);
      }
    }
  }
  return layouts;
}

std::string NameOf(const Config& layout) {
  return Format("stages %d, replicas %d, experts %s", layout.parallel().stages(),
                layout.parallel().pool_replicas(),
                ParallelConfig::Experts_Name(layout.parallel().experts()).c_str());
}

// Gradients that are large enough to be clipped in every step.
Config ClippingConfigOf(const SmallModel& small) {
  Config config = TrainingConfigOf(small);
  config.mutable_train()->set_clip(0.05);
  return config;
}

Config With(Config config, ParallelConfig::Placement placement, int64_t replace_every) {
  config.mutable_parallel()->set_placement(placement);
  config.mutable_parallel()->set_replace_every(replace_every);
  return config;
}

// Steps one at a time, with `between` called after each.
template <class Between>
RunTrace RunWith(TrainingEngine& engine, const Config& config, Between between) {
  RunTrace trace;
  for (int64_t step = 0; step < kSteps; ++step) {
    const RunTrace one = RunSteps(engine, config, step, step + 1);
    trace.loss.push_back(one.loss[0]);
    trace.pool_loss.push_back(one.pool_loss[0]);
    trace.grad_norm.push_back(one.grad_norm[0]);
    between(step + 1);
  }
  return trace;
}

void CheckKind(const SmallModel& small) {
  RunOnRanks([&](World& world) {
    std::mt19937_64 random(SharedSeed(world));
    for (const Config& layout : LayoutsOf(ClippingConfigOf(small), world.size())) {
      SCOPED_TRACE(NameOf(small) + ", " + NameOf(layout));
      RunTrace expected;
      {
        const Config config = With(layout, ParallelConfig::CONTIGUOUS, 1);
        TrainingEngine engine(config, world);
        expected = RunWith(engine, config, [&](int64_t steps) {
          EXPECT_FALSE(engine.ReplaceExpertsIfDue(steps).has_value());
        });
        EXPECT_EQ(
            NumMoved(engine.placement(), ContiguousPlacement(small.experts, engine.mesh().pool().size())), 0);
        for (const double norm : expected.grad_norm) EXPECT_GT(norm, config.train().clip());
      }
      {  // by the counts of each two steps
        const Config config = With(layout, ParallelConfig::SLOT_AWARE, 2);
        TrainingEngine engine(config, world);
        EXPECT_EQ(RunWith(engine, config,
                          [&](int64_t steps) {
                            const bool due = engine.mesh().pool().size() > 1 && steps % 2 == 0;
                            const auto report = engine.ReplaceExpertsIfDue(steps);
                            ASSERT_EQ(report.has_value(), due);
                            if (!due) return;
                            EXPECT_LE(report->imbalance_after, report->imbalance_before);
                          }),
                  expected);
      }
      {  // by chance, after every step
        const Config config = With(layout, ParallelConfig::CONTIGUOUS, 0);
        TrainingEngine engine(config, world);
        int moved = 0;
        EXPECT_EQ(RunWith(engine, config,
                          [&](int64_t) {
                            const ExpertPlacement to = Shuffled(engine.placement(), random);
                            moved += NumMoved(engine.placement(), to);
                            engine.MoveExpertsTo(to);
                            EXPECT_EQ(NumMoved(engine.placement(), to), 0);
                          }),
                  expected);
        EXPECT_TRUE(moved > 0 || engine.mesh().pool().size() == 1);
      }
    }
  });
}

TEST(Placement, ChangesNoNumberOfUniPool) {
  CheckKind({.experts = 7, .top_k = 2});
}
TEST(Placement, ChangesNoNumberOfVanillaMoe) {
  CheckKind({.router = SOFTMAX, .sharing = PRIVATE, .balance = LAYER_LOSS, .experts = 15, .top_k = 2});
}
TEST(Placement, ChangesNoNumberOfADenseModel) {
  CheckKind({.sharing = DENSE, .balance = NONE, .experts = 5});
}

// Skewed routing is levelled: experts move, and the imbalance that is reported falls.
TEST(Placement, FollowsTheCounts) {
  RunOnRanks([](World& world) {
    const Config config =
        With(TrainingConfigOf({.balance = NONE, .experts = 16}), ParallelConfig::SLOT_AWARE, 3);
    TrainingEngine engine(config, world);
    RunSteps(engine, config, 0, 3);
    const double before = engine.SlotImbalance();
    const auto report = engine.ReplaceExpertsIfDue(3);
    if (world.size() == 1) {
      EXPECT_EQ(before, 1);
      return;
    }
    ASSERT_TRUE(report.has_value());
    EXPECT_GT(report->num_moved, 0);
    EXPECT_EQ(report->bytes, report->num_moved * 3 * 3 * 24 * 5 * 4);  // weights and two moments
    EXPECT_GT(before, 1.05);
    EXPECT_LT(report->imbalance_after, report->imbalance_before - 0.01);
    EXPECT_LT(engine.SlotImbalance(), before);
    EXPECT_FALSE(engine.ReplaceExpertsIfDue(4).has_value());
  });
}

// Layers that see different experts are spread before the first step.
TEST(Placement, StartsFromWhatLayersSee) {
  RunOnRanks([](World& world) {
    if (world.size() == 1) return;
    Config config = TrainingConfigOf(
        {.router = SOFTMAX, .sharing = PRIVATE, .balance = LAYER_LOSS, .experts = 20, .top_k = 2});
    const ExpertPlacement contiguous = ContiguousPlacement(20, world.size());
    EXPECT_GT(NumMoved(TrainingEngine(config, world).placement(), contiguous), 0);
    config = TrainingConfigOf({.experts = 20});
    EXPECT_EQ(NumMoved(TrainingEngine(config, world).placement(), contiguous), 0);
  });
}

using Memory = std::map<std::string, std::vector<char>>;

template <class Visit>
void VisitTensors(TrainingEngine& engine, Visit visit) {
  for (const DiskTensor& tensor : engine.DiskTensors()) visit(tensor.name, tensor.value);
  for (const OptimizerPiece& piece : engine.OptimizerPieces()) {
    visit("first/" + piece.name + std::to_string(piece.elements.begin), piece.first_moment);
    visit("second/" + piece.name + std::to_string(piece.elements.begin), piece.second_moment);
  }
  for (const DiskTensor& tensor : engine.StateTensors()) visit("state/" + tensor.name, tensor.value);
}

// What all ranks hold, by name: a checkpoint.
Memory Gather(TrainingEngine& engine, World& world) {
  std::string own;
  VisitTensors(engine, [&](const std::string& name, const Tensor& value) {
    const int64_t sizes[] = {static_cast<int64_t>(name.size()), value.bytes()};
    own.append(reinterpret_cast<const char*>(sizes), sizeof(sizes)).append(name);
    own.append(static_cast<const char*>(value.data), value.bytes());
  });
  Memory all;
  for (const std::string& text : world.communicator->AllGatherText(own, {.operation = "checkpoint"})) {
    for (size_t at = 0; at < text.size();) {
      int64_t sizes[2];
      std::memcpy(sizes, text.data() + at, sizeof(sizes));
      const char* name = text.data() + at + sizeof(sizes);
      const char* data = name + sizes[0];
      all[std::string(name, data)].assign(data, data + sizes[1]);
      at = data + sizes[1] - text.data();
    }
  }
  return all;
}

// A run that continues places its experts as if it had never stopped, also in the middle of an interval.
TEST(Placement, ContinuesBitForBit) {
  RunOnRanks([](World& world) {
    const Config config =
        With(ClippingConfigOf({.balance = NONE, .experts = 16}), ParallelConfig::SLOT_AWARE, 3);
    auto run = [&](TrainingEngine& engine, int64_t first, int64_t last) {
      RunTrace trace;
      for (int64_t step = first; step < last; ++step) {
        trace.loss.push_back(RunSteps(engine, config, step, step + 1).loss[0]);
        engine.ReplaceExpertsIfDue(step + 1);
      }
      return trace;
    };
    Memory saved;
    RunTrace expected;
    std::vector<int> at_save, at_end;
    auto owners = [](const TrainingEngine& engine) {
      std::vector<int> list;
      for (int i = 0; i < engine.placement().num_experts(); ++i) list.push_back(engine.placement().owner(i));
      return list;
    };
    {
      TrainingEngine engine(config, world);
      run(engine, 0, 4);
      engine.CollectState();
      saved = Gather(engine, world);
      at_save = owners(engine);
      expected = run(engine, 4, 8);
      at_end = owners(engine);
    }
    Config other = config;
    other.mutable_train()->set_seed(777);  // other initial weights
    TrainingEngine engine(other, world);
    EXPECT_TRUE(world.size() == 1 || owners(engine) != at_save);
    VisitTensors(engine, [&](const std::string& name, const Tensor& value) {
      ASSERT_EQ(saved.count(name), 1u) << name;
      ASSERT_EQ(static_cast<int64_t>(saved[name].size()), value.bytes()) << name;
      std::memcpy(value.data, saved[name].data(), value.bytes());
    });
    engine.StateLoaded();
    EXPECT_EQ(owners(engine), at_save);
    EXPECT_EQ(run(engine, 4, 8), expected);
    EXPECT_EQ(owners(engine), at_end);
  });
}

}  // namespace
}  // namespace unipool
