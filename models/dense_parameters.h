// The dense parameters of one stage in one flat array, and their gradients in another. One array makes the
// reduction over data ranks one exchange, and lets each data rank keep the optimizer state of one even part
// of it. A model that computes in BF16 has F32 values and gradients, and a BF16 copy of the values to compute
// with.
#pragma once

#include <string>
#include <vector>

#include "models/parameter.h"
#include "runtime/range.h"
#include "runtime/stream.h"

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
  // Takes memory for values, for copies where the model computes in another type than AccumulatorOf(dtype),
  // and, if trainable, for gradients (zero).
  void Allocate(DType dtype, bool is_trainable, MemoryMeter& memory);
  // Initial values, into memory of the host laid out as flat_values().
  void Initialize(uint64_t seed, const Tensor& host_values) const;
  // The copies become the values, rounded.
  void RefreshCopies(Stream& stream);

  const std::vector<DenseParameter>& list() const { return list_; }
  Tensor value(Id id) const { return View(computed(), list_[id]); }  // what the model computes with
  Tensor exact_value(Id id) const { return View(values_, list_[id]); }
  Tensor grad(Id id) const { return View(grads_, list_[id]); }
  // One matrix of the rows of `count` consecutively declared matrices with equal row size.
  Tensor FusedValue(Id first, int count) const { return Fused(computed(), first, count); }
  Tensor FusedGrad(Id first, int count) const { return Fused(grads_, first, count); }
  Tensor flat_values() const { return values_.View(exact_dtype(), {num_elements_}); }
  Tensor flat_grads() const { return grads_.View(exact_dtype(), {num_elements_}); }
  Tensor flat_copies() const {  // empty where the model computes with the values
    return has_copies() ? copies_.View(dtype_, {num_elements_}) : Tensor{};
  }
  int64_t num_elements() const { return num_elements_; }

 private:
  DType exact_dtype() const { return AccumulatorOf(dtype_); }
  bool has_copies() const { return dtype_ != exact_dtype(); }
  const Buffer& computed() const { return has_copies() ? copies_ : values_; }
  Tensor View(const Buffer& buffer, const DenseParameter& parameter) const;
  Tensor Fused(const Buffer& buffer, Id first, int count) const;
  DType dtype_ = DType::kF32;
  int64_t num_elements_ = 0;
  std::vector<DenseParameter> list_;
  Buffer values_, copies_, grads_;
};

// Fills `values` with N(mean, std^2), a function of (seed, name, index) alone: the same on every layout.
void InitializeTensor(uint64_t seed, const std::string& name, const ParameterInit& init,
                      const Tensor& values);

}  // namespace unipool
