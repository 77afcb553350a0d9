#include "runtime/watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "runtime/errors.h"

namespace unipool {

namespace {

std::vector<std::string> HostsOf(const std::vector<int>& ranks, const std::vector<std::string>& hosts) {
  std::vector<std::string> distinct;
  for (const int rank : ranks) {
    if (rank >= static_cast<int>(hosts.size())) continue;
    if (std::find(distinct.begin(), distinct.end(), hosts[rank]) == distinct.end()) {
      distinct.push_back(hosts[rank]);
    }
  }
  return distinct;
}

}  // namespace

std::chrono::milliseconds PatientClock::SliceOf(std::chrono::milliseconds limit) {
  if (limit.count() == 0) return kLongestSlice;
  return std::clamp(limit / 8, std::chrono::milliseconds(1), kLongestSlice);
}

double PatientClock::Look(Clock::time_point now) {
  seconds_ += std::chrono::duration<double>(std::min<Clock::duration>(now - last_, longest_slice_)).count();
  last_ = now;
  return seconds_;
}

Patience::Patience(std::chrono::milliseconds limit)
    : limit_seconds_(std::chrono::duration<double>(limit).count()), deadline_(limit_seconds_) {}

bool Patience::IsOver(double waited_seconds, const std::function<bool()>& someone_at_files) {
  if (waited_seconds < last_) {
    deadline_ = limit_seconds_;
    excused_ = false;
  }
  last_ = waited_seconds;
  if (limit_seconds_ == 0 || waited_seconds < deadline_) return false;
  if (someone_at_files()) {
    excused_ = true;
    deadline_ = waited_seconds + limit_seconds_ / 8;
    return false;
  }
  if (!excused_) return true;
  excused_ = false;
  deadline_ = waited_seconds + limit_seconds_;
  return false;
}

std::string Describe(const ExchangeLabel& label) {
  std::string text = Format("'%s'", label.operation);
  if (label.step >= 0) text += Format(", step %d", label.step);
  if (label.slot >= 0) text += Format(", slot %d", label.slot);
  return text;
}

std::string NameRanks(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) text += (i ? ", " : "") + std::to_string(ranks[i]);
  return text;
}

std::string NameHosts(const std::vector<int>& ranks, const std::vector<std::string>& hosts) {
  std::string text;
  for (const std::string& host : HostsOf(ranks, hosts)) text += (text.empty() ? "" : ", ") + host;
  return text;
}

std::string FileWorkText(const char* what, std::chrono::steady_clock::duration done) {
  return Format("is at file work: %s, for %.1f s", what, std::chrono::duration<double>(done).count());
}

std::string HostName() {
  char name[256] = "";
  gethostname(name, sizeof(name) - 1);
  return name;
}

std::vector<std::string> SuspectsOf(const StuckReport& report) {
  return HostsOf(report.silent, report.hosts);
}

std::string StuckMessage(const StuckReport& report) {
  std::string text =
      Format("stuck: rank %d has waited %.1f s in %s for %s", report.rank, report.waited_seconds,
             Describe(report.label).c_str(), NameRanks(report.missing).c_str());
  if (!report.silent.empty()) {
    text += "; no sign of life from " + NameRanks(report.silent) + " (busy, stopped or dead)";
    const std::string hosts = NameHosts(report.silent, report.hosts);
    if (!hosts.empty()) text += " on " + hosts;
  }
  for (const std::string& line : report.others) text += "; " + line;
  return text + ". The job ends.";
}

void PrintErrorLine(const std::string& line) {
  std::fflush(stdout);
  const std::string text = line + "\n";
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = write(STDERR_FILENO, text.data() + done, text.size() - done);
    if (n <= 0) return;
    done += n;
  }
}

}  // namespace unipool
