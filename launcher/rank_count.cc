#include "launcher/rank_count.h"

#include <algorithm>

#include "launcher/config.h"
#include "launcher/nearest_name.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

// Of "parallel.ranks=4", also with blanks around the field.
std::string FieldOf(const std::string& override_text) {
  std::string field = override_text.substr(0, override_text.find('='));
  std::erase(field, ' ');
  return field;
}
bool SetsRanks(const std::string& override_text) {
  return FieldOf(override_text) == "parallel.ranks";
}

bool Fits(const Config& config, int ranks) {
  Config tried = config;
  tried.mutable_parallel()->set_ranks(ranks);
  try {
    ValidateConfig(tried, ranks);
  } catch (const UserError&) {
    return false;
  }
  return true;
}

}  // namespace

std::string TakeLaunchedRanks(int launched, const std::vector<std::string>& overrides, Config& config) {
  ParallelConfig& parallel = *config.mutable_parallel();
  const bool is_given = parallel.has_ranks() && parallel.ranks() != 0;
  const int given = parallel.ranks();
  parallel.set_ranks(launched);
  if (!is_given || given == launched) return "";
  for (const std::string& override_text : overrides) {
    if (!SetsRanks(override_text)) continue;
    throw UserError(
        Format("parallel.ranks: the command line says %d, but the launcher (mpirun or srun) started %d; "
               "leave parallel.ranks out, or start %d processes",
               given, launched, given));
  }
  return Format(
      "%d rank%s, as the launcher (mpirun or srun) started; parallel.ranks: %d of the file holds without a "
      "launcher, for threads of one process",
      launched, launched == 1 ? "" : "s", given);
}

std::string TakeAllCores(int cores, Config& config) {
  ParallelConfig& parallel = *config.mutable_parallel();
  if (parallel.ranks() != 0) return "";
  if (config.device() == DeviceType::CUDA) {
    throw UserError("parallel.ranks: 0 (auto) counts cores; with device CUDA give the number of GPUs");
  }
  const int layout = std::max(1, parallel.stages() * parallel.pool_replicas());
  int ranks = std::max(cores, layout);
  while (ranks > 1 && !Fits(config, ranks)) --ranks;
  const bool fits = Fits(config, ranks);
  parallel.set_ranks(fits ? ranks : layout);
  if (!fits) return "";
  return Format("%d rank%s on %d core%s%s", ranks, ranks == 1 ? "" : "s", cores, cores == 1 ? "" : "s",
                ranks >= cores ? "" : "; batch and layout allow no larger number");
}

std::vector<std::string> SpellOutAuto(std::vector<std::string> overrides) {
  for (std::string& text : overrides) {
    const std::string field = FieldOf(text);
    const bool may_be_auto = field == "parallel.ranks" || field == "parallel.shadow_experts";
    if (!may_be_auto || text.find('=') == std::string::npos) continue;
    std::string value = text.substr(text.find('=') + 1);
    std::erase(value, ' ');
    if (EditDistance(value, "auto") == 0) text = field + (field == "parallel.ranks" ? "=0" : "=-1");
  }
  return overrides;
}

}  // namespace unipool
