#include "models/router_bias.h"

#include <algorithm>
#include <numeric>

#include "kernels/host_values.h"

namespace unipool {

RouterBias::RouterBias(const ModelSpec& spec, const BalanceOptions& options, DType dtype, Stream& stream,
                       MemoryMeter& memory)
    : spec_(spec), options_(options), stream_(stream), groups_(BalanceGroupsOf(spec)) {
  const int64_t bytes = size() * SizeOf(dtype);
  device_buffer_ = Buffer::Allocate(memory, MemoryKind::kScratch, bytes);
  device_bias_ = device_buffer_.View(dtype, {spec.num_balance_groups, spec.experts});
  host_buffer_ = Buffer::Allocate(host_memory_, MemoryKind::kScratch, std::max<int64_t>(1, bytes));
  host_bias_ = host_buffer_.View(dtype, {spec.num_balance_groups, spec.experts});
  Send();
}

Tensor RouterBias::of(int layer) const {
  if (!is_on()) return {};
  return device_bias_.Rows(spec_.balance_group[layer], 1).Reshape({spec_.experts});
}

void RouterBias::Update(std::span<const double> group_counts) {
  if (!is_on()) return;
  DispatchFloat(host_bias_.dtype, [&]<class T>() {
    for (int l = 0; l < spec_.layers; ++l) {
      const int g = spec_.balance_group[l];
      if (l > 0 && spec_.balance_group[l - 1] == g) continue;  // once per group
      const std::span<const double> counts = group_counts.subspan(g * spec_.experts, spec_.experts);
      const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
      const double mean = total / static_cast<double>(groups_[g].experts);
      for (int64_t i = 0; i < spec_.experts; ++i) {
        if (spec_.visible[l][i] == 0) continue;
        const double sign = counts[i] < mean ? 1 : counts[i] > mean ? -1 : 0;
        host_bias_.as<T>()[g * spec_.experts + i] += static_cast<T>(options_.coeff * sign);
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
  for (int64_t l = layers.begin; l < layers.end; ++l) {
    list.push_back({.name = "model.layers." + std::to_string(l) + ".mlp.router.bias",
                    .shape = {spec_.experts},
                    .value = host_bias_.Rows(spec_.balance_group[l], 1).Reshape({spec_.experts}),
                    .optional = true});
  }
  return list;
}

}  // namespace unipool
