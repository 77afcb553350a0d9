#include "launcher/rank_count.h"

#include "runtime/errors.h"

namespace unipool {
namespace {

// Of "parallel.ranks=4", also with blanks around the field.
bool SetsRanks(const std::string& override_text) {
  std::string field = override_text.substr(0, override_text.find('='));
  std::erase(field, ' ');
  return field == "parallel.ranks";
}

}  // namespace

std::string TakeLaunchedRanks(int launched, const std::vector<std::string>& overrides, Config& config) {
  ParallelConfig& parallel = *config.mutable_parallel();
  const bool is_given = parallel.has_ranks();
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

}  // namespace unipool
