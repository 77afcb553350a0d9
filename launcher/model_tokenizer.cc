#include "launcher/model_tokenizer.h"

#include <gflags/gflags.h>

#include "launcher/tokens/tokenizer_file.h"
#include "runtime/errors.h"

namespace unipool {

namespace {

// Tokens that a model may have beyond its tokenizer's: some round the vocabulary up.
constexpr int64_t kMostPaddedTokens = 1024;

bool IsTokenizerChosen() {
  const TokenizerOptions options = TokenizerOptionsFromFlags();
  return !gflags::GetCommandLineFlagInfoOrDie("tokenizer").is_default || !options.vocab.empty() ||
         !options.merges.empty();
}

}  // namespace

std::shared_ptr<const Tokenizer> TokenizerOfModel(const std::string& checkpoint, const Config& config) {
  TokenizerOptions options = TokenizerOptionsFromFlags();
  std::string name = "--tokenizer=" + options.kind;
  std::shared_ptr<const Tokenizer> tokenizer;
  const bool is_chosen = IsTokenizerChosen();
  if (!is_chosen) {
    name = checkpoint + "/" + kTokenizerFile;
    if (const auto own = FindTokenizerFile(name)) tokenizer = own->tokenizer;
    if (!tokenizer && config.model().vocab() == 256) options.kind = "bytes";
    if (!tokenizer && config.model().vocab() != 256) {
      throw UserError(checkpoint +
                      ": holds no tokenizer.json, as its data had none; give the tokenizer of the data: "
                      "--tokenizer gpt2 with --vocab and --merges, or --tokenizer FILE.tokenizer.json");
    }
  }
  if (!tokenizer) tokenizer = MakeTokenizer(options);
  if (tokenizer->vocab_size() > config.model().vocab()) {
    throw UserError(
        Format("%s has %d tokens but model.vocab is %d: choose the tokenizer of the training data",
               name.c_str(), tokenizer->vocab_size(), config.model().vocab()));
  }
  return tokenizer;
}

void CheckTokenizerOfModel(const std::string& checkpoint, const Tokenizer& tokenizer, const Config& config) {
  const std::string file = checkpoint + "/" + kTokenizerFile;
  const int64_t vocab = config.model().vocab(), own_vocab = tokenizer.vocab_size();
  if (const std::optional<TokenizerFile> own = FindTokenizerFile(file)) {
    const std::string chosen =
        IsTokenizerChosen() ? TokenizerFileFor(TokenizerOptionsFromFlags()).name : own->name;
    if (chosen == own->name) return;
    throw UserError(
        Format("--tokenizer is another (%s) than %s (%s), whose ids the model was trained on; leave "
               "the flag out",
               chosen, file, own->name));
  }
  if (vocab - own_vocab <= kMostPaddedTokens) return;
  throw UserError(
      Format("the tokenizer has %d tokens and the model %d: it was trained on another's; choose the "
             "tokenizer of the training data",
             own_vocab, vocab));
}

int32_t BeginOfText(const Tokenizer& tokenizer) {
  if (tokenizer.end_of_text() >= 0) return tokenizer.end_of_text();
  std::vector<int32_t> line_end;
  tokenizer.Encode("\n", line_end);
  return line_end[0];
}

}  // namespace unipool
