#include "runtime/errors.h"

namespace unipool {

UserError::UserError(std::vector<std::string> problems, int exit_code)
    : problems_(std::move(problems)), exit_code_(exit_code) {
  for (const std::string& problem : problems_) {
    if (!text_.empty()) text_ += '\n';
    text_ += problem;
  }
}

void Problems::ThrowIfAny() const {
  if (!list_.empty()) throw UserError(list_);
}

}  // namespace unipool
