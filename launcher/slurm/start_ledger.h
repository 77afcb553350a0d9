// RUN_DIR/submit/ledger.jsonl: what happened to the starts of a submitted run, a JSON object a line. Lines
// are only ever added, so that a start which was killed is one without an end. Their "event" and other keys
// are:
//
//   submitted  time, jobs ["12"], script "001.sbatch", name, chain
//   start      time, job, restart, step, nodes "n[0-1]", log: its path, log_offset: bytes in it before
//   picked     time, job, restart, nodes ["n0"] that train, spare ["n1"] that stay idle, reason: of bad ones
//   term       time, job, restart: Slurm asked the start to end (preemption, requeue, scancel)
//   bad_nodes  time, job, restart, nodes ["n1"], reason: of the node test
//   end        time, job, restart, exit_code, action, failed, reason, step, steps, excluded ["n1"]
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace unipool {

// What follows the end of a start.
enum class StartAction {
  kDone,     // all steps are done
  kRequeue,  // another start is due
  kLeave,    // Slurm itself is ending the job, and starts it again if it means to
  kGiveUp,   // a person has to look, or wanted it so
};
const char* NameOf(StartAction action);  // "done", "requeue", "leave", "give_up"

struct StartEnd {
  int exit_code = 0;
  StartAction action = StartAction::kGiveUp;
  bool failed = false;                // counts as a failure
  std::string reason;                 // a sentence
  int64_t step = 0, steps = 0;        // updates of the run, and of this start
  std::vector<std::string> excluded;  // nodes that later starts leave out because of this one
};

// Of a start with --spare_nodes.
struct PickedNodes {
  std::vector<std::string> nodes, spare;
  std::string reason;  // which of the spare are bad; "" when none is
};

struct BadNodes {
  std::vector<std::string> nodes;
  std::string reason;
};

// One start of a run's job.
struct LedgerStart {
  std::string job;
  int restart = 0;
  int64_t time = 0, end_time = 0;  // seconds since 1970; end_time 0: not known
  int64_t step = 0;                // updates done when it began
  std::string nodes;
  std::string log;         // "": not known
  int64_t log_offset = 0;  // bytes that it had before
  std::optional<PickedNodes> picked;
  bool was_terminated = false;  // Slurm sent TERM
  std::optional<BadNodes> bad_nodes;
  std::optional<StartEnd> end;  // nothing while it runs, and of a start that was killed
};

// What one `unipool submit` sent, or a person with sbatch.
struct Submission {
  std::vector<std::string> jobs;
  std::string script, name, chain;
  int64_t time = 0;
  std::vector<LedgerStart> starts;
};

struct Ledger {
  std::vector<Submission> submissions;
};

// Reads the ledger of a run; empty when there is none. A line that is no such object is left out: a node
// may have died while it wrote.
Ledger ReadLedger(const std::string& run_dir);
Ledger ParseLedger(const std::string& text);

// Each adds a line. Throws UserError when it cannot be written.
void NoteSubmission(const std::string& run_dir, const Submission& submission);
void NoteStart(const std::string& run_dir, const LedgerStart& start);
void NotePicked(const std::string& run_dir, const LedgerStart& start, const PickedNodes& picked);
void NoteBadNodes(const std::string& run_dir, const LedgerStart& start, const BadNodes& bad);
void NoteEnd(const std::string& run_dir, const LedgerStart& start, const StartEnd& end);

// The file to which a start prints.
std::string LogOf(const std::string& run_dir, const LedgerStart& start);

// RUN_DIR/submit
std::string SubmitFolder(const std::string& run_dir);

}  // namespace unipool
