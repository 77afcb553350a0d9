#include "models/expert_pool.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/grouped_gemm.h"
#include "kernels/reduce.h"
#include "kernels/swiglu.h"
#include "models/dense_parameters.h"

namespace unipool {

namespace {

ExpertPool::Weights ViewWeights(const Buffer& buffer, DType dtype, int64_t experts, const ModelSpec& spec) {
  const int64_t d = spec.hidden, f = spec.expert_width;
  char* data = static_cast<char*>(buffer.data());
  return {Tensor(data, dtype, {experts, 2 * f, d}),
          Tensor(data + experts * 2 * f * d * SizeOf(dtype), dtype, {experts, d, f})};
}

Tensor Matrix(const Tensor& array, int64_t e, int64_t first_row, int64_t rows) {
  return array.Rows(e, 1).Reshape({array.dim(1), array.dim(2)}).Rows(first_row, rows);
}

}  // namespace

ExpertPool::ExpertPool(const ModelSpec& spec, const ExpertPlacement& placement, int pool_rank,
                       const ExpertPoolOptions& options, Stream& stream, MemoryMeter& memory)
    : spec_(spec),
      stream_(stream),
      options_(options),
      placement_(placement),
      pool_rank_(pool_rank),
      local_(placement.experts_of(pool_rank)) {
  const DType exact = AccumulatorOf(options.types.products);
  const int64_t expert_elements = 3 * spec.expert_width * spec.hidden;
  const int64_t with_master = has_copies() ? num_local() : num_places();
  buffers_.master =
      Buffer::Allocate(memory, MemoryKind::kParameters, with_master * expert_elements * SizeOf(exact));
  compute_ = ViewWeights(buffers_.master, exact, with_master, spec);
  master_ = OwnOf(compute_);
  const int64_t elements = num_places() * expert_elements;
  if (has_copies()) {
    buffers_.copies =
        Buffer::Allocate(memory, MemoryKind::kParameters, elements * SizeOf(options.types.products));
    compute_ = ViewWeights(buffers_.copies, options.types.products, num_places(), spec);
  }
  if (placement.num_shadows() > 0) {
    CHECK(options.pool) << "shadows need the pool group";
    shadows_ = std::make_unique<ShadowSync>(*options.pool, placement, stream, memory);
  }
  const int64_t numbers = options.max_rows * spec.expert_width;
  const int64_t row_bytes = numbers * SizeOf(options.types.activations);
  const int64_t operand_bytes = numbers * SizeOf(options.types.products);
  const auto reserve = [&](int64_t bytes) { return Buffer::Reserve(memory, MemoryKind::kScratch, bytes); };
  scratch_.activation = reserve(operand_bytes);
  scratch_.gate_up = reserve(2 * row_bytes);  // when nothing is kept: evaluation, recomputation
  if (!options.trainable) return;
  scratch_.dactivation = reserve(row_bytes);
  if (options.weight_grad_slots > 1) {
    banks_ = std::make_unique<WeightGradBanks>(WeightGradBankOptions{.slots = options.weight_grad_slots,
                                                                     .num_experts = num_places(),
                                                                     .max_rows = options.max_rows,
                                                                     .hidden = spec.hidden,
                                                                     .width = spec.expert_width,
                                                                     .dtype = options.types.products},
                                               stream, memory);
  } else {
    scratch_.dgate_up = reserve(2 * operand_bytes);
  }
  buffers_.grads = Buffer::Allocate(memory, MemoryKind::kGradients, elements * SizeOf(exact));
  grads_ = ViewWeights(buffers_.grads, exact, num_places(), spec);
  has_grad_.assign(num_places(), 0);
  has_down_grad_.assign(num_places(), 0);
}

void ExpertPool::Initialize(uint64_t seed, const std::vector<DiskTensor>& host_masters) const {
  for (const DiskTensor& tensor : host_masters) {
    const bool is_output = tensor.name.find("down_proj") != std::string::npos;
    const double std = spec_.init_std / (is_output ? std::sqrt(2.0 * spec_.layers) : 1.0);
    InitializeTensor(seed, tensor.name, {.std = std}, tensor.value);
  }
}

void ExpertPool::RefreshCompute() {
  WeightsChanged();
  if (!has_copies()) return;
  const Weights copies = compute_copies();
  Copy(stream_, master_.gate_up, copies.gate_up);
  Copy(stream_, master_.down, copies.down);
}

void ExpertPool::WeightsChanged() {
  if (shadows_) shadows_->WeightsChanged();
}

void ExpertPool::StartShadows(int64_t step) {
  if (shadows_) shadows_->StartWeights(std::array{compute_.gate_up, compute_.down}, step);
}

void ExpertPool::CollectShadowGrads() {
  if (shadows_) shadows_->FinishGradients();
}

ExpertPool::Piece ExpertPool::PieceOf(const OwnerBatch& batch) {
  const Range rows = batch.piece_rows();
  piece_offsets_.resize(batch.expert_offsets.size());
  for (size_t e = 0; e < piece_offsets_.size(); ++e)
    piece_offsets_[e] = std::clamp(batch.expert_offsets[e], rows.begin, rows.end) - rows.begin;
  return {.rows = rows, .offsets = piece_offsets_};
}

void ExpertPool::Forward(const OwnerBatch& batch, const Tensor& keep, const Tensor& y) {
  if (shadows_) shadows_->WaitWeights();
  const Piece piece = PieceOf(batch);
  const int64_t rows = piece.rows.size(), width = spec_.expert_width;
  if (rows == 0) return;
  const Tensor gate_up =
      keep.empty() ? scratch_.gate_up.UseView(options_.types.activations, {rows, 2 * width}) : piece.Of(keep);
  const Tensor activation = scratch_.activation.UseView(options_.types.products, {rows, width});
  GroupedGemmForward(stream_, piece.offsets, piece.Of(batch.x), compute_.gate_up, gate_up);
  SwigluForward(stream_, gate_up, activation);
  GroupedGemmForward(stream_, piece.offsets, activation, compute_.down, piece.Of(y));
}

void ExpertPool::BackwardInput(const OwnerBatch& batch, const Tensor& dx) {
  const int64_t width = spec_.expert_width;
  WeightGradBanks::Slot slot;  // of the whole batch
  if (banks_) {
    slot = banks_->Store(batch);
  } else if (batch.num_rows() > 0) {
    slot = {.dgate_up = scratch_.dgate_up.UseView(options_.types.products, {batch.num_rows(), 2 * width}),
            .activation = scratch_.activation.UseView(options_.types.products, {batch.num_rows(), width})};
  }
  const Piece piece = PieceOf(batch);
  const int64_t rows = piece.rows.size();
  if (rows == 0) return;
  Tensor gate_up;
  if (batch.kept.empty()) {
    gate_up = scratch_.gate_up.UseView(options_.types.activations, {rows, 2 * width});
    GroupedGemmForward(stream_, piece.offsets, piece.Of(batch.x), compute_.gate_up, gate_up);
  } else {
    gate_up = piece.Of(batch.kept);
  }
  const Tensor dactivation = scratch_.dactivation.UseView(options_.types.activations, {rows, width});
  const Tensor dgate_up = piece.Of(slot.dgate_up);
  GroupedGemmInputGrad(stream_, piece.offsets, piece.Of(batch.dy), compute_.down, dactivation);
  SwigluBackward(stream_, gate_up, dactivation, dgate_up, piece.Of(slot.activation));
  GroupedGemmInputGrad(stream_, piece.offsets, dgate_up, compute_.gate_up, piece.Of(dx));
}

void ExpertPool::BackwardWeights(const OwnerBatch& batch, WeightPart part) {
  if (banks_) {
    return banks_->AddShare(part, [&](const WeightGradBanks::Work& work) {
      part == WeightPart::kFirst ? AddGateUp(work) : AddDown(work);
    });
  }
  const int64_t rows = batch.num_rows(), width = spec_.expert_width;
  if (rows == 0) return;
  // What BackwardInput of the same batch left in the scratch of this slot.
  if (part == WeightPart::kFirst) {
    const Tensor dgate_up = scratch_.dgate_up.View(options_.types.products, {rows, 2 * width});
    GroupedGemmWeightGrad(stream_, batch.expert_offsets, dgate_up, batch.x, grads_.gate_up, has_grad_);
  } else {
    const Tensor activation = scratch_.activation.View(options_.types.products, {rows, width});
    GroupedGemmWeightGrad(stream_, batch.expert_offsets, batch.dy, activation, grads_.down, has_down_grad_);
  }
}

void ExpertPool::AddGateUp(const WeightGradBanks::Work& work) {
  const int64_t first = work.first_expert, count = static_cast<int64_t>(work.slots[0].size()) - 1;
  GroupedGemmWeightGradOfSlots(stream_, work.slots, work.dgate_up, work.x, grads_.gate_up.Rows(first, count),
                               std::span(has_grad_).subspan(first, count));
}

void ExpertPool::AddDown(const WeightGradBanks::Work& work) {
  const int64_t first = work.first_expert, count = static_cast<int64_t>(work.slots[0].size()) - 1;
  GroupedGemmWeightGradOfSlots(stream_, work.slots, work.dy, work.activation, grads_.down.Rows(first, count),
                               std::span(has_down_grad_).subspan(first, count));
}

void ExpertPool::FinishWeights(int64_t step) {
  if (banks_) {
    banks_->Finish([this](const WeightGradBanks::Work& work) { AddGateUp(work); },
                   [this](const WeightGradBanks::Work& work) { AddDown(work); });
  }
  if (!shadows_) return;
  for (const int place : shadows_->places_in_use()) ZeroIfMissing(place);
  shadows_->StartGradients(std::array{grads_.gate_up, grads_.down}, step);
}

void ExpertPool::SetExperts() {
  CHECK_EQ(placement_.experts_of(pool_rank_).size(), local_.size());
  local_ = placement_.experts_of(pool_rank_);
  if (shadows_) {
    shadows_->PlacementChanged();
    TakeMemoryOfShadows();
  }
  ClearGrads();
  RefreshCompute();
}

// Room for a shadow is not touched before there is one.
void ExpertPool::TakeMemoryOfShadows() {
  const auto take = [](const Buffer& buffer, const Tensor& array, int64_t place) {
    const Tensor row = array.Rows(place, 1);
    const int64_t begin = static_cast<char*>(row.data) - static_cast<char*>(buffer.data());
    buffer.Populate({begin, begin + row.bytes()});
  };
  const std::vector<int> shadows = placement_.shadows_of(pool_rank_);
  for (size_t i = 0; i < shadows.size(); ++i) {
    if (shadows[i] < 0) continue;
    const int64_t place = num_local() + static_cast<int64_t>(i);
    for (Tensor Weights::*array : {&Weights::gate_up, &Weights::down}) {
      take(has_copies() ? buffers_.copies : buffers_.master, compute_.*array, place);
      if (options_.trainable) take(buffers_.grads, grads_.*array, place);
    }
  }
}

void ExpertPool::MakeRoom(int64_t rows) {
  const int64_t numbers = rows * spec_.expert_width;
  const int64_t row_bytes = numbers * SizeOf(options_.types.activations);
  const int64_t operand_bytes = numbers * SizeOf(options_.types.products);
  scratch_.activation.TakeAhead(operand_bytes);
  scratch_.gate_up.TakeAhead(2 * row_bytes);
  scratch_.dactivation.TakeAhead(row_bytes);
  scratch_.dgate_up.TakeAhead(2 * operand_bytes);
  if (banks_) banks_->MakeRoom(rows);
}

void ExpertPool::ZeroMissingGrads() {
  for (int e = 0; e < num_local(); ++e) ZeroIfMissing(e);
}

void ExpertPool::ZeroIfMissing(int place) {
  if (has_grad_[place]) return;
  Fill(stream_, grads_.gate_up.Rows(place, 1), 0);
  Fill(stream_, grads_.down.Rows(place, 1), 0);
  has_grad_[place] = has_down_grad_[place] = 1;
}

std::vector<DiskTensor> ExpertPool::DiskTensors(const Weights& of) const {
  const int64_t d = spec_.hidden, f = spec_.expert_width;
  std::vector<DiskTensor> list;
  for (int e = 0; e < num_local(); ++e) {
    const std::string prefix = "model.pool.experts." + std::to_string(local_[e]) + ".";
    list.push_back({prefix + "gate_proj.weight", {f, d}, Matrix(of.gate_up, e, 0, f)});
    list.push_back({prefix + "up_proj.weight", {f, d}, Matrix(of.gate_up, e, f, f)});
    list.push_back({prefix + "down_proj.weight", {d, f}, Matrix(of.down, e, 0, d)});
  }
  return list;
}

}  // namespace unipool
