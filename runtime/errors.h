// Two kinds of error. A bug or a broken machine is a glog CHECK: it prints both numbers and ends the job. A
// wrong config, file or flag is a UserError: a sentence that names the field or file, what was found and what
// would be right; all problems at once; the program ends with exit code 2 and nothing half-written is left
// behind.
#pragma once

#include <glog/logging.h>

#include <exception>
#include <string>
#include <vector>

namespace unipool {

inline constexpr int kUserErrorExitCode = 2;  // wrong input
inline constexpr int kStuckExitCode = 3;      // the watchdog ended the job

class UserError : public std::exception {
 public:
  explicit UserError(std::string problem) : UserError(std::vector<std::string>{std::move(problem)}) {}
  explicit UserError(std::vector<std::string> problems);
  const char* what() const noexcept override { return text_.c_str(); }  // the problems, one a line
  const std::vector<std::string>& problems() const { return problems_; }

 private:
  std::vector<std::string> problems_;
  std::string text_;
};

// Collects problems so that a user sees all of them at once.
class Problems {
 public:
  void Add(std::string problem) { list_.push_back(std::move(problem)); }
  bool empty() const { return list_.empty(); }
  void ThrowIfAny() const;  // throws UserError with all of them

 private:
  std::vector<std::string> list_;
};

std::string Format(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace unipool
