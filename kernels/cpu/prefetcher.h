// Fetches memory ahead of its use while registers are busy with something else.
#pragma once

#include <cstdint>

namespace unipool {

// Fetches memory that will be read next into the L2 cache. Each step of a tile's k loop fetches a piece of
// `lines` (1 or 2) cache lines. The memory is rows of `row` elements, `stride` elements apart. Each tile goes
// on where the tile before it stopped.
template <class T>
class Prefetcher {
 public:
  Prefetcher() = default;
  Prefetcher(const T* data, int64_t rows, int64_t row, int64_t stride, int lines)
      : at_(data),
        row_end_(data + row),
        rows_left_(rows),
        row_(row),
        stride_(stride),
        piece_(lines * kLine) {}
  bool active() const { return rows_left_ > 0; }
  [[gnu::always_inline]] void Step() {
    __builtin_prefetch(at_, 0, 2);
    __builtin_prefetch(at_ + piece_ - kLine, 0, 2);
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
};

}  // namespace unipool
