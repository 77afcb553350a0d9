// Weight gradients of several slots added up at once are the same sums in the same order: on the CPU, bit for
// bit, what each slot on its own gives.
#include <gtest/gtest.h>

#include "runtime/world.h"
#include "tests/models/training_run.h"

namespace unipool {
namespace {

Config ConfigWith(int slots, int stages) {
  Config config = TrainingConfigOf({.experts = 7, .top_k = 2, .layers = 3});
  config.mutable_train()->set_global_batch(8);
  config.mutable_train()->set_weight_grad_slots(slots);
  config.mutable_parallel()->set_stages(stages);
  return config;
}

// On every rank the same report, so one trace.
RunTrace TrainOn(int ranks, const Config& config) {
  RunTrace trace;
  EXPECT_EQ(0, RunWorld({.num_threads = ranks}, [&](World& world) {
              const RunTrace own = Train(config, world, DType::kF32, 4);
              if (world.rank() == 0) trace = own;
            }));
  return trace;
}

TEST(WeightGradSlots, AnyNumberGivesTheSameBits) {
  for (const int ranks : {1, 2}) {
    for (int stages = 1; stages <= ranks; ++stages) {
      const RunTrace one = TrainOn(ranks, ConfigWith(1, stages));
      EXPECT_LT(one.loss.back(), one.loss.front()) << "nothing was learnt";
      // 24 slots of a rank: banks that come out even, that do not, and that never fill.
      for (const int slots : {2, 3, 5, 16}) {
        SCOPED_TRACE(testing::Message() << ranks << " ranks, " << stages << " stages, " << slots << " slots");
        EXPECT_TRUE(TrainOn(ranks, ConfigWith(slots, stages)) == one);
      }
    }
  }
}

}  // namespace
}  // namespace unipool
