#include "models/send_order.h"

#include <algorithm>
#include <numeric>

#include "kernels/host_values.h"
#include "parallel/shadow_placement.h"
#include "runtime/errors.h"

namespace unipool {

static_assert(kShareUnits == kDealUnits, "shares are dealt in their own units");

SendOrder::SendOrder(const ModelSpec& spec, const ExpertPlacement& placement, const SendOrderOptions& options,
                     Stream& stream, MemoryMeter& memory)
    : num_experts_(spec.experts), placement_(placement), options_(options), stream_(stream) {
  const int64_t p = placement.num_places();
  const int64_t deals = deals_rows() ? num_experts_ + 1 + p * (1 + options.layers.size()) : 0;
  buffer_ = Buffer::Allocate(memory, MemoryKind::kScratch, (num_experts_ + deals) * 4);
}

void SendOrder::Refresh() {
  values_.resize(num_experts_);
  for (int64_t expert = 0; expert < num_experts_; ++expert) {
    values_[expert] =
        static_cast<double>(deals_rows() ? expert : placement_.send_index(static_cast<int>(expert)));
  }
  SetValues(stream_, values_, index());
  if (!deals_rows() || sent_ == placement_) return;
  SendDeals();
  sent_ = placement_;
}

void SendOrder::SendDeals() {
  std::vector<double> first_copy{0}, place;
  for (int expert = 0; expert < num_experts_; ++expert) {
    const std::vector<int> places = placement_.places_of(expert);
    place.insert(place.end(), places.begin(), places.end());
    first_copy.push_back(static_cast<double>(place.size()));
  }
  num_copies_ = static_cast<int64_t>(place.size());
  SetValues(stream_, first_copy, Part(num_experts_, num_experts_ + 1));
  SetValues(stream_, place, Part(2 * num_experts_ + 1, num_copies_));
  for (int64_t layer = options_.layers.begin; layer < options_.layers.end; ++layer) {
    std::vector<int32_t> units;
    if (placement_.has_shares()) {
      units = SharesOfSource(placement_, placement_.shares(static_cast<int>(layer)), options_.sources,
                             options_.rank);
    }
    values_.clear();
    for (int expert = 0; expert < num_experts_; ++expert) {
      int32_t end = 0;
      for (int64_t i = std::llround(first_copy[expert]); i < std::llround(first_copy[expert + 1]); ++i) {
        end += units.empty() ? (end == 0 ? kShareUnits : 0) : units[std::llround(place[i])];
        values_.push_back(end);
      }
      CHECK_EQ(end, kShareUnits) << "units of expert " << expert << " in layer " << layer;
    }
    SetValues(stream_, values_, DealOf(static_cast<int>(layer)).end);
  }
}

Tensor SendOrder::Part(int64_t begin, int64_t size) const {
  return Tensor(static_cast<char*>(buffer_.data()) + begin * 4, DType::kI32, {size});
}

RowDeal SendOrder::DealOf(int layer) const {
  const int64_t places = 2 * num_experts_ + 1, ends = places + placement_.num_places();
  return {.first_copy = Part(num_experts_, num_experts_ + 1),
          .place = Part(places, num_copies_),
          .end = Part(ends + (layer - options_.layers.begin) * placement_.num_places(), num_copies_)};
}

int64_t SendOrder::Turn(int layer, int64_t microbatch) const {
  const auto own = std::find(options_.sources.begin(), options_.sources.end(), options_.rank);
  CHECK(own != options_.sources.end());
  const int64_t n = std::ssize(options_.sources);
  return (microbatch + layer) * n + (own - options_.sources.begin());
}

}  // namespace unipool
