#include "models/router_bias.h"

#include <algorithm>
#include <numeric>

#include "kernels/host_values.h"

namespace unipool {

RouterBias::RouterBias(const ModelSpec& spec, const BalanceOptions& options, DType dtype, Stream& stream,
                       MemoryMeter& memory)
    : spec_(spec), options_(options), stream_(stream), counts_(size()), is_seen_(size()) {
  const int64_t bytes = size() * SizeOf(dtype);
  device_buffer_ = Buffer::Allocate(memory, MemoryKind::kScratch, bytes);
  device_bias_ = device_buffer_.View(dtype, {num_rows(), spec.experts});
  host_buffer_ = Buffer::Allocate(host_memory_, MemoryKind::kScratch, std::max<int64_t>(1, bytes));
  host_bias_ = host_buffer_.View(dtype, {num_rows(), spec.experts});
  SetVisibility(Visibility(spec));
  Send();
}

void RouterBias::SetVisibility(const Visibility& visibility) {
  std::fill(is_seen_.begin(), is_seen_.end(), false);
  for (int layer = 0; layer < spec_.layers; ++layer) {
    for (int64_t i = 0; i < spec_.experts; ++i) {
      if (visibility.may_choose(layer, i)) is_seen_[RowOf(layer) * spec_.experts + i] = true;
    }
  }
}

Tensor RouterBias::of(int layer) const {
  if (!is_on()) return {};
  return device_bias_.Rows(RowOf(layer), 1).Reshape({spec_.experts});
}

int64_t RouterBias::num_rows() const {
  return options_.bias_scope == BiasScope::LAYER ? spec_.layers : spec_.num_balance_groups;
}

int64_t RouterBias::RowOf(int64_t layer) const {
  return options_.bias_scope == BiasScope::LAYER ? layer : spec_.balance_group[layer];
}

void RouterBias::Count(std::span<const double> layer_counts) {
  std::fill(counts_.begin(), counts_.end(), 0.0);
  for (int64_t l = 0; l < spec_.layers; ++l) {
    const int64_t first = RowOf(l) * spec_.experts;
    for (int64_t i = 0; i < spec_.experts; ++i) counts_[first + i] += layer_counts[l * spec_.experts + i];
  }
}

void RouterBias::Update(std::span<const double> layer_counts) {
  if (!is_on()) return;
  Count(layer_counts);
  DispatchFloat(host_bias_.dtype, [&]<class T>() {
    for (int64_t first = 0; first < size(); first += spec_.experts) {
      const auto counts = counts_.begin() + first, end = counts + spec_.experts;
      const auto seen = is_seen_.begin() + first;
      const double mean = std::accumulate(counts, end, 0.0) /
                          static_cast<double>(std::count(seen, seen + spec_.experts, true));
      for (int64_t i = 0; i < spec_.experts; ++i) {
        const double sign = counts[i] < mean ? 1 : counts[i] > mean ? -1 : 0;
        if (seen[i]) host_bias_.as<T>()[first + i] += static_cast<T>(options_.coeff * sign);
      }
    }
  });
  Send();
}

void RouterBias::Send() {
  if (!is_on()) return;
  sent_.resize(size());
  DispatchFloat(host_bias_.dtype, [&]<class T>() { std::copy_n(host_bias_.as<T>(), size(), sent_.begin()); });
  SetValues(stream_, sent_, device_bias_.Reshape({size()}));
}

std::vector<DiskTensor> RouterBias::DiskTensors(Range layers) const {
  std::vector<DiskTensor> list;
  if (!is_on()) return list;
  const char* name = options_.bias_scope == BiasScope::LAYER ? "layer_bias" : "bias";
  for (int64_t l = layers.begin; l < layers.end; ++l) {
    list.push_back({.name = "model.layers." + std::to_string(l) + ".mlp.router." + name,
                    .shape = {spec_.experts},
                    .value = host_bias_.Rows(RowOf(l), 1).Reshape({spec_.experts}),
                    .optional = true});
  }
  return list;
}

}  // namespace unipool
