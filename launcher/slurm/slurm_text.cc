#include "launcher/slurm/slurm_text.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "runtime/format.h"

namespace unipool {
namespace {

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (!line.empty()) lines.push_back(line);
  }
  return lines;
}

bool IsDigits(const std::string& text) {
  return !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos;
}

// "gpu:4", "gpu:a100:8(S:0-1)", several with commas.
int GpusOf(const std::string& resources) {
  int gpus = 0;
  for (std::string one : Split(resources, ',')) {
    if (one.rfind("gpu:", 0) != 0) continue;
    one = one.substr(0, one.find('('));
    gpus += std::atoi(one.substr(one.rfind(':') + 1).c_str());
  }
  return gpus;
}

// "3" or "08-10"; adds to names. Whether it was one.
bool AddRange(const std::string& before, const std::string& range, const std::string& after,
              std::vector<std::string>& names) {
  const size_t dash = range.find('-');
  const std::string first = range.substr(0, dash),
                    last = dash == std::string::npos ? first : range.substr(dash + 1);
  if (!IsDigits(first) || !IsDigits(last)) return false;
  const int64_t begin = std::stoll(first), end = std::stoll(last);
  if (end < begin || end - begin > 100'000) return false;
  for (int64_t i = begin; i <= end; ++i) {
    std::string number = std::to_string(i);
    if (number.size() < first.size()) number.insert(0, first.size() - number.size(), '0');
    names.push_back(before + number + after);
  }
  return true;
}

bool ExpandOne(const std::string& one, std::vector<std::string>& names) {
  const size_t open = one.find('[');
  if (open == std::string::npos) {
    names.push_back(one);
    return true;
  }
  const size_t close = one.find(']', open);
  if (close == std::string::npos || one.find('[', close) != std::string::npos) return false;
  for (const std::string& range : Split(one.substr(open + 1, close - open - 1), ',')) {
    if (!AddRange(one.substr(0, open), range, one.substr(close + 1), names)) return false;
  }
  return true;
}

}  // namespace

std::optional<int64_t> ParseSlurmTime(const std::string& text) {
  std::string clock = text;
  int64_t days = 0;
  const size_t dash = text.find('-');
  const bool has_days = dash != std::string::npos;
  if (has_days) {
    if (!IsDigits(text.substr(0, dash))) return std::nullopt;
    days = std::stoll(text.substr(0, dash));
    clock = text.substr(dash + 1);
  }
  std::vector<int64_t> parts;
  for (const std::string& part : Split(clock, ':')) {
    if (!IsDigits(part)) return std::nullopt;
    parts.push_back(std::stoll(part));
  }
  if (parts.size() > 3) return std::nullopt;
  if (has_days) {
    parts.resize(3);
  } else if (parts.size() < 3) {  // minutes first
    parts.insert(parts.begin(), 0);
    parts.resize(3);
  }
  return days * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2];
}

std::string SlurmTimeText(int64_t seconds) {
  const int64_t days = seconds / 86400, hours = seconds / 3600 % 24, minutes = seconds / 60 % 60;
  if (days == 0) return Format("%d:%02d:%02d", hours, minutes, seconds % 60);
  return Format("%d-%02d:%02d:%02d", days, hours, minutes, seconds % 60);
}

std::vector<std::string> ExpandNodeList(const std::string& list) {
  std::vector<std::string> names;
  std::string one;
  int depth = 0;
  for (const char c : list + ",") {
    depth += c == '[' ? 1 : c == ']' ? -1 : 0;
    if (c != ',' || depth > 0) {
      one += c;
      continue;
    }
    if (!one.empty() && !ExpandOne(one, names)) return {list};
    one.clear();
  }
  if (!one.empty()) return {list};
  return names;
}

std::vector<std::string> NodesOfHosts(const std::string& list, const std::vector<std::string>& hosts) {
  const std::vector<std::string> nodes = ExpandNodeList(list);
  const auto is_node = [&](const std::string& name) {
    return std::find(nodes.begin(), nodes.end(), name) != nodes.end();
  };
  std::vector<std::string> names;
  for (const std::string& host : hosts) {
    const std::string name = is_node(host) ? host : host.substr(0, host.find('.'));
    if (is_node(name)) names.push_back(name);
  }
  return names;
}

std::string JoinNodes(const std::vector<std::string>& nodes) {
  std::string text;
  for (const std::string& node : nodes) text += (text.empty() ? "" : ",") + node;
  return text;
}

std::vector<PartitionPart> ParsePartitions(const std::string& sinfo) {
  std::vector<PartitionPart> all;
  for (const std::string& line : Lines(sinfo)) {
    const std::vector<std::string> parts = Split(line, '|');
    if (parts.size() < 6) continue;
    all.push_back({.name = parts[0],
                   .limit_seconds = ParseSlurmTime(parts[1]),
                   .nodes = std::atoi(parts[2].c_str()),
                   .cpus = std::atoi(parts[3].c_str()),
                   .memory_mb = std::atoll(parts[4].c_str()),
                   .gpus = GpusOf(parts[5])});
  }
  return all;
}

std::optional<Preemption> ParsePreemption(const std::string& config, const std::string& partition) {
  Preemption preemption;
  bool is_known = false;
  std::string mode = ShownValue(partition, "PreemptMode"), type;
  for (const std::string& line : Lines(config)) {  // "KillWait                = 30 sec"
    std::istringstream words(line);
    std::string name, equals, value;
    words >> name >> equals >> value;
    if (equals != "=") continue;
    if (name == "KillWait") {
      preemption.kill_wait_seconds = std::atoll(value.c_str());
      is_known = true;
    }
    if (name == "PreemptType") type = value;
    if (name == "PreemptMode" && mode.empty()) mode = value;
  }
  if (!is_known) return std::nullopt;
  preemption.grace_seconds = std::atoll(ShownValue(partition, "GraceTime").c_str());
  const bool ends_jobs =
      mode.find("REQUEUE") != std::string::npos || mode.find("CANCEL") != std::string::npos;
  preemption.is_possible = ends_jobs && !type.empty() && type != "preempt/none" && type != "(null)";
  return preemption;
}

std::vector<QueuedJob> ParseQueue(const std::string& squeue) {
  std::vector<QueuedJob> jobs;
  for (const std::string& line : Lines(squeue)) {
    std::vector<std::string> parts = Split(line, '|');
    if (parts.size() < 8) continue;
    for (size_t i = 8; i < parts.size(); ++i) parts[7] += "|" + parts[i];
    jobs.push_back({parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], parts[6], parts[7]});
  }
  return jobs;
}

std::string ShownValue(const std::string& text, const std::string& name) {
  for (size_t at = text.find(name + "="); at != std::string::npos; at = text.find(name + "=", at + 1)) {
    if (at > 0 && text[at - 1] != ' ' && text[at - 1] != '\n') continue;
    const size_t begin = at + name.size() + 1;
    const std::string value = text.substr(begin, text.find_first_of(" \n", begin) - begin);
    return value == "(null)" ? "" : value;
  }
  return "";
}

std::vector<std::string> ParseMpiKinds(const std::string& text) {
  std::vector<std::string> kinds;
  for (std::string line : Lines(text)) {
    line.erase(0, line.find_first_not_of(" \t"));
    if (const size_t colon = line.find("srun: "); colon == 0) line.erase(0, 6);
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      if (word.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos)
        kinds.push_back(word);
    }
  }
  return kinds;
}

}  // namespace unipool
