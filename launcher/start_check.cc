#include "launcher/start_check.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "launcher/checkpoints/weight_check.h"
#include "launcher/config.h"
#include "launcher/data/data_print.h"
#include "launcher/size_check.h"
#include "models/memory_plan.h"
#include "models/settings.h"
#include "runtime/errors.h"
#include "runtime/host_memory.h"
#include "runtime/watchdog.h"

namespace unipool {
namespace {

std::vector<std::string> Gather(World& world, const std::string& text, const char* operation) {
  return world.communicator->AllGatherText(text, {.operation = operation, .step = -1, .slot = -1});
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The lines of both texts that differ: `RANK 0: a / RANK 2: b`.
std::string DifferentLines(const std::string& first, const std::string& other, int rank) {
  const std::vector<std::string> a = Lines(first), b = Lines(other);
  std::string text;
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    const std::string left = i < a.size() ? a[i] : "nothing", right = i < b.size() ? b[i] : "nothing";
    if (left == right) continue;
    text += (text.empty() ? "" : "; ") +
            Format("rank 0 has %s, rank %d has %s", left.c_str(), rank, right.c_str());
  }
  return text;
}

std::string DataText(const Config& config) {
  std::string text;
  for (const std::string& line : DescribeData(config)) text += line + '\n';
  return text;
}

// Waits a little: a shared file system may show a new file late.
bool Appears(const std::filesystem::path& path) {
  using std::chrono::milliseconds;
  std::error_code ignored;
  for (int i = 0; i < 50; ++i) {
    if (std::filesystem::exists(path, ignored)) return true;
    std::this_thread::sleep_for(milliseconds(100));
  }
  return false;
}

std::string TokenName() {
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  return Format("seen-by-all-ranks-%d-%d", now, getpid());
}

}  // namespace

void CheckSameSettings(const Config& config, World& world) {
  if (!world.is_mpi || world.size() == 1) return;
  const std::vector<std::string> all = Gather(world, ResolvedConfigText(config), "compare settings");
  Problems problems;
  for (int rank = 1; rank < world.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    problems.Add(
        Format("ranks have different settings: %s; start all ranks with the same file and command line",
               SettingDifferences(all[0], all[rank], "on rank 0", Format("on rank %d", rank))));
  }
  problems.ThrowIfAny();
}

void CheckSameData(const Config& config, World& world) {
  if (!world.is_mpi || world.size() == 1) return;
  const std::vector<std::string> all = Gather(world, DataText(config), "compare data");
  Problems problems;
  for (int rank = 1; rank < world.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    problems.Add("ranks see different data: " + DifferentLines(all[0], all[rank], rank) +
                 "; give all hosts the same files");
  }
  problems.ThrowIfAny();
}

void CheckSharedFolder(const std::string& run_dir, World& world) {
  if (!world.is_mpi || world.size() == 1) return;
  std::error_code failed;
  std::string name;
  bool is_new = false;
  if (world.rank() == 0) {
    is_new = std::filesystem::create_directories(run_dir, failed);
    name = TokenName();
    // What cannot be written here is told by those who write the run's files.
    if (!(std::ofstream(std::filesystem::path(run_dir) / name) << name << std::flush)) name.clear();
  }
  name = Gather(world, name, "look for run_dir")[0];
  std::string host;
  if (!name.empty() && !Appears(std::filesystem::path(run_dir) / name)) host = HostName();
  const std::vector<std::string> blind = Gather(world, host, "look for run_dir");
  Problems problems;
  for (int rank = 0; rank < world.size(); ++rank) {
    if (blind[rank].empty()) continue;
    problems.Add(
        Format("run_dir %s: is not the same folder on all hosts: rank %d (host %s) does not see what rank 0 "
               "writes there; put it on a file system that all hosts share",
               run_dir.c_str(), rank, blind[rank].c_str()));
  }
  if (world.rank() == 0 && !name.empty())
    std::filesystem::remove(std::filesystem::path(run_dir) / name, failed);
  if (is_new && !problems.empty()) std::filesystem::remove(run_dir, failed);  // only where it is empty
  problems.ThrowIfAny();
}

void CheckMemory(const Config& config, World& world) {
  if (DeviceOf(config) != Device::kCpu) return;  // the arrays are the device's
  const MeshShape shape = MeshShapeOf(config.parallel(), world.size());
  const int64_t own = PlanMemory(config, shape, world.rank()).total();
  const std::string host = HostName();
  double on_host = 0;
  int ranks = 0;
  for (const std::string& text : Gather(world, std::to_string(own) + ' ' + host, "plan memory")) {
    const size_t blank = text.find(' ');
    if (text.substr(blank + 1) != host) continue;
    on_host += std::stod(text.substr(0, blank));
    ++ranks;
  }
  RunTogether(*world.communicator, [&] {
    const auto check = [&](double need, int count, const MemoryLimit& have) {
      if (have.bytes == kNoMemoryLimit || need <= static_cast<double>(have.bytes)) return;
      throw UserError(
          Format("these settings %s of memory for %d rank%s of host %s, but there are %s (%s); make one of "
                 "them smaller, or use more hosts; `unipool info` shows the memory of each rank",
                 CostText(EstimateCosts(config, count), need).c_str(), count, count == 1 ? "" : "s",
                 host.c_str(), SizeText(static_cast<double>(have.bytes)).c_str(), have.name.c_str()));
    };
    check(on_host, ranks, HostMemoryLimit());
    check(world.is_mpi ? static_cast<double>(own) : on_host, world.is_mpi ? 1 : ranks, ProcessMemoryLimit());
  });
}

void CheckStart(const Config& config, World& world) {
  CheckSameSettings(config, world);
  CheckMemory(config, world);
  CheckSameData(config, world);
  CheckSharedFolder(config.run_dir(), world);
}

}  // namespace unipool
