// Signals as requests: USR1 asks for a save; USR2, TERM, INT, HUP and XCPU for a save and the end. Handlers
// set flags and do nothing else, so a signal is harmless wherever it comes, also in a library.
//
// A second TERM or INT ends the process at once with exit code 128 + n. Within 0.2 s of the first it is taken
// for the same one: launchers deliver it twice. In a job of Slurm a second TERM changes nothing: preemption
// sends several, and a KILL when the time is over. PIPE is ignored: a run outlives the reader of its output.
// HUP and INT stay ignored where they were before (nohup, background jobs of scripts).
#pragma once

#include <string>

#include "launcher/run_control/run_request.h"

namespace unipool {

// Installs the handlers, and puts back what was there before. One at a time in a process: signals are the
// process's. Its functions may be called by any thread.
class SignalRequests {
 public:
  SignalRequests();
  ~SignalRequests();
  SignalRequests(const SignalRequests&) = delete;

  // Adds what was asked: a save once, a stop each time. Call it on one rank of the process.
  void AddTo(RunRequests& requests);
  bool StopAsked() const;

  // What a second TERM or INT leaves behind: `text` as the file `path`, written aside and renamed. Each call
  // replaces the one before; an empty path: nothing.
  void SetLastWords(const std::string& path, const std::string& text);
};

}  // namespace unipool
