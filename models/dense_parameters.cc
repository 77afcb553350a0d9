#include "models/dense_parameters.h"

#include "runtime/random.h"

namespace unipool {

DenseParameters::Id DenseParameters::Declare(std::string name, std::vector<int64_t> shape, ParameterInit init,
                                             bool decays) {
  CHECK_EQ(values_.max_bytes(), 0) << "declare before Allocate";
  int64_t size = 1;
  for (int64_t dim : shape) size *= dim;
  const Range elements{num_elements_, num_elements_ + size};
  num_elements_ += size;
  list_.push_back({std::move(name), std::move(shape), init, decays, elements});
  return static_cast<Id>(list_.size()) - 1;
}

void DenseParameters::Allocate(DType dtype, uint64_t seed, bool is_trainable, MemoryMeter& memory) {
  dtype_ = dtype;
  values_ = Buffer::Allocate(memory, MemoryKind::kParameters, num_elements_ * SizeOf(dtype));
  if (is_trainable) grads_ = Buffer::Allocate(memory, MemoryKind::kGradients, num_elements_ * SizeOf(dtype));
  for (Id id = 0; id < static_cast<Id>(list_.size()); ++id) {
    InitializeTensor(seed, list_[id].name, list_[id].init, value(id));
  }
}

Tensor DenseParameters::View(const Buffer& buffer, const DenseParameter& parameter) const {
  char* begin = static_cast<char*>(buffer.data()) + parameter.elements.begin * SizeOf(dtype_);
  return parameter.shape.size() == 2 ? Tensor(begin, dtype_, {parameter.shape[0], parameter.shape[1]})
                                     : Tensor(begin, dtype_, {parameter.shape[0]});
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
  DispatchFloat(values.dtype, [&]<class T>() {
    T* out = values.as<T>();
    for (int64_t i = 0, n = values.size(); i < n; ++i) {
      out[i] = static_cast<T>(init.std > 0 ? init.mean + init.std * RandomNormal(key, i) : init.mean);
    }
  });
}

}  // namespace unipool
