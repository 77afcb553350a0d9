#include "models/host_mirror.h"

#include <algorithm>

namespace unipool {

void HostMirror::Add(const Tensor& array) {
  if (!device_ || array.bytes() == 0) return;
  arrays_.push_back({.data = static_cast<char*>(array.data),
                     .bytes = array.bytes(),
                     .host = Buffer::Allocate(meter_, MemoryKind::kParameters, array.bytes())});
}

Tensor HostMirror::HostOf(const Tensor& part) const {
  if (!device_) return part;
  Tensor host = part;
  if (part.bytes() == 0) return host;
  const char* data = static_cast<const char*>(part.data);
  const auto holds = [&](const Array& array) {
    return data >= array.data && data + part.bytes() <= array.data + array.bytes;
  };
  const auto array = std::find_if(arrays_.begin(), arrays_.end(), holds);
  CHECK(array != arrays_.end()) << part.ShapeString() << " is not part of a mirrored array";
  host.data = static_cast<char*>(array->host.data()) + (data - array->data);
  return host;
}

void HostMirror::Download() {
  for (Array& array : arrays_) device_->Download(array.host.data(), array.data, array.bytes);
}

void HostMirror::Upload() {
  for (Array& array : arrays_) device_->Upload(array.data, array.host.data(), array.bytes);
}

}  // namespace unipool
