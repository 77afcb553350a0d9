#include "runtime/mpi_leftovers.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <set>
#include <vector>

#include "runtime/watchdog.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

using FileId = std::pair<dev_t, ino_t>;

struct Candidate {
  fs::path path;
  std::set<FileId> files;  // it, or the regular files below it
  int64_t bytes = 0;
  bool is_folder = false;
};

bool StartsWith(const std::string& text, const std::string& begin) {
  return text.compare(0, begin.size(), begin) == 0;
}

// Open MPI names things by the host's name without its domain.
std::string ShortHostName() {
  const std::string name = HostName();
  return name.substr(0, name.find('.'));
}

std::vector<std::string> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  DIR* const dir = opendir(folder.c_str());
  if (!dir) return names;
  while (const dirent* entry = readdir(dir)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  closedir(dir);
  return names;
}

class Cleaner {
 public:
  explicit Cleaner(const LeftoverPlaces& places) : places_(places), host_(ShortHostName()) {
    if (places_.temporary.empty()) {
      const char* folder = std::getenv("TMPDIR");
      places_.temporary = folder && *folder ? folder : "/tmp";
    }
  }

  Leftovers Run() {
    FindSegments();
    FindFolders();
    Leftovers gone;
    std::set<FileId> mapped;
    if (candidates_.empty() || !CollectMapped(mapped)) return gone;
    for (const Candidate& candidate : candidates_) {
      bool is_used = false;
      for (const FileId& file : candidate.files) is_used = is_used || mapped.count(file) > 0;
      std::error_code error;
      if (is_used || fs::remove_all(candidate.path, error) == 0 || error) continue;
      gone.bytes += candidate.bytes;
      ++(candidate.is_folder ? gone.folders : gone.segments);
    }
    return gone;
  }

 private:
  // This user's, and not young.
  bool IsOurs(const struct stat& info) const {
    return info.st_uid == geteuid() && info.st_mtime <= std::time(nullptr) - places_.youngest_seconds;
  }

  void FindSegments() {
    for (const std::string& name : NamesIn(places_.shared_memory)) {
      if (!StartsWith(name, "vader_segment." + host_ + ".") && !StartsWith(name, "sm_segment." + host_ + "."))
        continue;
      struct stat info {};
      const fs::path path = fs::path(places_.shared_memory) / name;
      if (lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode) || !IsOurs(info)) continue;
      candidates_.push_back(
          {.path = path, .files = {{info.st_dev, info.st_ino}}, .bytes = int64_t{info.st_blocks} * 512});
    }
  }

  void FindFolders() {
    const std::string user = std::to_string(geteuid());
    const fs::path sessions = fs::path(places_.temporary) / ("ompi." + host_ + "." + user);
    for (const std::string& name : NamesIn(sessions)) {
      const bool has_pid = StartsWith(name, "pid.");
      if (has_pid || StartsWith(name, "jf.")) AddFolder(sessions / name, has_pid ? name.substr(4) : "");
    }
    const std::string prte = "prte." + host_ + ".";  // prte.HOST.PID.UID
    for (const std::string& name : NamesIn(places_.temporary)) {
      if (StartsWith(name, prte)) AddFolder(fs::path(places_.temporary) / name, name.substr(prte.size()));
    }
  }

  // launcher: text that begins with its process number; empty: not known.
  void AddFolder(const fs::path& path, const std::string& launcher) {
    struct stat info {};
    if (lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || !IsOurs(info)) return;
    const pid_t pid = std::atoi(launcher.c_str());
    if (pid > 0 && (kill(pid, 0) == 0 || errno != ESRCH)) return;
    if (pid <= 0 && info.st_mtime > std::time(nullptr) - kYoungestUnknownSeconds) return;
    Candidate candidate{.path = path, .is_folder = true};
    std::error_code error;
    for (auto entry = fs::recursive_directory_iterator(path, error);
         !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
      if (lstat(entry->path().c_str(), &info) == 0 && S_ISREG(info.st_mode))
        candidate.files.insert({info.st_dev, info.st_ino});
    }
    if (!error) candidates_.push_back(std::move(candidate));
  }

  // False when a process could not be looked into.
  bool CollectMapped(std::set<FileId>& mapped) const {
    for (const std::string& name : NamesIn(places_.processes)) {
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      const std::string folder = places_.processes + "/" + name;
      struct stat info {};
      if (stat(folder.c_str(), &info) != 0 || (geteuid() != 0 && info.st_uid != geteuid())) continue;
      std::ifstream maps(folder + "/maps");
      if (!maps && name != "1" && access((folder + "/maps").c_str(), F_OK) == 0) return false;
      for (std::string line; std::getline(maps, line);) {
        unsigned major = 0, minor = 0;
        unsigned long long inode = 0;
        // address permissions offset device inode
        if (std::sscanf(line.c_str(), "%*s %*s %*s %x:%x %llu", &major, &minor, &inode) == 3 && inode != 0) {
          mapped.insert({makedev(major, minor), static_cast<ino_t>(inode)});
        }
      }
    }
    return true;
  }

  static constexpr int kYoungestUnknownSeconds = 60;
  LeftoverPlaces places_;
  const std::string host_;
  std::vector<Candidate> candidates_;
};

}  // namespace

Leftovers RemoveMpiLeftovers(const LeftoverPlaces& places) {
  return Cleaner(places).Run();
}

}  // namespace unipool
