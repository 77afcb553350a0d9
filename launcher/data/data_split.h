// data.split: how a source is cut into training, validation and test. Its one parser.
#pragma once

#include <array>
#include <string>

namespace unipool {

enum class Split { kTrain, kValid, kTest };

// Where the splits begin and end, as shares of a source: split i is [bounds[i], bounds[i + 1]).
using SplitBounds = std::array<double, 4>;

// "969,30,1" becomes {0, 0.969, 0.999, 1}: three shares of at least 0, separated by commas, not all of them
// 0. Their sum need not be 1. A split whose share is 0 is empty. Throws UserError naming data.split.
SplitBounds ParseDataSplit(const std::string& split);

}  // namespace unipool
