// Every enum of the schema that a lower floor has under another name, value by value, and the sizes that
// settings leave open.
#include "models/settings.h"

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <set>

namespace unipool {
namespace {

// The names of a proto enum's values must be those of the lower floor's enum, in the same number.
template <class Convert>
void ExpectAllDiffer(const google::protobuf::EnumDescriptor& values, Convert convert) {
  std::set<int> converted;
  for (int i = 0; i < values.value_count(); ++i) converted.insert(convert(values.value(i)->number()));
  EXPECT_EQ(static_cast<int>(converted.size()), values.value_count()) << values.full_name();
}

TEST(Settings, EveryEnumeratorHasItsOwnWordBelow) {
  ExpectAllDiffer(*RouterType::Value_descriptor(), [](int value) {
    return static_cast<int>(RouterKindOf(static_cast<RouterType::Value>(value)));
  });
  ExpectAllDiffer(*Transport::Value_descriptor(), [](int value) {
    return static_cast<int>(TransportKindOf(static_cast<Transport::Value>(value)));
  });
  ExpectAllDiffer(*ParallelConfig::Lanes_descriptor(), [](int value) {
    return static_cast<int>(LaneOrderOf(static_cast<ParallelConfig::Lanes>(value)));
  });
  for (int i = 0; i < Transport::Value_descriptor()->value_count(); ++i) {
    const auto value = static_cast<Transport::Value>(Transport::Value_descriptor()->value(i)->number());
    if (value != Transport::AUTO) {
      EXPECT_EQ(NameOf(TransportKindOf(value)), Transport::Value_Name(value));
    }
  }
  EXPECT_EQ(RouterKindOf(RouterType::NORM), RouterKind::kNorm);
  EXPECT_EQ(RouterKindOf(RouterType::SOFTMAX), RouterKind::kSoftmax);
  EXPECT_EQ(RouterKindOf(RouterType::SIGMOID), RouterKind::kSigmoid);
}

TEST(Settings, AutoDependsOnTheDevice) {
  Config config;
  EXPECT_EQ(DeviceOf(config), Device::kCpu);
  EXPECT_EQ(DTypeOfConfig(config), DType::kF32);
  EXPECT_EQ(WeightGradSlots(config), 1);
  EXPECT_FALSE(WantsProgressThread(config));
  config.set_device(DeviceType::CUDA);
  EXPECT_EQ(DeviceOf(config), Device::kCuda);
  EXPECT_EQ(DTypeOfConfig(config), DType::kBF16);
  EXPECT_EQ(WeightGradSlots(config), 4);
  EXPECT_TRUE(WantsProgressThread(config));
  config.mutable_parallel()->set_progress_thread(ParallelConfig::OFF);
  EXPECT_FALSE(WantsProgressThread(config));
  config.mutable_train()->set_precision(TrainConfig::FP32);
  config.mutable_train()->set_weight_grad_slots(3);
  EXPECT_EQ(DTypeOfConfig(config), DType::kF32);
  EXPECT_EQ(WeightGradSlots(config), 3);
}

TEST(Settings, Bf16OnTheCpuIsProductsBetweenF32Activations) {
  Config config;
  config.mutable_train()->set_precision(TrainConfig::BF16);
  EXPECT_EQ(TypesOfConfig(config), (ComputeTypes{.activations = DType::kF32, .products = DType::kBF16}));
  EXPECT_EQ(DTypeOfConfig(config), DType::kF32);
  EXPECT_EQ(WeightGradSlots(config), 8);
  config.set_device(DeviceType::CUDA);
  EXPECT_EQ(TypesOfConfig(config), ComputeTypes::Both(DType::kBF16));
}

TEST(Settings, DataRanksAreWhatStagesAndReplicasLeave) {
  Config config;
  config.mutable_parallel()->set_stages(3);
  config.mutable_parallel()->set_pool_replicas(2);
  config.mutable_parallel()->set_experts(ParallelConfig::PER_STAGE);
  config.mutable_train()->set_global_batch(40);
  config.mutable_train()->set_micro_batch(2);
  const MeshShape shape = MeshShapeOf(config.parallel(), 24);
  EXPECT_EQ(shape.stages, 3);
  EXPECT_EQ(shape.replicas, 2);
  EXPECT_EQ(shape.data, 4);
  EXPECT_EQ(shape.span, PoolSpan::kStage);
  EXPECT_EQ(MicrobatchesPerRank(config, shape), 40 / 2 / 8);
  config.mutable_train()->set_global_batch(1);
  EXPECT_EQ(MicrobatchesPerRank(config, shape), 1);
}

}  // namespace
}  // namespace unipool
