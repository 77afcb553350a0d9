#include "launcher/data/data_tokenizer.h"

#include "launcher/data/blend.h"
#include "launcher/data/token_source.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

std::optional<TokenizerFile> TokenizerOfSource(const std::string& source, const Config& config) {
  const std::vector<std::string> files = FilesOfTokenSource(source);
  if (files.size() == 1) {
    if (config.model().vocab() < 256) return std::nullopt;
    return TokenizerFileFor({.kind = "bytes"});
  }
  const std::string prefix = files[0].substr(0, files[0].size() - std::string(".idx").size());
  std::optional<TokenizerFile> found = FindTokenizerFile(TokenizerFileOf(prefix));
  if (found && found->vocab_size > config.model().vocab()) {
    throw UserError(Format("%s: its tokenizer has %d tokens (%s), but model.vocab is %d; set model.vocab=%d",
                           source.c_str(), found->vocab_size, TokenizerFileOf(prefix).c_str(),
                           config.model().vocab(), found->vocab_size));
  }
  return found;
}

}  // namespace

std::optional<TokenizerFile> TokenizerOfData(const Config& config) {
  std::optional<TokenizerFile> all;
  std::string first;
  const DataConfig& data = config.data();
  for (const auto& [field, entries] :
       {std::pair{"data.train", &data.train()}, {"data.valid", &data.valid()}}) {
    if (entries->empty()) continue;
    for (const BlendEntry& entry : ParseBlend({entries->begin(), entries->end()}, field)) {
      std::optional<TokenizerFile> own = TokenizerOfSource(entry.source, config);
      if (!own) continue;
      if (!all) {
        all = std::move(own);
        first = entry.source;
      } else if (own->name != all->name) {
        throw UserError(
            Format("%s: %s has the tokens of another tokenizer (%s) than %s (%s), so the same ids mean "
                   "different texts; tokenize all sources alike",
                   field, entry.source.c_str(), own->name.c_str(), first.c_str(), all->name.c_str()));
      }
    }
  }
  return all;
}

std::string TakeSavedTokenizer(const std::string& folder, std::optional<TokenizerFile>& tokenizer) {
  try {
    const std::optional<TokenizerFile> saved = FindTokenizerFile(folder + "/" + kTokenizerFile);
    if (saved && tokenizer && saved->name != tokenizer->name) {
      return Format("the data has the tokens of another tokenizer (%s) than %s (%s)", tokenizer->name.c_str(),
                    folder.c_str(), saved->name.c_str());
    }
    if (saved) tokenizer = saved;
  } catch (const UserError& error) {  // a folder made elsewhere
    return error.what();
  }
  return "";
}

void CheckDataTokenizer(const std::string& folder, const Config& config) {
  const std::string file = folder + "/" + kTokenizerFile;
  const std::optional<TokenizerFile> saved = FindTokenizerFile(file), data = TokenizerOfData(config);
  if (!saved || !data || saved->name == data->name) return;
  throw UserError(Format(
      "the data has the tokens of another tokenizer (%s) than %s (%s); make a dataset of its text with "
      "unipool tokenize --tokenizer %s",
      data->name.c_str(), folder.c_str(), saved->name.c_str(), file.c_str()));
}

}  // namespace unipool
