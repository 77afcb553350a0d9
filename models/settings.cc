#include "models/settings.h"

#include <algorithm>

#include "models/output_head.h"
#include "models/parameter_count.h"

namespace unipool {

Device DeviceOf(const Config& config) {
  switch (config.device()) {
    case DeviceType::CPU:
      return Device::kCpu;
    case DeviceType::CUDA:
      return Device::kCuda;
  }
  LOG(FATAL) << "unknown device " << config.device();
}

ComputeTypes TypesOfConfig(const Config& config) {
  const bool on_cuda = config.device() == DeviceType::CUDA;
  switch (config.train().precision()) {
    case TrainConfig::AUTO:
      return ComputeTypes::Both(on_cuda ? DType::kBF16 : DType::kF32);
    case TrainConfig::FP32:
      return ComputeTypes::Both(DType::kF32);
    case TrainConfig::BF16:
      return {.activations = on_cuda ? DType::kBF16 : DType::kF32, .products = DType::kBF16};
  }
  LOG(FATAL) << "unknown precision " << config.train().precision();
}

int WeightGradSlots(const Config& config) {
  const int slots = config.train().weight_grad_slots();
  if (slots > 0) return slots;
  if (config.device() == DeviceType::CUDA) return 4;
  return TypesOfConfig(config).products == DType::kBF16 ? 8 : 1;
}

int64_t HeadTokens(const Config& config) {
  const int64_t tokens = config.train().head_tokens();
  return tokens > 0 ? tokens : OutputHead::MostTokens(PaddedVocab(config.model()), DeviceOf(config));
}

// More pieces hide more of the wire: all but a piece each way. On a device smaller products may cost more
// than their wire is worth, which nothing has measured: there a lane goes whole.
int PiecesAlone(const Config& config) {
  if (config.parallel().lanes() == ParallelConfig::SEQUENTIAL) return 1;
  return config.device() == DeviceType::CUDA ? 1 : 4;
}

int ShadowsPerRank(const Config& config, const MeshShape& shape) {
  return shape.pool() == 1 ? 0 : std::max(0, config.parallel().shadow_experts());
}

RouterKind RouterKindOf(RouterType::Value type) {
  switch (type) {
    case RouterType::NORM:
      return RouterKind::kNorm;
    case RouterType::SOFTMAX:
      return RouterKind::kSoftmax;
    case RouterType::SIGMOID:
      return RouterKind::kSigmoid;
  }
  LOG(FATAL) << "unknown router " << type;
}

TransportKind TransportKindOf(Transport::Value transport) {
  switch (transport) {
    case Transport::AUTO:
      return TransportKind::kAuto;
    case Transport::NCCL:
      return TransportKind::kNccl;
    case Transport::MPI:
      return TransportKind::kMpi;
    case Transport::THREADS:
      return TransportKind::kThreads;
  }
  LOG(FATAL) << "unknown transport " << transport;
}

LaneOrder LaneOrderOf(ParallelConfig::Lanes lanes) {
  switch (lanes) {
    case ParallelConfig::INTERLEAVED:
      return LaneOrder::kInterleaved;
    case ParallelConfig::SEQUENTIAL:
      return LaneOrder::kSequential;
  }
  LOG(FATAL) << "unknown order of lanes " << lanes;
}

bool WantsProgressThread(const Config& config) {
  const ParallelConfig::Switch choice = config.parallel().progress_thread();
  return choice == ParallelConfig::AUTO ? config.device() == DeviceType::CUDA : choice == ParallelConfig::ON;
}

MeshShape MeshShapeOf(const ParallelConfig& parallel, int world_size) {
  return {.replicas = parallel.pool_replicas(),
          .stages = parallel.stages(),
          .data = world_size / (parallel.pool_replicas() * parallel.stages()),
          .span = parallel.experts() == ParallelConfig::PER_STAGE ? PoolSpan::kStage : PoolSpan::kReplica};
}

bool MovesExperts(const Config& config, const MeshShape& shape) {
  const ParallelConfig& parallel = config.parallel();
  const bool is_on = parallel.placement() != ParallelConfig::CONTIGUOUS || parallel.shadow_experts() != 0;
  const int64_t every = parallel.replace_every();
  return shape.pool() > 1 && is_on && every > 0 && every < config.train().steps();
}

int MicrobatchesPerRank(const Config& config, const MeshShape& shape) {
  const TrainConfig& train = config.train();
  return std::max(1, train.global_batch() / (train.micro_batch() * shape.data_ranks()));
}

}  // namespace unipool
