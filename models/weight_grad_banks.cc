#include "models/weight_grad_banks.h"

#include "kernels/reduce.h"
#include "runtime/range.h"

namespace unipool {

WeightGradBanks::WeightGradBanks(const WeightGradBankOptions& options, Stream& stream, MemoryMeter& memory)
    : options_(options), stream_(stream) {
  const int64_t row_bytes = options.slots * options.max_rows * SizeOf(options.dtype);
  auto reserve = [&](int64_t columns) {
    return Buffer::Reserve(memory, MemoryKind::kScratch, row_bytes * columns);
  };
  for (Bank& bank : banks_) {
    bank.dgate_up = reserve(2 * options.width);
    bank.activation = reserve(options.width);
    bank.x = reserve(options.hidden);
    bank.dy = reserve(options.hidden);
    bank.offsets.assign(options.slots, std::vector<int64_t>(options.num_experts + 1));
  }
  work_slots_.resize(options.slots);
}

void WeightGradBanks::MakeRoom(int64_t rows) {
  const int64_t bytes = options_.slots * rows * SizeOf(options_.dtype);
  for (Bank& bank : banks_) {
    bank.dgate_up.TakeAhead(bytes * 2 * options_.width);
    bank.activation.TakeAhead(bytes * options_.width);
    bank.x.TakeAhead(bytes * options_.hidden);
    bank.dy.TakeAhead(bytes * options_.hidden);
  }
}

// Rows [begin, begin + rows) of a bank's array.
Tensor WeightGradBanks::Rows(Buffer& buffer, int64_t columns, int64_t begin, int64_t rows) const {
  return buffer.UseView(options_.dtype, {begin + rows, columns}).Rows(begin, rows);
}

void WeightGradBanks::Begin(const OwnerBatch& batch) {
  if (filling().num_slots == options_.slots) {
    for (const int next : full().next_expert) {
      CHECK(next == options_.num_experts || full().num_slots == 0) << "a bank is not added up yet";
    }
    filling_ = 1 - filling_;
    filling().num_slots = 0;
    filling().num_rows = 0;
    filling().next_expert = {};
  }
  Bank& bank = filling();
  std::vector<int64_t>& offsets = bank.offsets[bank.num_slots++];
  for (size_t e = 0; e < offsets.size(); ++e) offsets[e] = bank.num_rows + batch.expert_offsets[e];
  bank.num_rows += batch.num_rows();
}

WeightGradBanks::Slot WeightGradBanks::Store(const OwnerBatch& batch) {
  if (batch.experts.begin == 0) Begin(batch);
  Bank& bank = filling();
  const int64_t rows = batch.num_rows(), begin = bank.num_rows - rows;
  const Range piece = batch.piece_rows();
  if (piece.size() > 0) {
    const auto copy = [&](const Tensor& from, Buffer& to) {
      const Tensor all = Rows(to, options_.hidden, begin, rows);
      Copy(stream_, from.Rows(piece.begin, piece.size()), all.Rows(piece.begin, piece.size()));
    };
    copy(batch.x, bank.x);
    copy(batch.dy, bank.dy);
  }
  return {.dgate_up = Rows(bank.dgate_up, 2 * options_.width, begin, rows),
          .activation = Rows(bank.activation, options_.width, begin, rows)};
}

void WeightGradBanks::AddUpTo(Bank& bank, int end_expert, WeightPart part, const Add& add) {
  int& next = bank.next_expert[static_cast<int>(part)];
  const int first = next, count = end_expert - first;
  next = end_expert;
  if (count <= 0 || bank.num_rows == 0) return;
  for (int s = 0; s < bank.num_slots; ++s) {
    work_slots_[s] = std::span<const int64_t>(bank.offsets[s]).subspan(first, count + 1);
  }
  const int64_t rows = bank.num_rows;
  add({.first_expert = first,
       .slots = {work_slots_.data(), static_cast<size_t>(bank.num_slots)},
       .dgate_up = bank.dgate_up.View(options_.dtype, {rows, 2 * options_.width}),
       .x = bank.x.View(options_.dtype, {rows, options_.hidden}),
       .dy = bank.dy.View(options_.dtype, {rows, options_.hidden}),
       .activation = bank.activation.View(options_.dtype, {rows, options_.width})});
}

void WeightGradBanks::AddShare(WeightPart part, const Add& add) {
  if (full().num_slots == 0) return;
  const Range share = EvenPartition(options_.num_experts, options_.slots, filling().num_slots - 1);
  AddUpTo(full(), static_cast<int>(share.end), part, add);
}

void WeightGradBanks::Finish(const Add& add_first, const Add& add_second) {
  for (Bank* bank : {&full(), &filling()}) {
    AddUpTo(*bank, options_.num_experts, WeightPart::kFirst, add_first);
    AddUpTo(*bank, options_.num_experts, WeightPart::kSecond, add_second);
    bank->num_slots = 0;
    bank->num_rows = 0;
    bank->next_expert = {};
  }
}

}  // namespace unipool
