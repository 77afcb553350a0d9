#include "runtime/stream.h"

namespace unipool {

// The old scratch memory is freed before more is taken, so that the two never add up.
void* Stream::Scratch(int64_t bytes) {
  if (device_ == Device::kCuda) {
    if (bytes > device_scratch_bytes_) {
      DeviceMemory* memory = cuda().memory;
      device_scratch_.reset();
      device_scratch_.reset(memory->Allocate(bytes), [memory](void* data) { memory->Free(data); });
      meter_->Add(MemoryKind::kScratch, bytes - device_scratch_bytes_);
      device_scratch_bytes_ = bytes;
    }
    return device_scratch_.get();
  }
  if (bytes > scratch_.max_bytes()) {
    scratch_ = Buffer();
    scratch_ = Buffer::Allocate(*meter_, MemoryKind::kScratch, bytes);
  }
  return scratch_.data();
}

}  // namespace unipool
