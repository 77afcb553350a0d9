#include "runtime/buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "runtime/errors.h"

namespace unipool {

const char* NameOf(MemoryKind kind) {
  static constexpr const char* kNames[kNumMemoryKinds] = {"weights",     "gradients", "optimizer",
                                                          "activations", "exchange",  "scratch"};
  return kNames[static_cast<int>(kind)];
}

void MemoryMeter::Add(MemoryKind kind, int64_t bytes) {
  const int i = static_cast<int>(kind);
  current_[i] += bytes;
  total_ += bytes;
  peak_[i] = std::max(peak_[i], current_[i]);
  if (total_ <= peak_total_) return;
  peak_total_ = total_;
  at_peak_ = current_;
}

namespace {
// Anonymous pages: zeroed, aligned, taken from the machine when first touched, and in large pages where it
// pays.
void* MapPages(const MemoryMeter& meter, MemoryKind kind, int64_t bytes) {
  void* data =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    const std::string reason = std::strerror(errno);
    int64_t held = 0;
    for (int i = 0; i < kNumMemoryKinds; ++i) held += meter.current_bytes(static_cast<MemoryKind>(i));
    throw UserError(Format(
        "out of memory: no address space for %.1f MB of %s beside %.1f MB that this rank has (%s); `unipool "
        "info` shows "
        "what these settings need, `ulimit -v` what a process may have",
        static_cast<double>(bytes) / 1e6, NameOf(kind), static_cast<double>(held) / 1e6, reason.c_str()));
  }
  if (bytes >= (4 << 20)) madvise(data, bytes, MADV_HUGEPAGE);
  return data;
}

// Takes the pages that hold these bytes, whose content stays.
void TakePages(char* data, int64_t bytes) {
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  char* const begin = data - reinterpret_cast<uintptr_t>(data) % page;
  for (char* at = begin; at < data + bytes; at += page) {
    std::atomic_ref<char>(*at).fetch_or(0, std::memory_order_relaxed);  // one write fault
  }
}
}  // namespace

Buffer Buffer::Allocate(MemoryMeter& meter, MemoryKind kind, int64_t bytes) {
  Buffer buffer = Reserve(meter, kind, bytes);
  buffer.Use(bytes);
  if (meter.device() && bytes > 0) meter.device()->Zero(buffer.data(), bytes);
  return buffer;
}

Buffer Buffer::Reserve(MemoryMeter& meter, MemoryKind kind, int64_t max_bytes) {
  CHECK_GE(max_bytes, 0);
  Buffer buffer;
  buffer.meter_ = &meter;
  buffer.kind_ = kind;
  buffer.max_bytes_ = max_bytes;
  if (max_bytes > 0)
    buffer.data_ = meter.device() ? meter.device()->Reserve(max_bytes) : MapPages(meter, kind, max_bytes);
  return buffer;
}

Buffer::Buffer(Buffer&& other) noexcept {
  *this = std::move(other);
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  Release();
  meter_ = std::exchange(other.meter_, nullptr);
  kind_ = other.kind_;
  data_ = std::exchange(other.data_, nullptr);
  max_bytes_ = std::exchange(other.max_bytes_, 0);
  counted_bytes_ = std::exchange(other.counted_bytes_, 0);
  ahead_end_ = std::exchange(other.ahead_end_, 0);
  return *this;
}

Buffer::~Buffer() {
  Release();
}

void Buffer::Release() {
  if (data_ && meter_->device()) {
    meter_->device()->Free(data_);
  } else if (data_) {
    munmap(data_, max_bytes_);
  }
  if (meter_) meter_->Add(kind_, -counted_bytes_);
  if (meter_ && ahead_end_ > counted_bytes_) meter_->AddAhead(counted_bytes_ - ahead_end_);
  data_ = nullptr;
  meter_ = nullptr;
  counted_bytes_ = max_bytes_ = ahead_end_ = 0;
}

void Buffer::Use(int64_t bytes) {
  CHECK_LE(bytes, max_bytes_);
  if (bytes <= counted_bytes_) return;
  if (meter_->device()) meter_->device()->Commit(data_, bytes);
  meter_->Add(kind_, bytes - counted_bytes_);
  if (ahead_end_ > counted_bytes_) meter_->AddAhead(counted_bytes_ - std::min(bytes, ahead_end_));
  counted_bytes_ = bytes;
}

void Buffer::TakeAhead(int64_t bytes) {
  const int64_t begin = std::max(counted_bytes_, ahead_end_), end = std::min(bytes, max_bytes_);
  if (counted_bytes_ == 0 || meter_->device() || end <= begin) return;
  TakePages(static_cast<char*>(data_) + begin, end - begin);
  meter_->AddAhead(end - begin);
  ahead_end_ = end;
}

void Buffer::Populate(Range bytes) const {
  CHECK(0 <= bytes.begin && bytes.begin <= bytes.end && bytes.end <= counted_bytes_)
      << bytes.begin << ", " << bytes.end << " of " << counted_bytes_;
  if (meter_->device()) return;  // its memory is there since Use
  if (bytes.size() > 0) TakePages(static_cast<char*>(data_) + bytes.begin, bytes.size());
}

Tensor Buffer::UseView(DType dtype, std::initializer_list<int64_t> shape) {
  const Tensor view = View(dtype, shape);
  Use(view.bytes());
  return view;
}

Tensor Buffer::View(DType dtype, std::initializer_list<int64_t> shape) const {
  Tensor view(data_, dtype, shape);
  CHECK_LE(view.bytes(), max_bytes_) << view.ShapeString();
  return view;
}

}  // namespace unipool
