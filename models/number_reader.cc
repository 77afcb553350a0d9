#include "models/number_reader.h"

#include <algorithm>

namespace unipool {

NumberReader::NumberReader(DeviceContext* device, int64_t most_numbers)
    : device_(device),
      most_numbers_(most_numbers),
      host_numbers_(most_numbers),
      numbers_(host_numbers_.data()) {
  if (!device_) return;
  numbers_ = static_cast<double*>(device_->AllocatePinned(most_numbers * 8));
  copied_ = device_->MakeEvent();
}

NumberReader::~NumberReader() {
  if (device_) device_->FreePinned(numbers_);
}

void NumberReader::Start(std::initializer_list<Tensor> numbers) {
  double* to = numbers_;
  for (const Tensor& number : numbers) {
    CHECK_LE(to - numbers_ + number.size(), most_numbers_);
    if (device_) {
      device_->Copy(DeviceQueue::kCompute, to, number.data, number.size() * 8);
    } else {
      std::copy_n(number.as<double>(), number.size(), to);
    }
    to += number.size();
  }
  if (device_) device_->Record(copied_, DeviceQueue::kCompute);
}

std::span<const double> NumberReader::Finish(const ExchangeLabel& label) {
  if (device_) device_->WaitOnHost(copied_, label);
  return {numbers_, static_cast<size_t>(most_numbers_)};
}

}  // namespace unipool
