// Fetches memory ahead of its use while registers are busy with something else.
#pragma once

#include <cstdint>

namespace unipool {

// Fetches memory that will be read next into the L2 cache, line after line as it lies, because then the
// processor's own prefetchers run ahead of it. The memory is rows of `row` elements, `stride` elements apart.
// Each step of a tile's k loop may fetch. Each tile goes on where the tile before it stopped.
// Fetches are spread evenly over `num_steps` steps: more at a time would fill the processor's list of awaited
// lines, and then even what the L2 cache has would be waited for.
template <class T>
class Prefetcher {
 public:
  Prefetcher() = default;
  Prefetcher(const T* data, int64_t rows, int64_t row, int64_t stride, int64_t num_steps)
      : at_(data), row_end_(data + row), rows_left_(rows), row_(row), stride_(stride), num_steps_(num_steps) {
    num_lines_ = rows * ((row + kLine - 1) / kLine);
    if (num_lines_ > num_steps) piece_ = 2 * kLine, num_lines_ /= 2;
  }
  bool active() const { return rows_left_ > 0; }
  [[gnu::always_inline]] void Step() {
    due_ += num_lines_;
    if (due_ < num_steps_) return;
    due_ -= num_steps_;
    __builtin_prefetch(at_, 0, 2);
    if (piece_ > kLine) __builtin_prefetch(at_ + kLine, 0, 2);
    at_ += piece_;
    if (at_ >= row_end_) [[unlikely]]
      NextRow();
  }

 private:
  static constexpr int64_t kLine = 64 / sizeof(T);
  void NextRow() {
    if (--rows_left_ <= 0) {  // the end: the last piece again, harmless
      at_ = row_end_ - piece_;
      return;
    }
    at_ = row_end_ - row_ + stride_;
    row_end_ = at_ + row_;
  }
  const T* at_ = nullptr;
  const T* row_end_ = nullptr;
  int64_t rows_left_ = 0, row_ = 0, stride_ = 0, piece_ = kLine;
  int64_t num_lines_ = 0, num_steps_ = 0, due_ = 0;  // due_: of num_steps_, the part of a fetch that is due
};

}  // namespace unipool
