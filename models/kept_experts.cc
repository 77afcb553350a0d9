#include "models/kept_experts.h"

#include <algorithm>
#include <numeric>

#include "models/lock/lock_plan.h"
#include "runtime/format.h"
#include "runtime/random.h"

namespace unipool {
namespace {

// Blocks of consecutive experts that are chosen from separately.
int64_t NumBlocks(const Config& config) {
  const MoeConfig& moe = config.moe();
  if (moe.sharing() == Sharing::GROUPED) return moe.groups();
  return moe.sharing() == Sharing::PRIVATE ? config.model().layers() : 1;
}

}  // namespace

std::string WhyNotShrink(const Config& config, int64_t experts) {
  const MoeConfig& moe = config.moe();
  if (HasLock(config)) return "a pool whose experts are given to layers (moe.lock) cannot shrink";
  if (moe.sharing() != Sharing::GLOBAL && moe.sharing() != Sharing::GROUPED &&
      moe.sharing() != Sharing::PRIVATE) {
    return Format("a pool with moe.sharing %s cannot shrink; GLOBAL, GROUPED and PRIVATE can",
                  Sharing::Value_Name(moe.sharing()).c_str());
  }
  if (experts >= moe.experts() || experts < 1) {
    return Format("is %d; must be at least 1 and below the %d experts of the pool", experts, moe.experts());
  }
  const int64_t blocks = NumBlocks(config);
  if (experts % blocks != 0) {
    return Format("is %d; must be a multiple of the %d blocks of the pool (moe.sharing %s)", experts, blocks,
                  Sharing::Value_Name(moe.sharing()).c_str());
  }
  if (experts / blocks < moe.top_k()) {
    return Format("is %d, which leaves each layer %d experts; moe.top_k is %d", experts, experts / blocks,
                  moe.top_k());
  }
  return "";
}

std::vector<int64_t> KeptExperts(const Config& config, const std::vector<double>& score, int64_t experts) {
  const int64_t blocks = NumBlocks(config), size = config.moe().experts() / blocks;
  std::vector<int64_t> kept;
  for (int64_t block = 0; block < blocks; ++block) {
    std::vector<int64_t> order(size);
    std::iota(order.begin(), order.end(), block * size);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return score[a] > score[b]; });
    kept.insert(kept.end(), order.begin(), order.begin() + experts / blocks);
  }
  std::sort(kept.begin(), kept.end());
  return kept;
}

std::vector<double> KeepScore(ShrinkBy::Value by, const ImportanceHistory& history, uint64_t seed) {
  const int64_t experts = history.experts();
  std::vector<double> score(experts);
  if (by == ShrinkBy::RANDOM) {
    const uint64_t key = RandomBits(HashBytes("experts to keep"), seed);
    for (int64_t i = 0; i < experts; ++i) score[i] = RandomUniform(key, i);
    return score;
  }
  const std::vector<double> numbers = by == ShrinkBy::UCB ? history.Ucb() : history.Counts();
  for (size_t i = 0; i < numbers.size(); ++i) score[i % experts] += numbers[i];
  return score;
}

}  // namespace unipool
