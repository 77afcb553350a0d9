#include "launcher/checkpoints/space_check.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <limits>

#include "launcher/reports/readable_number.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

}  // namespace

int64_t CheckpointBytes(Communicator& world, const CheckpointView& view) {
  int64_t own = 0;
  for (const auto* tensors : {&view.tensors, &view.state}) {
    for (const DiskTensor& tensor : *tensors) {
      if (tensor.is_saved()) own += tensor.value.bytes();
    }
  }
  for (const OptimizerPiece& piece : view.pieces) {
    if (piece.writes) own += piece.first_moment.bytes() + piece.second_moment.bytes();
  }
  int64_t all = 0;
  for (const std::string& bytes :
       world.AllGatherText(std::to_string(own), {.operation = "size of a checkpoint"})) {
    all += std::stoll(bytes);
  }
  return all;
}

int64_t CheckpointsToAdd(const TrainConfig& train, int64_t step, int64_t existing) {
  const int64_t steps = train.steps() - step, every = train.save_every();
  if (steps <= 0) return 0;
  const int64_t by_step = every > 0 ? (steps + every - 1) / every : 1;
  if (train.keep_checkpoints() == 0) return by_step;
  const int64_t saves = train.save_minutes() > 0 ? std::numeric_limits<int64_t>::max() : by_step;
  return std::min(saves, std::max<int64_t>(train.keep_checkpoints() + 1 - existing, 1));
}

std::string SpaceWarning(const std::string& run_dir, int64_t bytes, int64_t count, int64_t free) {
  if (free < 0 || count == 0) return "";
  const std::string one = FormatBytes(bytes), have = FormatBytes(free);
  if (free < bytes) {
    throw UserError(Format("run_dir %s: a checkpoint takes %s, and its disk has %s free; make room or choose "
                           "another run_dir",
                           run_dir.c_str(), one.c_str(), have.c_str()),
                    kNotSavedExitCode);
  }
  if (free / count >= bytes) return "";
  return Format(
      "run_dir %s: its disk has %s free, and up to %d checkpoints of %s, %s, will be added; make "
      "room, or lower train.keep_checkpoints (0 keeps all)",
      run_dir.c_str(), have.c_str(), count, one.c_str(),
      FormatBytes(std::min(bytes, kMost / count) * count).c_str());
}

int64_t FreeBytes(const std::string& folder) {
  struct statvfs disk = {};
  if (statvfs(folder.c_str(), &disk) != 0 || disk.f_blocks == 0) return -1;
  const double bytes = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
  return bytes < 9e18 ? static_cast<int64_t>(bytes) : std::numeric_limits<int64_t>::max();
}

}  // namespace unipool
