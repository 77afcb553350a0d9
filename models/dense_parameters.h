// The dense parameters of one stage in one flat array, and their gradients in another. So the reduction over
// data ranks is one exchange, and each data rank keeps the optimizer state of one even part of the array.
//
// There are two kinds of weights, here and for experts (expert_pool.h):
//   master    what optimizer and files work on, of AccumulatorOf(the type that the model computes in)
//   compute   what the model's products read: the masters themselves, or where the type is another (BF16
//             products have F32 masters) rounded copies of them
// Kernels that are no products (norms, embedding, router) read numbers in the type of the activations. With
// BF16 products of F32 activations (BF16 on the CPU) these are the masters.
#pragma once

#include <string>
#include <vector>

#include "models/compute_types.h"
#include "models/parameter.h"
#include "runtime/range.h"
#include "runtime/stream.h"

namespace unipool {

struct ParameterInit {
  double std = 0;   // weights ~ N(mean, std^2), which follow from the tensor's name and the seed alone
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

// Declare everything, then Allocate, then use. Matrices that are declared one behind the other may be used as
// one fused matrix (q, k, v).
class DenseParameters {
 public:
  using Id = int;
  Id Declare(std::string name, std::vector<int64_t> shape, ParameterInit init, WeightDecay decay);
  // Takes memory for the masters, for copies where products have another type, and if trainable for gradients
  // (zero at first).
  void Allocate(const ComputeTypes& types, bool is_trainable, MemoryMeter& memory);
  // Writes the initial values into memory of the host that is laid out as flat_master().
  void Initialize(uint64_t seed, const Tensor& host_masters) const;
  // The masters have changed: rounds them into the copies. Nothing where there are no copies.
  void RefreshCompute(Stream& stream);

  const std::vector<DenseParameter>& list() const { return list_; }
  // What products read, and what other kernels read.
  Tensor product(Id id) const { return View(product_buffer(), list_[id]); }
  Tensor compute(Id id) const { return View(compute_buffer(), list_[id]); }
  DType product_type() const { return types_.products; }
  Tensor master(Id id) const { return View(masters_, list_[id]); }
  Tensor grad(Id id) const { return View(grads_, list_[id]); }
  // One matrix with the rows of `count` matrices that were declared one behind the other.
  Tensor FusedProduct(Id first, int count) const { return Fused(product_buffer(), first, count); }
  Tensor FusedGrad(Id first, int count) const { return Fused(grads_, first, count); }
  Tensor flat_master() const { return masters_.View(master_dtype(), {num_elements_}); }
  Tensor flat_grads() const { return grads_.View(master_dtype(), {num_elements_}); }
  // Empty where products read the masters.
  Tensor flat_compute_copies() const {
    return has_copies() ? copies_.View(types_.products, {num_elements_}) : Tensor{};
  }
  int64_t num_elements() const { return num_elements_; }

 private:
  DType master_dtype() const { return AccumulatorOf(types_.products); }
  bool has_copies() const { return types_.products != master_dtype(); }
  const Buffer& product_buffer() const { return has_copies() ? copies_ : masters_; }
  const Buffer& compute_buffer() const { return types_.activations == master_dtype() ? masters_ : copies_; }
  Tensor View(const Buffer& buffer, const DenseParameter& parameter) const;
  Tensor Fused(const Buffer& buffer, Id first, int count) const;
  ComputeTypes types_;
  int64_t num_elements_ = 0;
  std::vector<DenseParameter> list_;
  Buffer masters_, copies_, grads_;
};

// Fills `values` with N(mean, std^2). Element i is a function of (seed, name, i) alone, so it is the same in
// every layout. Many numbers are the work of all cores that the process may use.
void InitializeTensor(uint64_t seed, const std::string& name, const ParameterInit& init,
                      const Tensor& values);

}  // namespace unipool
