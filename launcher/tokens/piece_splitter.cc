#define PCRE2_CODE_UNIT_WIDTH 8
#include "launcher/tokens/piece_splitter.h"

#include <pcre2.h>

#include "runtime/errors.h"

namespace unipool {

namespace {

// \s of the pattern means Unicode's White_Space. PCRE2's own \s also takes U+180E, so the class is written
// out.
#define WHITE_SPACE \
  R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})"
constexpr char kPattern[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+)"
                            "| ?[^" WHITE_SPACE R"(\p{L}\p{N}]+)"
                            "|[" WHITE_SPACE "]+(?![^" WHITE_SPACE
                            "])"
                            "|[" WHITE_SPACE "]+";
#undef WHITE_SPACE

// Where a match is noted and the stack that machine code uses for backtracking; one of each per thread.
struct MatchState {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, 16 << 20, nullptr);
  MatchState() {
    CHECK(data != nullptr && context != nullptr);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchState() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    if (stack != nullptr) pcre2_jit_stack_free(stack);
  }
};

std::string PcreMessage(int code) {
  PCRE2_UCHAR text[256] = {};
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

PieceSplitter::PieceSplitter() {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(kPattern), PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  CHECK(code != nullptr) << "PCRE2 at " << offset << ": " << PcreMessage(error);
  // Where machine code cannot be made, PCRE2 interprets the pattern: slower, same result.
  const int compiled = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  LOG_IF(WARNING, compiled != 0) << "PCRE2 interprets the pattern (slow): " << PcreMessage(compiled);
  code_ = {code, [](const pcre2_code* c) { pcre2_code_free(const_cast<pcre2_code*>(c)); }};
}

size_t PieceSplitter::PieceEnd(std::string_view text, size_t begin) const {
  thread_local MatchState state;
  const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), begin,
                                PCRE2_NO_UTF_CHECK, state.data, state.context);
  CHECK_GT(found, 0) << "PCRE2 at byte " << begin << ": " << PcreMessage(found);
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(state.data);
  CHECK(range[0] == begin && range[1] > begin)
      << "match " << range[0] << ".." << range[1] << " at byte " << begin;
  return range[1];
}

}  // namespace unipool
