#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "launcher/commands.h"
#include "launcher/slurm/run_status.h"
#include "launcher/slurm/slurm.h"
#include "runtime/errors.h"

namespace unipool {

int StatusCommand(const CommandLine& command_line) {
  StatusInput input{.run_dir = command_line.config_path};
  while (input.run_dir.size() > 1 && input.run_dir.back() == '/') input.run_dir.pop_back();
  input.now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  input.state = ReadRunState(input.run_dir);
  input.heartbeat = ReadHeartbeat(input.run_dir);
  input.holder = HolderOf(input.run_dir);
  input.waits = ReadRunWaits(input.run_dir);
  input.ledger = ReadLedger(input.run_dir);
  if (!input.state && input.ledger.submissions.empty()) {
    throw UserError(input.run_dir +
                    ": is no folder of a run that was started or submitted: it has neither state.json nor "
                    "submit/ledger.jsonl");
  }
  if (input.ledger.submissions.empty()) {
    input.queue.emplace();
  } else {
    const Submission& submission = input.ledger.submissions.back();
    input.queue = AskQueue(submission.jobs);
    if (!submission.starts.empty()) {
      const std::string& job = submission.starts.back().job;
      input.job_states[job] = AskJobState(job);
    }
  }
  const std::string text = command_line.json ? StatusJson(input).dump() + "\n" : StatusText(input);
  std::fputs(text.c_str(), stdout);
  return 0;
}

}  // namespace unipool
