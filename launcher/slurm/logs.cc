// The log of a submitted run: the part of its newest start. --follow prints what is added, also by later
// starts, until no start is due.
#include <gflags/gflags.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <thread>

#include "launcher/commands.h"
#include "launcher/slurm/start_ledger.h"
#include "launcher/standard_output.h"
#include "runtime/errors.h"

DEFINE_bool(follow, false, "logs: go on printing what is added, until no start of the run is due");

namespace unipool {
namespace {

constexpr auto kPause = std::chrono::milliseconds(300);

// The newest start of the newest submission; null: none has begun.
const LedgerStart* Newest(const Ledger& ledger) {
  if (ledger.submissions.empty() || ledger.submissions.back().starts.empty()) return nullptr;
  return &ledger.submissions.back().starts.back();
}

// Where the line before `offset` begins: the script's own about the start.
int64_t LineBefore(std::ifstream& file, int64_t offset) {
  int64_t at = offset - 1;
  for (char c = 0; at > 0; --at) {
    file.seekg(at - 1);
    file.get(c);
    if (c == '\n') break;
  }
  file.clear();
  return std::max<int64_t>(at, 0);
}

// Prints from `offset` to the end. Returns where that is.
int64_t Print(const std::string& path, int64_t offset) {
  std::ifstream file(path, std::ios::binary);
  file.seekg(offset);
  char piece[1 << 16];
  while (file.read(piece, sizeof(piece)) || file.gcount() > 0) {
    PrintResult(std::string(piece, file.gcount()));
    offset += file.gcount();
  }
  return offset;
}

bool IsOver(const LedgerStart& start) {
  return start.end && (start.end->action == StartAction::kDone || start.end->action == StartAction::kGiveUp);
}

}  // namespace

int LogsCommand(const CommandLine& command_line) {
  std::string run_dir = command_line.config_path;
  while (run_dir.size() > 1 && run_dir.back() == '/') run_dir.pop_back();
  Ledger ledger = ReadLedger(run_dir);
  const LedgerStart* start = Newest(ledger);
  if (!start) {
    throw UserError(run_dir + (ledger.submissions.empty()
                                   ? ": was not submitted, so no log of it is kept"
                                   : ": none of its jobs has begun, so there is no log yet; unipool status " +
                                         run_dir + " tells why"));
  }
  std::string path = LogOf(run_dir, *start);
  std::ifstream file(path, std::ios::binary);
  if (!file) throw UserError(path + ": the log cannot be read; was it moved?");
  int64_t offset = Print(path, LineBefore(file, start->log_offset));
  while (FLAGS_follow && !IsOver(*start)) {
    std::this_thread::sleep_for(kPause);
    offset = Print(path, offset);
    ledger = ReadLedger(run_dir);
    start = Newest(ledger);
    if (!start) break;
    if (LogOf(run_dir, *start) == path) continue;
    path = LogOf(run_dir, *start);  // the next job of a chain
    offset = 0;
  }
  if (FLAGS_follow) Print(path, offset);
  return 0;
}

}  // namespace unipool
