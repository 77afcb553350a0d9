// Sizes that cannot be: beyond what any machine holds or the program can count. They are found from the
// settings alone, before anything is computed from them in whole numbers.
#pragma once

#include <string>
#include <vector>

#include "configs/config.pb.h"

namespace unipool {

// Bytes that a model needs on all ranks together, in floating point, so that no size overflows.
struct SizeCost {
  std::string settings;  // "moe.experts x moe.width x model.hidden"
  double bytes = 0;
};
// Largest first: FP32 weights, gradients and moments by what they are of, and what one microbatch of each
// rank leaves. Every rank has dense weights and gradients of its own. Numbers below 0 count as 0.
std::vector<SizeCost> EstimateCosts(const Config& config, int ranks);

// "need 12.3 GB (moe.experts x moe.width x model.hidden 10.1 GB, ...)" of the two largest costs.
std::string CostText(const std::vector<SizeCost>& costs, double need);
// "12.3 GB", "4.5e+09 GB".
std::string SizeText(double bytes);

// One sentence for each size that cannot be, and for each product of sizes. Each tells the memory that the
// settings would need and what this host has.
std::vector<std::string> ImpossibleSizes(const Config& config, int world_size);

}  // namespace unipool
