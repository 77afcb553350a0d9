// The tokenizer whose ids the data of a run are.
#pragma once

#include <optional>

#include "configs/config.pb.h"
#include "launcher/tokens/tokenizer_file.h"

namespace unipool {

// That of all sources of data.train and data.valid which tell theirs: a dataset by PREFIX.tokenizer.json
// beside it, a text file by being read as bytes, if model.vocab has all of these. Nothing where none tells.
// Throws UserError that names two sources with different tokenizers, a tokenizer with more tokens than
// model.vocab, and what is no blend or no tokenizer.
std::optional<TokenizerFile> TokenizerOfData(const Config& config);

// Takes that of a folder of weights, if it has one and the data tells none. Returns how the two differ, or
// why the folder's cannot be used, for people; else "".
std::string TakeSavedTokenizer(const std::string& folder, std::optional<TokenizerFile>& tokenizer);

// Throws UserError where the data has the ids of another tokenizer than the weights in `folder`, as far as
// both are known.
void CheckDataTokenizer(const std::string& folder, const Config& config);

}  // namespace unipool
