// The dense parameters of one stage in one flat array, and their gradients in another. One array makes the
// reduction over data ranks one exchange, and lets each data rank keep the optimizer state of one even part
// of it.
#pragma once

#include <string>
#include <vector>

#include "models/parameter.h"
#include "runtime/buffer.h"

namespace unipool {

struct ParameterInit {
  double std = 0;   // weights ~ N(0, std^2), from the tensor's name and the seed alone
  double mean = 0;  // 1 for norms and scales
};

struct DenseParameter {
  std::string name;  // on disk
  std::vector<int64_t> shape;
  ParameterInit init;
  bool decays = false;  // weight decay: matrices only
  Range elements;       // in the flat array
};

// Declare everything, then Allocate, then use. Tensors declared one after another without padding may be used
// as one fused matrix (q, k, v).
class DenseParameters {
 public:
  using Id = int;
  Id Declare(std::string name, std::vector<int64_t> shape, ParameterInit init, bool decays);
  // Takes memory for values (initialised) and, if trainable, gradients (zero).
  void Allocate(DType dtype, uint64_t seed, bool is_trainable, MemoryMeter& memory);

  const std::vector<DenseParameter>& list() const { return list_; }
  Tensor value(Id id) const { return View(values_, list_[id]); }
  Tensor grad(Id id) const { return View(grads_, list_[id]); }
  // One matrix of the rows of `count` consecutively declared matrices with equal row size.
  Tensor FusedValue(Id first, int count) const { return Fused(values_, first, count); }
  Tensor FusedGrad(Id first, int count) const { return Fused(grads_, first, count); }
  Tensor flat_values() const { return values_.View(dtype_, {num_elements_}); }
  Tensor flat_grads() const { return grads_.View(dtype_, {num_elements_}); }
  int64_t num_elements() const { return num_elements_; }

 private:
  Tensor View(const Buffer& buffer, const DenseParameter& parameter) const;
  Tensor Fused(const Buffer& buffer, Id first, int count) const;
  DType dtype_ = DType::kF32;
  int64_t num_elements_ = 0;
  std::vector<DenseParameter> list_;
  Buffer values_, grads_;
};

// Fills `values` with N(mean, std^2), a function of (seed, name, index) alone: the same on every layout.
void InitializeTensor(uint64_t seed, const std::string& name, const ParameterInit& init,
                      const Tensor& values);

}  // namespace unipool
