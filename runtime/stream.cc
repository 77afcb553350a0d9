#include "runtime/stream.h"

namespace unipool {

void* Stream::Scratch(int64_t bytes) {
  if (bytes > scratch_.max_bytes()) {
    scratch_ = Buffer();  // the old memory goes first, so that the two never add up
    scratch_ = Buffer::Allocate(*meter_, MemoryKind::kScratch, bytes);
  }
  return scratch_.data();
}

}  // namespace unipool
