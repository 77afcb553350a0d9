// Which texts a run was trained and validated on, and in which tokens, as far as its folder tells.
#pragma once

#include <string>
#include <vector>

#include "configs/config.pb.h"

namespace unipool {

// One source of data.train or data.valid.
struct TextSource {
  std::string name;      // as in the settings
  double weight = 0;     // 0: none was given
  std::string contents;  // "60 bytes, contents 12ab" (data_print.h); "": not known
};

struct RunTexts {
  std::vector<TextSource> train, valid;
  std::string tokenizer;  // TokenizerFile::name; "": not known
};

// By the newest checkpoint; where there is none, by the files as they are now, if they are there. Never
// throws: what cannot be read is not known.
RunTexts ReadRunTexts(const std::string& run_dir, const Config& config);

// Whether both are the same texts with the same weights: by contents where both are known, else by name.
bool AreSameSources(const std::vector<TextSource>& a, const std::vector<TextSource>& b);

// Whether training draws its samples from the same tokens, and whether validation does: the sources, and the
// split that cuts both from data.train where data.valid is empty.
bool HaveSameTraining(const Config& a, const RunTexts& texts_a, const Config& b, const RunTexts& texts_b);
bool HaveSameValidation(const Config& a, const RunTexts& texts_a, const Config& b, const RunTexts& texts_b);

// "book.txt", "a, b", "a and 3 more".
std::string NamesOf(const std::vector<TextSource>& sources);

}  // namespace unipool
