// Sums gradients over the ranks that hold the same parameters, and spreads updated parameters again.
#pragma once

#include "parallel/mesh.h"
#include "runtime/range.h"

namespace unipool {

// The dense parameters of a stage lie in one flat array on all n ranks of the stage, n = replicas x data
// ranks (parallel/mesh.h). Each rank keeps the optimizer state of one even part. Bytes sent per rank: (n - 1)
// / n of the array each way.
class GradientSync {
 public:
  explicit GradientSync(const Mesh& mesh) : mesh_(mesh) {}
  Range OwnPart(int64_t num_elements) const {
    return EvenPartition(num_elements, mesh_.stage().size(), mesh_.stage().rank());
  }
  // Leaves the sum over the stage's ranks in this rank's part. The rest of the array is undefined.
  void ReduceDense(const Tensor& grads, int64_t step) {
    mesh_.stage().ReduceScatterSum(grads, {.operation = "dense gradients", .step = step});
  }
  // Each rank's part reaches all ranks of the stage.
  void GatherDense(const Tensor& values, int64_t step) {
    mesh_.stage().AllGatherParts(values, {.operation = "dense parameters", .step = step});
  }
  // As the three above, for the weight of a spread head, which all ranks of the world hold.
  Range OwnHeadPart(int64_t num_elements) const {
    return EvenPartition(num_elements, mesh_.device_world().size(), mesh_.device_world().rank());
  }
  void ReduceHead(const Tensor& grads, int64_t step) {
    mesh_.device_world().ReduceScatterSum(grads, {.operation = "head gradients", .step = step});
  }
  void GatherHead(const Tensor& values, int64_t step) {
    mesh_.device_world().AllGatherParts(values, {.operation = "head parameters", .step = step});
  }
  // Sums over the copies of the pool. An expert has one owner in each copy, so with one copy its gradient is
  // complete (over all slots, in the owner's memory) and nothing is sent.
  void ReduceExperts(const Tensor& grads, int64_t step) {
    mesh_.replicas().AllReduceSum(grads, {.operation = "expert gradients", .step = step});
  }

 private:
  const Mesh& mesh_;
};

}  // namespace unipool
