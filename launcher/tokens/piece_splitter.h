// Cuts UTF-8 text into the pieces of GPT-2's pattern (gpt2_tokenizer.h), with PCRE2, which knows Unicode's
// properties and compiles the pattern to machine code.
#pragma once

#include <memory>
#include <string_view>

struct pcre2_real_code_8;

namespace unipool {

class PieceSplitter {
 public:
  PieceSplitter();

  // Calls piece(std::string_view) for each piece, in order. The pieces together are the whole text.
  // REQUIRES: `text` is well-formed UTF-8. Thread-safe.
  template <typename Function>
  void Split(std::string_view text, Function&& piece) const {
    size_t begin = 0;
    while (begin < text.size()) {
      const size_t end = PieceEnd(text, begin);
      piece(text.substr(begin, end - begin));
      begin = end;
    }
  }

 private:
  size_t PieceEnd(std::string_view text, size_t begin) const;

  std::shared_ptr<const pcre2_real_code_8> code_;
};

}  // namespace unipool
