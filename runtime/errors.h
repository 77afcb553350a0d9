// There are two kinds of error. A bug or a broken machine is a glog CHECK, which prints both numbers and ends
// the job. A wrong config, file or flag is a UserError. It tells all problems at once, each in a sentence
// that names the field or file, what was found and what would be right. The program then ends with the
// error's exit code and leaves nothing half-written.
#pragma once

#include <glog/logging.h>

#include <exception>
#include <string>
#include <vector>

#include "runtime/format.h"

namespace unipool {

// How a process of the program ends. Besides: 0 when its work is done, 134 after a failed CHECK, 128 + n by
// signal n.
inline constexpr int kUserErrorExitCode = 2;  // the input was wrong
inline constexpr int kStuckExitCode = 3;      // the watchdog ended the job
// Stopped early on request, with a checkpoint: the same command goes on.
inline constexpr int kStoppedExitCode = 75;
inline constexpr int kNotSavedExitCode = 76;  // a checkpoint or metrics could not be written (full disk, ...)

class UserError : public std::exception {
 public:
  explicit UserError(std::string problem, int exit_code = kUserErrorExitCode)
      : UserError(std::vector<std::string>{std::move(problem)}, exit_code) {}
  explicit UserError(std::vector<std::string> problems, int exit_code = kUserErrorExitCode);
  const char* what() const noexcept override { return text_.c_str(); }  // the problems, one a line
  const std::vector<std::string>& problems() const { return problems_; }
  int exit_code() const { return exit_code_; }

 private:
  std::vector<std::string> problems_;
  std::string text_;
  int exit_code_;
};

// Collects problems, so that a user sees all of them at once.
class Problems {
 public:
  void Add(std::string problem) { list_.push_back(std::move(problem)); }
  bool empty() const { return list_.empty(); }
  void ThrowIfAny() const;  // throws a UserError with all of them

 private:
  std::vector<std::string> list_;
};

}  // namespace unipool
