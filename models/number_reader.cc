#include "models/number_reader.h"

namespace unipool {

NumberReader::NumberReader(DeviceContext* device)
    : device_(device), host_numbers_(kMostNumbers), numbers_(host_numbers_.data()) {
  if (!device_) return;
  numbers_ = static_cast<double*>(device_->AllocatePinned(kMostNumbers * 8));
  copied_ = device_->MakeEvent();
}

NumberReader::~NumberReader() {
  if (device_) device_->FreePinned(numbers_);
}

void NumberReader::Start(std::initializer_list<Tensor> numbers) {
  CHECK_LE(numbers.size(), size_t{kMostNumbers});
  double* to = numbers_;
  for (const Tensor& number : numbers) {
    if (device_) {
      device_->Copy(DeviceQueue::kCompute, to++, number.data, 8);
    } else {
      *to++ = number.as<double>()[0];
    }
  }
  if (device_) device_->Record(copied_, DeviceQueue::kCompute);
}

std::span<const double> NumberReader::Finish(const ExchangeLabel& label) {
  if (device_) device_->WaitOnHost(copied_, label);
  return {numbers_, kMostNumbers};
}

}  // namespace unipool
