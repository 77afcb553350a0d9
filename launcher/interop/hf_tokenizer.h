// The tokenizer of a folder of Hugging Face's transformers.
#pragma once

#include <string>

#include "launcher/interop/hf_folder.h"

namespace unipool {

struct HfTokenizer {
  std::string text;  // of tokenizer.json; "": there is none that this program knows
  std::string name;  // for people: "bytes", or "none, since ..."
};

// From tokenizer.json, else from vocab.json and merges.txt as GPT-2's. Throws UserError where it has more
// tokens than `vocab`.
HfTokenizer ReadHfTokenizer(const HfFolder& folder, int32_t vocab);

}  // namespace unipool
