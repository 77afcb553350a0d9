#include "launcher/traffic_report/recorded_run.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "launcher/traffic_report/recorded_json.h"
#include "launcher/version.h"
#include "runtime/errors.h"
#include "runtime/file_sum.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

// Paths of the folder's files of this beginning and end, by name.
std::vector<std::string> FilesNamed(const fs::path& folder, std::string_view begin, std::string_view end) {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), last; !error && it != last; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with(begin) && name.ends_with(end)) paths.push_back(it->path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

void KeepSteps(TrafficFile& file, const StepRange& steps) {
  std::erase_if(file.exchanges, [&](const RecordedExchange& e) { return !steps.Contains(e.record.step); });
  std::erase_if(file.steps, [&](const StepRecord& s) { return !steps.Contains(s.step); });
  file.exchanges.shrink_to_fit();
}

// Of steps that ended: what a killed run wrote of its last one says nothing whole.
void LeaveOutUnendedSteps(TrafficFile& file) {
  std::set<int64_t> ended;
  for (const StepRecord& step : file.steps) ended.insert(step.step);
  std::erase_if(file.exchanges, [&](const RecordedExchange& e) { return !ended.contains(e.record.step); });
}

class FolderReader {
 public:
  FolderReader(const std::string& run_dir, const StepRange& steps, int64_t most_bytes)
      : path_(fs::path(run_dir) / "traffic"), steps_(steps), most_bytes_(most_bytes) {
    folder_.run_dir = run_dir;
    std::error_code error;
    if (!fs::is_directory(run_dir, error)) throw UserError(run_dir + ": no such folder of a run");
    ReadManifest();
    ReadWindows();
    ReadFiles();
    if (folder_.windows.empty() && folder_.files.empty()) throw UserError(NothingText());
    AddVersions();
    AddProblems();
  }
  RecordedRun& folder() { return folder_; }

 private:
  std::string NothingText() const {
    std::error_code error;
    if (const auto windows = FilesNamed(path_, "window-", ".json");
        !windows.empty() && steps_.last < INT64_MAX)
      return Format("%s: no sums and no records of steps %d to %d; there are %s to %s", path_.string(),
                    steps_.first, steps_.last, fs::path(windows.front()).filename().string(),
                    fs::path(windows.back()).filename().string());
    if (fs::is_directory(path_ / "before-1", error))
      return path_.string() +
             ": the last start recorded nothing; before-N in it hold what earlier starts did";
    const std::string begin =
        fs::is_directory(path_, error)
            ? path_.string() +
                  ": no window and no exchange was recorded yet. A window is written every "
                  "traffic.every steps and when the run ends; while it goes on, a number of steps in " +
                  (path_ / "record").string() + " records every exchange of the next ones"
            : path_.string() + ": is not there, so no exchanges were recorded";
    return begin +
           "; train with traffic.record=SUMMARY (sums and matrices, the default) or "
           "traffic.record=FULL (every exchange of some steps)";
  }

  // Records of this format mean the same whichever program wrote them. What it decides from them may differ.
  void AddVersions() {
    std::set<std::string> others{folder_.manifest.program_version};
    for (const TrafficFile& file : folder_.files) others.insert(file.header.program_version);
    others.erase(ProgramVersion());
    others.erase("");
    for (const std::string& other : others)
      folder_.notes.push_back(
          Format("recorded by program version %s, read by program version %s: both write format %d", other,
                 ProgramVersion(), kTrafficFormat));
  }

  void AddProblems() {
    constexpr size_t kMostTold = 3;
    size_t count = 0;
    const std::string& problem = folder_.manifest.problem;
    if (!problem.empty()) folder_.notes.push_back("records end before the run does: " + problem);
    for (const TrafficFile& file : folder_.files) {
      if (file.header.problem.empty() || ++count > kMostTold) continue;
      folder_.notes.push_back(
          Format("%s: %s", (path_ / TrafficFileName(file.header.rank)).string(), file.header.problem));
    }
    if (count > kMostTold)
      folder_.notes.push_back(Format("so it is with files of %d more ranks", count - kMostTold));
  }

  // The rest of the folder may be whole. Another format is no damage.
  template <class Read>
  void LeaveOutDamaged(Read read) {
    try {
      read();
    } catch (const TrafficFormatError&) {
      throw;
    } catch (const UserError& problem) {
      folder_.notes.push_back(std::string(problem.what()) + "; it is left out");
    }
  }

  void ReadManifest() {
    const std::string path = (path_ / "manifest.json").string();
    std::error_code error;
    if (!fs::is_regular_file(path, error)) return;
    LeaveOutDamaged([&] { folder_.manifest = ParseRecordedManifest(ReadTextFile(path), path); });
  }

  void ReadWindows() {
    for (const std::string& path : FilesNamed(path_, "window-", ".json")) {
      LeaveOutDamaged([&] {
        RecordedWindow window = ParseRecordedWindow(ReadTextFile(path), path);
        if (folder_.manifest.world == 0) folder_.manifest.world = static_cast<int>(window.ranks.size());
        if (static_cast<int>(window.ranks.size()) != folder_.manifest.world)
          throw UserError(path + ": of another number of ranks");
        if (window.first_step <= steps_.last && window.last_step >= steps_.first)
          folder_.windows.push_back(std::move(window));
      });
    }
    std::sort(folder_.windows.begin(), folder_.windows.end(),
              [](const auto& a, const auto& b) { return a.first_step < b.first_step; });
  }

  void ReadFiles() {
    const std::vector<std::string> paths = FilesNamed(path_, "rank-", ".bin");
    int64_t bytes = 0;
    std::error_code error;
    for (const std::string& path : paths) bytes += static_cast<int64_t>(fs::file_size(path, error));
    const bool fits = bytes <= most_bytes_;
    for (const std::string& path : paths) {
      LeaveOutDamaged([&] {
        TrafficFile file = ReadTrafficFile(path, ProgramVersion());
        if (!Belongs(file, path)) return;
        if (file.cut_bytes > 0)
          folder_.notes.push_back(
              Format("%s: its last %d bytes are torn and were cut", path, file.cut_bytes));
        LeaveOutUnendedSteps(file);
        KeepSteps(file, steps_);
        if (!fits && folder_.files.empty() && !file.steps.empty()) Narrow(file, bytes);
        if (!fits) KeepSteps(file, steps_);
        folder_.files.push_back(std::move(file));
      });
    }
    if (fs::is_directory(path_ / "before-1", error))
      folder_.notes.push_back("records of earlier starts lie in " + path_.string() +
                              "/before-N; this is the last start that recorded");
    std::sort(folder_.files.begin(), folder_.files.end(),
              [](const auto& a, const auto& b) { return a.header.rank < b.header.rank; });
    FillManifest();
    if (const int missing = folder_.manifest.world - static_cast<int>(folder_.files.size());
        missing > 0 && !folder_.files.empty()) {
      folder_.notes.push_back(
          Format("records of %d of %d ranks are not there", missing, folder_.manifest.world));
    }
  }

  // As many of the last steps as fit, taking all steps for equally large.
  void Narrow(const TrafficFile& file, int64_t bytes) {
    const auto count = static_cast<int64_t>(file.steps.size());
    const int64_t kept = std::max<int64_t>(1, count * most_bytes_ / bytes);
    if (kept >= count) return;
    steps_.first = file.steps[count - kept].step;
    folder_.notes.push_back(
        Format("%d MB of records are more than are read at once: only steps from %d on are "
               "shown; --steps chooses others",
               bytes / 1000000, steps_.first));
  }

  bool Belongs(const TrafficFile& file, const std::string& path) {
    const TrafficHeader& header = file.header;
    RecordedManifest& manifest = folder_.manifest;
    if (manifest.run_id.empty()) manifest.run_id = header.run_id;
    if (manifest.world == 0) manifest.world = header.world;
    const bool is_known = header.world == manifest.world && header.rank >= 0 && header.rank < header.world;
    if (fs::path(path).filename() != TrafficFileName(header.rank)) {
      folder_.notes.push_back(Format("%s: holds records of rank %d; it is left out", path, header.rank));
      return false;
    }
    if (is_known && header.run_id == manifest.run_id) return true;
    folder_.notes.push_back(path + ": of another start of the run; it is left out");
    return false;
  }

  // What the manifest does not say, from the files.
  void FillManifest() {
    RecordedManifest& manifest = folder_.manifest;
    manifest.host_of_rank.resize(manifest.world);
    manifest.boot_id_of_rank.resize(manifest.world);
    manifest.host_cores_of_rank.resize(manifest.world, 0);
    const bool has_nodes = !manifest.node_of_rank.empty();
    manifest.node_of_rank.resize(manifest.world, 0);
    std::map<std::string, int> nodes;
    for (const TrafficFile& file : folder_.files) {
      const TrafficHeader& header = file.header;
      if (manifest.clock.empty()) manifest.clock = header.clock;
      if (manifest.slots_per_time == 0) manifest.slots_per_time = header.slots_per_time;
      if (manifest.host_of_rank[header.rank].empty()) manifest.host_of_rank[header.rank] = header.host;
      if (manifest.boot_id_of_rank[header.rank].empty())
        manifest.boot_id_of_rank[header.rank] = header.boot_id;
      if (!has_nodes) {
        manifest.node_of_rank[header.rank] =
            nodes.try_emplace(header.host, static_cast<int>(nodes.size())).first->second;
      }
    }
  }

  const fs::path path_;
  StepRange steps_;
  const int64_t most_bytes_;
  RecordedRun folder_;
};

}  // namespace

bool HasNoWire(const RecordedManifest& manifest) {
  const std::vector<int>& nodes = manifest.node_of_rank;
  return manifest.carrier != "emulated" && !manifest.device &&
         std::all_of(nodes.begin(), nodes.end(), [](int node) { return node == 0; });
}

std::vector<int64_t> RecordedRun::RecordedSteps() const {
  std::map<int64_t, int> counts;
  for (const TrafficFile& file : files) {
    for (const StepRecord& step : file.steps) ++counts[step.step];
  }
  std::vector<int64_t> steps;
  for (const auto& [step, count] : counts) {
    if (count == manifest.world) steps.push_back(step);
  }
  return steps;
}

RecordedRun ReadRecordedRun(const std::string& run_dir, const StepRange& steps, int64_t most_bytes) {
  return std::move(FolderReader(run_dir, steps, most_bytes).folder());
}

}  // namespace unipool
