#include "runtime/errors.h"

namespace unipool {

UserError::UserError(std::vector<std::string> problems) : problems_(std::move(problems)) {
  for (const std::string& problem : problems_) {
    if (!text_.empty()) text_ += '\n';
    text_ += problem;
  }
}

void Problems::ThrowIfAny() const {
  if (!list_.empty()) throw UserError(list_);
}

}  // namespace unipool
