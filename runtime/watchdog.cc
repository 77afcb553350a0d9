#include "runtime/watchdog.h"

#include <unistd.h>

#include <cstdio>

#include "runtime/errors.h"

namespace unipool {

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

std::string StuckMessage(const StuckReport& report) {
  std::string text =
      Format("stuck: rank %d has waited %.1f s in %s for %s", report.rank, report.waited_seconds,
             Describe(report.label).c_str(), NameRanks(report.missing).c_str());
  if (!report.silent.empty()) {
    text += "; no sign of life from " + NameRanks(report.silent) + " (busy, stopped or dead)";
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
