#include "models/host_reader.h"

#include <bit>

namespace unipool {

HostReader::HostReader(DeviceContext* device) : device_(device) {
  if (device_) copied_ = device_->MakeEvent();
}

HostReader::~HostReader() {
  if (pinned_) device_->FreePinned(pinned_);
}

const void* HostReader::OnHost(const Tensor& part) {
  if (!device_) return part.data;
  if (pinned_bytes_ < part.bytes()) {
    if (pinned_) device_->FreePinned(pinned_);
    pinned_ = device_->AllocatePinned(part.bytes());
    pinned_bytes_ = part.bytes();
  }
  device_->Copy(DeviceQueue::kCompute, pinned_, part.data, part.bytes());
  device_->Record(copied_, DeviceQueue::kCompute);
  device_->WaitOnHost(copied_, {.operation = "numbers of a forward pass"});
  return pinned_;
}

std::vector<double> HostReader::Read(const Tensor& tensor, int64_t rows) {
  const Tensor part = tensor.Rows(0, rows);
  const void* data = OnHost(part);
  std::vector<double> numbers(part.size());
  const auto fill = [&]<class T>(const T* values) { std::copy_n(values, numbers.size(), numbers.begin()); };
  switch (tensor.dtype) {
    case DType::kF32:
      fill(static_cast<const float*>(data));
      break;
    case DType::kF64:
      fill(static_cast<const double*>(data));
      break;
    case DType::kI32:
      fill(static_cast<const int32_t*>(data));
      break;
    case DType::kI64:
      fill(static_cast<const int64_t*>(data));
      break;
    case DType::kBF16:  // the upper half of an F32
      for (size_t i = 0; i < numbers.size(); ++i) {
        const uint32_t upper = static_cast<const uint16_t*>(data)[i];
        numbers[i] = std::bit_cast<float>(upper << 16);
      }
  }
  return numbers;
}

}  // namespace unipool
