#include "launcher/plan/core_quota.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

// "50000 100000": microseconds of each period. "max" and -1 are no limit.
double CoresOf(const std::string& microseconds, double period) {
  std::istringstream stream(microseconds);
  double quota = 0;
  return stream >> quota && quota > 0 && period > 0 ? quota / period : 0;
}

std::string FirstWord(const fs::path& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

double QuotaAt(const fs::path& folder) {
  std::ifstream unified(folder / "cpu.max");
  std::string quota;
  double period = 0;
  if (unified >> quota >> period) return CoresOf(quota, period);
  std::istringstream(FirstWord(folder / "cpu.cfs_period_us")) >> period;
  return CoresOf(FirstWord(folder / "cpu.cfs_quota_us"), period);
}

// The tightest of the group and those around it, up to where the hierarchy is mounted.
void LookUp(const fs::path& mount, const std::string& group, CoreQuota& tightest) {
  fs::path inside = fs::path(group).relative_path().lexically_normal();
  if (inside == ".") inside.clear();
  if (!inside.empty() && *inside.begin() == "..") return;  // of another namespace
  while (true) {
    const double cores = QuotaAt(mount / inside);
    if (cores > 0 && (tightest.cores == 0 || cores < tightest.cores))
      tightest = {.cores = cores, .group = "/" + inside.string()};
    if (inside.empty()) return;
    inside = inside.parent_path();
  }
}

}  // namespace

CoreQuota QuotaOf(const std::string& groups, const std::string& root) {
  CoreQuota tightest;
  std::istringstream lines(groups);
  // Number, controllers, group. The second version has no controllers.
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1),
                      group = line.substr(second + 1);
    if (controllers.empty()) LookUp(root, group, tightest);
    if (("," + controllers + ",").find(",cpu,") == line.npos) continue;
    for (const std::string& name : {controllers, std::string("cpu")}) {
      std::error_code ignored;
      if (!fs::is_directory(fs::path(root) / name, ignored)) continue;
      LookUp(fs::path(root) / name, group, tightest);
      break;
    }
  }
  return tightest;
}

CoreQuota OwnQuota() {
  std::ifstream file("/proc/self/cgroup");
  std::stringstream text;
  text << file.rdbuf();
  return QuotaOf(text.str(), "/sys/fs/cgroup");
}

std::string TextOf(const CoreQuota& quota) {
  return Format("%.17g %s", quota.cores, quota.group.c_str());
}

CoreQuota QuotaOfText(const std::string& text) {
  CoreQuota quota;
  std::istringstream stream(text);
  CHECK(stream >> quota.cores) << "'" << text << "' is no quota";
  stream.get();
  std::getline(stream, quota.group);
  return quota;
}

double CoresOfQuotas(const std::vector<CoreQuota>& ranks) {
  std::map<std::string, double> of_group;
  double all = 0;
  for (const CoreQuota& quota : ranks) {
    if (quota.cores <= 0) return 0;
    if (of_group.emplace(quota.group, quota.cores).second) all += quota.cores;
  }
  return all;
}

}  // namespace unipool
