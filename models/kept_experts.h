// Which experts of a pool stay when it shrinks (models/EXPERTS.md, "Shrinking").
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/config.pb.h"
#include "models/importance_history.h"

namespace unipool {

// Why a pool of these settings cannot shrink to `experts`, a sentence; "" when it can.
std::string WhyNotShrink(const Config& config, int64_t experts);

// [M] of what experts are kept by. UCB and COUNTS sum the history's numbers over layers; RANDOM draws from
// the seed. REQUIRES: history.exists(), but for RANDOM.
std::vector<double> KeepScore(ShrinkBy::Value by, const ImportanceHistory& history, uint64_t seed);

// The experts that stay, ascending: in each block of the pool (moe.sharing) those with the largest `score`
// [M], of equal ones the first. So a smaller choice by the same score lies inside a larger one. REQUIRES:
// WhyNotShrink is "".
std::vector<int64_t> KeptExperts(const Config& config, const std::vector<double>& score, int64_t experts);

}  // namespace unipool
