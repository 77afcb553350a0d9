#include "models/settings.h"

#include <algorithm>

namespace unipool {

Device DeviceOf(const Config& config) {
  switch (config.device()) {
    case CPU:
      return Device::kCpu;
    case CUDA:
      return Device::kCuda;
  }
  LOG(FATAL) << "unknown device " << config.device();
}

DType DTypeOfConfig(const Config& config) {
  switch (config.train().precision()) {
    case TrainConfig::AUTO:
      return config.device() == CUDA ? DType::kBF16 : DType::kF32;
    case TrainConfig::FP32:
      return DType::kF32;
    case TrainConfig::BF16:
      return DType::kBF16;
  }
  LOG(FATAL) << "unknown precision " << config.train().precision();
}

int WeightGradSlots(const Config& config) {
  const int slots = config.train().weight_grad_slots();
  if (slots > 0) return slots;
  return config.device() == CUDA ? 4 : 1;
}

RouterKind RouterKindOf(RouterType type) {
  switch (type) {
    case NORM:
      return RouterKind::kNorm;
    case SOFTMAX:
      return RouterKind::kSoftmax;
    case SIGMOID:
      return RouterKind::kSigmoid;
  }
  LOG(FATAL) << "unknown router " << type;
}

TransportKind TransportKindOf(Transport transport) {
  switch (transport) {
    case AUTO:
      return TransportKind::kAuto;
    case NCCL:
      return TransportKind::kNccl;
    case MPI:
      return TransportKind::kMpi;
    case THREADS:
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

ProgressThread ProgressThreadOf(const Config& config) {
  switch (config.parallel().progress_thread()) {
    case ParallelConfig::AUTO:
      return config.device() == CUDA ? ProgressThread::kOn : ProgressThread::kAuto;
    case ParallelConfig::ON:
      return ProgressThread::kOn;
    case ParallelConfig::OFF:
      return ProgressThread::kOff;
  }
  LOG(FATAL) << "unknown progress_thread " << config.parallel().progress_thread();
}

MeshShape MeshShapeOf(const ParallelConfig& parallel, int world_size) {
  return {.replicas = parallel.pool_replicas(),
          .stages = parallel.stages(),
          .data = world_size / (parallel.pool_replicas() * parallel.stages()),
          .span = parallel.experts() == ParallelConfig::PER_STAGE ? PoolSpan::kStage : PoolSpan::kReplica};
}

int MicrobatchesPerRank(const Config& config, const MeshShape& shape) {
  const TrainConfig& train = config.train();
  return std::max(1, train.global_batch() / (train.micro_batch() * shape.data_ranks()));
}

}  // namespace unipool
