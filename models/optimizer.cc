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

Optimizer::Optimizer(DenseParameters& dense, DenseParameters& head, ExpertPool& experts, int64_t num_experts,
                     const Mesh& mesh, const OptimizerOptions& options, Stream& stream, MemoryMeter& memory)
    : dense_{dense, {}, {}, {}},
      head_{head, {}, {}, {}},
      experts_(experts),
      num_experts_(num_experts),
      sync_(mesh),
      mesh_(mesh),
      options_(options),
      stream_(stream) {
  dense_.part = sync_.OwnPart(dense.num_elements());
  head_.part = sync_.OwnHeadPart(head.num_elements());
  const ExpertPool::Weights& weights = experts.master();
  const DType dtype = weights.down.dtype;
  const int64_t expert_elements = weights.gate_up.size() + weights.down.size();
  num_moments_ = 2 * (dense_.part.size() + head_.part.size() + expert_elements);
  moments_ = Buffer::Allocate(memory, MemoryKind::kOptimizer, num_moments_ * SizeOf(dtype));
  squares_ = Buffer::Allocate(memory, MemoryKind::kScratch, (2 + num_experts_) * 8);
  group_.reserve(std::max<size_t>(dense.list().size(), 2 * experts.num_local()));
  const Tensor all = moments_.View(dtype, {num_moments_});
  int64_t next = 0;
  const auto take = [&](int64_t elements) {
    next += elements;
    return all.Rows(next - elements, elements);
  };
  for (DenseArray* array : {&dense_, &head_}) {
    array->first = take(array->part.size());
    array->second = take(array->part.size());
  }
  for (ExpertPool::Weights* moments : {&first_experts_, &second_experts_}) {
    *moments = weights;  // same shapes
    moments->gate_up.data = take(weights.gate_up.size()).data;
    moments->down.data = take(weights.down.size()).data;
  }
}

void Optimizer::ClearGrads() {
  Fill(stream_, dense_.parameters.flat_grads(), 0);
  if (has_head()) Fill(stream_, head_.parameters.flat_grads(), 0);
  experts_.ClearGrads();
}

Tensor Optimizer::ReduceGradients(int64_t step, const Tensor& loss) {
  experts_.CollectShadowGrads();
  sync_.ReduceDense(dense_.parameters.flat_grads(), step);
  if (has_head()) sync_.ReduceHead(head_.parameters.flat_grads(), step);
  if (mesh_.replicas().size() > 1) {
    experts_.ZeroMissingGrads();
    sync_.ReduceExperts(experts_.grads().gate_up, step);
    sync_.ReduceExperts(experts_.grads().down, step);
  }
  const Tensor squares = squares_.View(DType::kF64, {2 + num_experts_});
  Fill(stream_, squares, 0);
  Copy(stream_, loss, squares.Rows(1 + num_experts_, 1));
  AddSumOfSquares(stream_, dense_.OwnGrads(), squares.Rows(0, 1));
  if (has_head()) AddSumOfSquares(stream_, head_.OwnGrads(), squares.Rows(0, 1));
  if (mesh_.replicas().rank() != 0) return squares;  // one copy of the pool counts the experts
  for (int e = 0; e < experts_.num_local(); ++e) {
    if (!experts_.has_grad(e)) continue;
    const Tensor square = squares.Rows(1 + experts_.local_experts()[e], 1);
    AddSumOfSquares(stream_, experts_.grads().gate_up.Rows(e, 1), square);
    AddSumOfSquares(stream_, experts_.grads().down.Rows(e, 1), square);
  }
  return squares;
}

double Optimizer::ScaleFor(double grad_norm) const {
  return options_.clip > 0 && grad_norm > options_.clip ? options_.clip / grad_norm : 1.0;
}

void Optimizer::Update(int64_t step, double lr, double grad_scale, const Tensor& totals) {
  AdamWArgs args{.lr = lr,
                 .beta1 = options_.beta1,
                 .beta2 = options_.beta2,
                 .eps = options_.eps,
                 .weight_decay = options_.weight_decay,
                 .grad_scale = grad_scale,
                 .step = step + 1};
  if (!totals.empty()) {
    args.finite = totals;
    args.max_grad_norm = options_.clip;
    args.grad_squares = totals.Rows(0, 1);
  }
  UpdateExperts(args);
  experts_.WeightsChanged();
  UpdateDense(dense_, args, WeightDecay::kYes);
  if (has_head()) UpdateDense(head_, args, WeightDecay::kYes);
  args.weight_decay = 0;
  UpdateDense(dense_, args, WeightDecay::kNo);
  sync_.GatherDense(dense_.parameters.flat_master(), step);
  if (has_head()) sync_.GatherHead(head_.parameters.flat_master(), step);
  for (const DenseArray* array : {&dense_, &head_}) {
    if (!array->is_whole()) array->parameters.RefreshCompute(stream_);
  }
}

void Optimizer::UpdateDense(const DenseArray& array, const AdamWArgs& args, WeightDecay decay) {
  group_.clear();
  const DenseParameters& parameters = array.parameters;
  const Tensor copies = parameters.flat_compute_copies();
  for (const DenseParameter& parameter : parameters.list()) {
    const Range range = Intersect(parameter.elements, array.part);
    if (parameter.decay != decay || range.size() == 0) continue;
    group_.push_back({.param = parameters.flat_master().Rows(range.begin, range.size()),
                      .grad = parameters.flat_grads().Rows(range.begin, range.size()),
                      .m = array.first.Rows(range.begin - array.part.begin, range.size()),
                      .v = array.second.Rows(range.begin - array.part.begin, range.size()),
                      .copy = copies.empty() ? Tensor{} : copies.Rows(range.begin, range.size())});
  }
  AdamWGroup(stream_, args, group_);
}

void Optimizer::UpdateExperts(const AdamWArgs& args) {
  group_.clear();
  auto add = [&](Tensor ExpertPool::Weights::*array, int e) {
    auto flat = [&](const ExpertPool::Weights& weights) {
      const Tensor& t = weights.*array;
      return t.empty() ? Tensor{} : t.Rows(e, 1).Reshape({t.dim(1) * t.dim(2)});
    };
    group_.push_back({.param = flat(experts_.master()),
                      .grad = experts_.has_grad(e) ? flat(experts_.grads()) : Tensor{},
                      .m = flat(first_experts_),
                      .v = flat(second_experts_),
                      .copy = flat(experts_.compute_copies())});
  };
  for (int e = 0; e < experts_.num_local(); ++e) {
    add(&ExpertPool::Weights::gate_up, e);
    add(&ExpertPool::Weights::down, e);
  }
  AdamWGroup(stream_, args, group_);
}

void Optimizer::AddPieces(const DenseArray& array, std::vector<OptimizerPiece>& pieces) const {
  for (const DenseParameter& parameter : array.parameters.list()) {
    const Range range = Intersect(parameter.elements, array.part);
    if (range.size() == 0) continue;
    pieces.push_back(
        {.name = parameter.name,
         .elements = {range.begin - parameter.elements.begin, range.end - parameter.elements.begin},
         .first_moment = array.first.Rows(range.begin - array.part.begin, range.size()),
         .second_moment = array.second.Rows(range.begin - array.part.begin, range.size()),
         .writes = true});
  }
}

std::vector<OptimizerPiece> Optimizer::Pieces() const {
  std::vector<OptimizerPiece> pieces;
  AddPieces(dense_, pieces);
  AddPieces(head_, pieces);
  const std::vector<DiskTensor> first = experts_.DiskTensors(first_experts_);
  const std::vector<DiskTensor> second = experts_.DiskTensors(second_experts_);
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
