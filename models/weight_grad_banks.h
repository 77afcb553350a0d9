// Keeps the rows of several backward slots, so that the experts' weight gradients are added up over all of
// these slots at once.
//
// All layers share the pool, so every slot of every layer adds to the same gradients. At 182M they are 2.7 GB
// of F32, and a GPU reads and writes them in more time than the arithmetic of one slot's rows takes. So two
// banks of k slots take turns. While one bank is filled, the other is added up, a k-th of the experts in each
// slot. Then gradients move once in k slots. Every slot has as much of this work as before, so the work,
// which waits for nobody, still covers what others wait for.
//
// Example with k = 2 and experts 0..5: slots 0 and 1 fill bank A. Slot 2 fills bank B and adds the rows of
// slots 0 and 1 to experts 0..2; slot 3 fills bank B and adds them to experts 3..5. From slot 4 on bank A is
// filled again and bank B is added up. Finish adds up what the last slots left.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "parallel/pipeline_stage.h"
#include "runtime/stream.h"

namespace unipool {

struct WeightGradBankOptions {
  int slots = 2;              // k, from 2 to kMostWeightGradSlots
  int num_experts = 0;        // E of this rank
  int64_t max_rows = 0;       // of one slot
  int64_t hidden = 0;         // D
  int64_t width = 0;          // F
  DType dtype = DType::kF32;  // of what is kept: that of the products, to which x and dy are rounded
};

class WeightGradBanks {
 public:
  WeightGradBanks(const WeightGradBankOptions& options, Stream& stream, MemoryMeter& memory);

  // Between steps: takes memory for so many rows of a slot, where a bank has been used before.
  void MakeRoom(int64_t rows);

  // The first piece of a batch begins the next slot. Copies x and dy of the piece's rows. Returns where the
  // backward of the whole batch writes the rest, the same for all its pieces.
  struct Slot {
    Tensor dgate_up;    // [R, 2F]
    Tensor activation;  // [R, F]
  };
  Slot Store(const OwnerBatch& batch);

  // Rows to add up: all slots of a bank, for the experts [first_expert, first_expert + slots[0].size() - 1).
  struct Work {
    int first_expert = 0;
    std::span<const std::span<const int64_t>> slots;  // offsets per slot, as GroupedGemmWeightGradOfSlots
    Tensor dgate_up, x, dy, activation;               // all rows of the bank
  };
  using Add = std::function<void(const Work&)>;
  // The share of the running slot in one of the two products.
  void AddShare(WeightPart part, const Add& add);
  // All that is left, at the end of a step.
  void Finish(const Add& add_first, const Add& add_second);

  // Numbers that a bank holds for each row.
  static int64_t ColumnsPerRow(int64_t hidden, int64_t width) { return 3 * width + 2 * hidden; }

 private:
  struct Bank {
    Buffer dgate_up, activation, x, dy;
    std::vector<std::vector<int64_t>> offsets;  // [slots][E + 1], in rows of the bank
    int num_slots = 0;
    int64_t num_rows = 0;
    std::array<int, 2> next_expert{};  // by part: experts before it are added up
  };
  void Begin(const OwnerBatch& batch);
  Tensor Rows(Buffer& buffer, int64_t columns, int64_t begin, int64_t rows) const;
  void AddUpTo(Bank& bank, int end_expert, WeightPart part, const Add& add);
  Bank& filling() { return banks_[filling_]; }
  Bank& full() { return banks_[1 - filling_]; }

  WeightGradBankOptions options_;
  Stream& stream_;
  std::array<Bank, 2> banks_;
  int filling_ = 0;
  std::vector<std::span<const int64_t>> work_slots_;
};

}  // namespace unipool
