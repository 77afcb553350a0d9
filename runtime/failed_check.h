// What happens after the message of a failed CHECK.
#pragma once

#include "runtime/watchdog.h"

namespace unipool {

// While it lives, a failed CHECK of any thread prints the stack, calls on_end with exit code 134 and the
// CHECK's message, then `last_act`, then aborts. One at a time in a process, since glog has one such
// function.
class FailedCheckActs {
 public:
  explicit FailedCheckActs(JobEndHook on_end, void (*last_act)() = nullptr);
  ~FailedCheckActs();
  FailedCheckActs(const FailedCheckActs&) = delete;
};

inline constexpr int kAbortedExitCode = 128 + 6;  // what a shell reports for a process that aborted

}  // namespace unipool
