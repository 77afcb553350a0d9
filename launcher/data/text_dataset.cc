#include "launcher/data/text_dataset.h"

#include <cmath>

#include "launcher/data/copy_tokens.h"
#include "runtime/errors.h"

namespace unipool {

void TextDataset::Read(int64_t first, std::span<int32_t> tokens, int64_t vocab) const {
  CHECK(first >= 0 && first + static_cast<int64_t>(tokens.size()) <= num_tokens())
      << name() << ": tokens " << first << " + " << tokens.size() << " of " << num_tokens();
  int64_t bad = -1, id = 0;
  file_.Reading([&] {
    bad = CopyTokens<uint8_t>(file_.data() + first, vocab, tokens);
    if (bad >= 0) id = file_.data()[first + bad];
  });
  if (bad >= 0) throw UserError(OutsideVocabulary(name(), first + bad, id, vocab, 256));
}

int64_t TextDataset::Boundary(double share) const {
  return std::llrint(share * static_cast<double>(num_tokens()));
}

}  // namespace unipool
