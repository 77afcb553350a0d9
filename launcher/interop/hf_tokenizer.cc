#include "launcher/interop/hf_tokenizer.h"

#include "launcher/tokens/tokenizer_file.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

std::optional<TokenizerOptions> Find(const HfFolder& folder) {
  if (const auto path = folder.Find(kTokenizerFile)) {
    folder.Json(kTokenizerFile);  // a damaged one is refused
    return TokenizerOptions{.kind = *path};
  }
  const auto vocab = folder.Find("vocab.json"), merges = folder.Find("merges.txt");
  if (!vocab || !merges) return std::nullopt;
  folder.Json("vocab.json");
  return TokenizerOptions{.kind = "gpt2", .vocab = *vocab, .merges = *merges};
}

}  // namespace

HfTokenizer ReadHfTokenizer(const HfFolder& folder, int32_t vocab) {
  const std::optional<TokenizerOptions> found = Find(folder);
  if (!found) return {.name = "none, since the folder holds none; the model takes token ids"};
  TokenizerFile tokenizer;
  try {
    tokenizer = TokenizerFileFor(*found);
  } catch (const UserError& error) {
    return {.name = std::string("none, so the model takes token ids: ") + error.what()};
  }
  if (tokenizer.vocab_size > vocab) {
    throw UserError(Format("%s: its tokenizer has %d tokens, but vocab_size of config.json is %d",
                           folder.dir().c_str(), tokenizer.vocab_size, vocab));
  }
  return {.text = tokenizer.text, .name = tokenizer.name};
}

}  // namespace unipool
