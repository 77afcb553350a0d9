#include "models/dense_parameters.h"

#include <algorithm>
#include <system_error>
#include <thread>

#include "kernels/reduce.h"
#include "runtime/random.h"

namespace unipool {

namespace {
// A vector may have any size; what follows begins at a multiple of this many elements, which lets matrices of
// usual sizes move in 16-byte accesses.
constexpr int64_t kAlignment = 8;

constexpr int64_t kNumbersOfAThread = int64_t{1} << 18;  // some milliseconds
}  // namespace

DenseParameters::Id DenseParameters::Declare(std::string name, std::vector<int64_t> shape, ParameterInit init,
                                             WeightDecay decay) {
  CHECK_EQ(masters_.max_bytes(), 0) << "declare before Allocate";
  int64_t size = 1;
  for (int64_t dim : shape) size *= dim;
  const Range elements{num_elements_, num_elements_ + size};
  num_elements_ += shape.size() == 1 ? (size + kAlignment - 1) / kAlignment * kAlignment : size;
  list_.push_back({std::move(name), std::move(shape), init, decay, elements});
  return static_cast<Id>(list_.size()) - 1;
}

void DenseParameters::Allocate(const ComputeTypes& types, bool is_trainable, MemoryMeter& memory) {
  types_ = types;
  const int64_t bytes = num_elements_ * SizeOf(master_dtype());
  masters_ = Buffer::Allocate(memory, MemoryKind::kParameters, bytes);
  if (has_copies()) {
    copies_ = Buffer::Allocate(memory, MemoryKind::kParameters, num_elements_ * SizeOf(types.products));
  }
  if (is_trainable) grads_ = Buffer::Allocate(memory, MemoryKind::kGradients, bytes);
}

void DenseParameters::Initialize(uint64_t seed, const Tensor& host_masters) const {
  for (const DenseParameter& parameter : list_) {
    InitializeTensor(seed, parameter.name, parameter.init,
                     host_masters.Rows(parameter.elements.begin, parameter.elements.size()));
  }
}

void DenseParameters::RefreshCompute(Stream& stream) {
  if (has_copies()) Copy(stream, flat_master(), flat_compute_copies());
}

Tensor DenseParameters::View(const Buffer& buffer, const DenseParameter& parameter) const {
  const DType dtype = &buffer == &copies_ ? types_.products : master_dtype();
  char* begin = static_cast<char*>(buffer.data()) + parameter.elements.begin * SizeOf(dtype);
  return parameter.shape.size() == 2 ? Tensor(begin, dtype, {parameter.shape[0], parameter.shape[1]})
                                     : Tensor(begin, dtype, {parameter.shape[0]});
}

Tensor DenseParameters::Fused(const Buffer& buffer, Id first, int count) const {
  Tensor fused = View(buffer, list_[first]);
  for (Id id = first + 1; id < first + count; ++id) {
    CHECK_EQ(list_[id].elements.begin, list_[id - 1].elements.end);
    CHECK_EQ(list_[id].shape[1], fused.dim(1));
    fused.dims[0] += list_[id].shape[0];
  }
  return fused;
}

void InitializeTensor(uint64_t seed, const std::string& name, const ParameterInit& init,
                      const Tensor& values) {
  const uint64_t key = RandomBits(seed, HashBytes(name));
  const auto fill = [&](const Range& range) {
    DispatchFloat(values.dtype, [&]<class T>() {
      T* out = values.as<T>();
      for (int64_t i = range.begin; i < range.end; ++i) {
        out[i] = static_cast<T>(init.std > 0 ? init.mean + init.std * RandomNormal(key, i) : init.mean);
      }
    });
  };
  const int64_t most = std::max(1u, std::thread::hardware_concurrency());
  const auto pieces = static_cast<int>(std::clamp<int64_t>(values.size() / kNumbersOfAThread, 1, most));
  std::vector<std::jthread> threads;
  for (int piece = 1; piece < pieces; ++piece) {
    const Range range = EvenPartition(values.size(), pieces, piece);
    try {
      threads.emplace_back(fill, range);
    } catch (const std::system_error&) {  // the system gives no more threads
      fill(range);
    }
  }
  fill(EvenPartition(values.size(), pieces, 0));
}

}  // namespace unipool
