#include "models/optimizer.h"

#include <algorithm>

#include "kernels/adamw.h"
#include "kernels/reduce.h"

namespace unipool {

namespace {

Range Intersect(const Range& a, const Range& b) {
  const Range both{std::max(a.begin, b.begin), std::min(a.end, b.end)};
  return both.size() > 0 ? both : Range{};
}

}  // namespace

Optimizer::Optimizer(DenseParameters& dense, ExpertPool& experts, const Mesh& mesh,
                     const OptimizerOptions& options, Stream& stream, MemoryMeter& memory)
    : dense_(dense), experts_(experts), sync_(mesh), mesh_(mesh), options_(options), stream_(stream) {
  part_ = sync_.OwnPart(dense.num_elements());
  const ExpertPool::Weights& weights = experts.values();
  const DType dtype = weights.down.dtype;
  const int64_t expert_elements = weights.gate_up.size() + weights.down.size();
  const int64_t elements = part_.size() + expert_elements;
  moments_ = Buffer::Allocate(memory, MemoryKind::kOptimizer, 2 * elements * SizeOf(dtype));
  const Tensor all = moments_.View(dtype, {2 * elements});
  auto experts_at = [&](int64_t begin) {
    Tensor gate_up = weights.gate_up, down = weights.down;  // same shapes
    gate_up.data = all.Rows(begin, gate_up.size()).data;
    down.data = all.Rows(begin + gate_up.size(), down.size()).data;
    return ExpertPool::Weights{gate_up, down};
  };
  dense_first_ = all.Rows(0, part_.size());
  dense_second_ = all.Rows(part_.size(), part_.size());
  expert_first_ = experts_at(2 * part_.size());
  expert_second_ = experts_at(2 * part_.size() + expert_elements);
}

void Optimizer::ClearGrads() {
  Fill(stream_, dense_.flat_grads(), 0);
  experts_.ClearGrads();
}

double Optimizer::ReduceGradients(int64_t step, std::span<double> expert_squares) {
  sync_.ReduceDense(dense_.flat_grads(), step);
  if (mesh_.replicas().size() > 1) {
    experts_.ZeroMissingGrads();
    sync_.ReduceExperts(experts_.grads().gate_up, step);
    sync_.ReduceExperts(experts_.grads().down, step);
  }
  const double dense = SumOfSquares(stream_, DensePart(dense_.flat_grads()));
  if (mesh_.replicas().rank() != 0) return dense;  // one copy of the pool counts the experts
  for (int e = 0; e < experts_.num_local(); ++e) {
    if (!experts_.has_grad(e)) continue;
    expert_squares[experts_.local_experts()[e]] +=
        SumOfSquares(stream_, experts_.grads().gate_up.Rows(e, 1)) +
        SumOfSquares(stream_, experts_.grads().down.Rows(e, 1));
  }
  return dense;
}

AdamWArgs Optimizer::ArgsFor(int64_t step, double lr, double grad_norm) const {
  const bool is_clipped = options_.clip > 0 && grad_norm > options_.clip;
  return {.lr = lr,
          .beta1 = options_.beta1,
          .beta2 = options_.beta2,
          .eps = options_.eps,
          .weight_decay = options_.weight_decay,
          .grad_scale = is_clipped ? options_.clip / grad_norm : 1.0,
          .step = step + 1};
}

void Optimizer::Apply(int64_t step, double lr, double grad_norm) {
  const AdamWArgs matrix_args = ArgsFor(step, lr, grad_norm);
  AdamWArgs vector_args = matrix_args;
  vector_args.weight_decay = 0;
  for (const DenseParameter& parameter : dense_.list()) {
    const Range range = Intersect(parameter.elements, part_);
    if (range.size() == 0) continue;
    AdamW(stream_, parameter.decays ? matrix_args : vector_args,
          dense_.flat_values().Rows(range.begin, range.size()),
          dense_.flat_grads().Rows(range.begin, range.size()),
          dense_first_.Rows(range.begin - part_.begin, range.size()),
          dense_second_.Rows(range.begin - part_.begin, range.size()));
  }
  sync_.GatherDense(dense_.flat_values(), step);

  auto update = [&](const Tensor& value, const Tensor& grad, const Tensor& first, const Tensor& second,
                    int e) {
    auto flat = [&](const Tensor& t) { return t.Rows(e, 1).Reshape({t.dim(1) * t.dim(2)}); };
    AdamW(stream_, matrix_args, flat(value), experts_.has_grad(e) ? flat(grad) : Tensor{}, flat(first),
          flat(second));
  };
  const ExpertPool::Weights &values = experts_.values(), &grads = experts_.grads();
  for (int e = 0; e < experts_.num_local(); ++e) {
    update(values.gate_up, grads.gate_up, expert_first_.gate_up, expert_second_.gate_up, e);
    update(values.down, grads.down, expert_first_.down, expert_second_.down, e);
  }
}

std::vector<OptimizerPiece> Optimizer::Pieces() const {
  std::vector<OptimizerPiece> pieces;
  for (const DenseParameter& parameter : dense_.list()) {
    const Range range = Intersect(parameter.elements, part_);
    if (range.size() == 0) continue;
    pieces.push_back(
        {.name = parameter.name,
         .elements = {range.begin - parameter.elements.begin, range.end - parameter.elements.begin},
         .first_moment = dense_first_.Rows(range.begin - part_.begin, range.size()),
         .second_moment = dense_second_.Rows(range.begin - part_.begin, range.size()),
         .writes = true});
  }
  const std::vector<DiskTensor> first = experts_.DiskTensors(expert_first_);
  const std::vector<DiskTensor> second = experts_.DiskTensors(expert_second_);
  for (size_t i = 0; i < first.size(); ++i) {
    const int64_t size = first[i].value.size();
    pieces.push_back({.name = first[i].name,
                      .elements = {0, size},
                      .first_moment = first[i].value.Reshape({size}),
                      .second_moment = second[i].value.Reshape({size}),
                      .writes = mesh_.replicas().rank() == 0});
  }
  return pieces;
}

}  // namespace unipool
