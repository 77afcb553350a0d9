#include "launcher/tasks/task_row.h"

#include <algorithm>

#include "launcher/model_tokenizer.h"
#include "launcher/tasks/python_text.h"
#include "runtime/errors.h"

namespace unipool {

TaskRow TaskRowOf(const std::string& context, const std::string& continuation, const Tokenizer& tokenizer,
                  int64_t seq_length) {
  const std::string stripped = context.substr(0, RightStrippedSize(context));
  std::vector<int32_t> own, all;
  tokenizer.Encode(stripped, own);
  tokenizer.Encode(context + continuation, all);
  auto first_target = static_cast<int64_t>(own.size());
  if (first_target == 0) {
    const int32_t begin = BeginOfText(tokenizer);
    if (all.empty() || all[0] != begin) all.insert(all.begin(), begin);
    first_target = 1;
  }
  const int64_t num_targets = static_cast<int64_t>(all.size()) - first_target;
  if (num_targets < 1) throw UserError("a choice adds no token to its context, so there is nothing to score");
  if (num_targets > seq_length) {
    throw UserError(Format("a choice has %d tokens, more than the %d that the model sees (model.seq_length)",
                           num_targets, seq_length));
  }
  const int64_t num_cut = std::max<int64_t>(static_cast<int64_t>(all.size()) - (seq_length + 1), 0);
  all.erase(all.begin(), all.begin() + num_cut);
  return {.row = {.tokens = std::move(all), .first_target = first_target - num_cut}, .num_cut = num_cut};
}

}  // namespace unipool
