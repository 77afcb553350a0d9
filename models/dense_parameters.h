// The dense parameters of one stage in one flat array, and their gradients in another. One array makes the
// reduction over data ranks one exchange, and lets each data rank keep the optimizer state of one even part
// of it.
//
// Optimizer and files work on the master weights, whose type is AccumulatorOf(the type that the model computes
// in). Where that is another type (F32 masters of a BF16 model), the model computes with rounded copies. The
// house's words are `master` for the one and `compute` for the other, also of experts (expert_pool.h).
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

enum class WeightDecay { kNo, kYes };  // kYes: matrices

struct DenseParameter {
  std::string name;  // on disk
  std::vector<int64_t> shape;
  ParameterInit init;
  WeightDecay decay = WeightDecay::kNo;
  Range elements;  // in the flat array
};

// Declare everything, then Allocate, then use. Tensors declared one after another without padding may be used
// as one fused matrix (q, k, v).
class DenseParameters {
 public:
  using Id = int;
  Id Declare(std::string name, std::vector<int64_t> shape, ParameterInit init, WeightDecay decay);
  // Takes memory for masters, for copies where the model computes in another type than AccumulatorOf(dtype),
  // and, if trainable, for gradients (zero).
  void Allocate(DType dtype, bool is_trainable, MemoryMeter& memory);
  // Initial values, into memory of the host laid out as flat_master().
  void Initialize(uint64_t seed, const Tensor& host_masters) const;
  // The copies become the masters, rounded. Nothing where there are no copies.
  void RefreshCompute(Stream& stream);

  const std::vector<DenseParameter>& list() const { return list_; }
  Tensor compute(Id id) const { return View(compute_buffer(), list_[id]); }  // what the model computes with
  Tensor master(Id id) const { return View(masters_, list_[id]); }
  Tensor grad(Id id) const { return View(grads_, list_[id]); }
  // One matrix of the rows of `count` consecutively declared matrices with equal row size.
  Tensor FusedCompute(Id first, int count) const { return Fused(compute_buffer(), first, count); }
  Tensor FusedGrad(Id first, int count) const { return Fused(grads_, first, count); }
  Tensor flat_master() const { return masters_.View(master_dtype(), {num_elements_}); }
  Tensor flat_grads() const { return grads_.View(master_dtype(), {num_elements_}); }
  // Empty where the model computes with the masters.
  Tensor flat_compute_copies() const {
    return has_copies() ? copies_.View(dtype_, {num_elements_}) : Tensor{};
  }
  int64_t num_elements() const { return num_elements_; }

 private:
  DType master_dtype() const { return AccumulatorOf(dtype_); }
  bool has_copies() const { return dtype_ != master_dtype(); }
  const Buffer& compute_buffer() const { return has_copies() ? copies_ : masters_; }
  Tensor View(const Buffer& buffer, const DenseParameter& parameter) const;
  Tensor Fused(const Buffer& buffer, Id first, int count) const;
  DType dtype_ = DType::kF32;
  int64_t num_elements_ = 0;
  std::vector<DenseParameter> list_;
  Buffer masters_, copies_, grads_;
};

// Fills `values` with N(mean, std^2), a function of (seed, name, index) alone: the same on every layout.
void InitializeTensor(uint64_t seed, const std::string& name, const ParameterInit& init,
                      const Tensor& values);

}  // namespace unipool
