// The tokenizer whose ids a model was trained on, for commands that hand it text.
#pragma once

#include <memory>
#include <string>

#include "configs/config.pb.h"
#include "launcher/tokens/tokenizer.h"

namespace unipool {

// That of the flags (--tokenizer), else the checkpoint's own, else bytes if the model's tokens are as many.
// Throws UserError where there is none, or where it has more tokens than the model.
std::shared_ptr<const Tokenizer> TokenizerOfModel(const std::string& checkpoint, const Config& config);

// A score is one of the model's own texts. Throws UserError where the tokenizer is not the checkpoint's, or,
// where that has none, where the model has many more tokens than it.
void CheckTokenizerOfModel(const std::string& checkpoint, const Tokenizer& tokenizer, const Config& config);

// The token before the first of a text: the end of a document, or of a line where documents have no end.
int32_t BeginOfText(const Tokenizer& tokenizer);

}  // namespace unipool
