// Where the context ends and what is scored. The ids of GPT-2's tokenizer are lm-evaluation-harness's.
#include "launcher/tasks/task_row.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/errors.h"
#include "tests/launcher/data_test_files.h"

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::string Shown(const TaskRow& row, const Tokenizer& tokenizer) {
  const std::vector<int32_t>& tokens = row.row.tokens;
  const auto first = static_cast<size_t>(row.row.first_target);
  return tokenizer.Decode(std::span(tokens).first(first)) + "|" +
         tokenizer.Decode(std::span(tokens).subspan(first));
}

TEST(TaskRow, Bytes) {
  const auto bytes = MakeTokenizer({.kind = "bytes"});
  EXPECT_EQ(Shown(TaskRowOf("ab", " cd", *bytes, 16), *bytes), "ab| cd");
  EXPECT_EQ(Shown(TaskRowOf("ab \n", " cd", *bytes, 16), *bytes), "ab| \n cd");  // blanks go over
  EXPECT_EQ(Shown(TaskRowOf("", "cd", *bytes, 16), *bytes), "\n|cd");
  EXPECT_EQ(Shown(TaskRowOf("", "\ncd", *bytes, 16), *bytes), "\n|cd");  // it begins so itself
  EXPECT_EQ(Shown(TaskRowOf("a\u00a0", "\u00e9", *bytes, 16), *bytes), "a|\u00a0\u00e9");
}

TEST(TaskRow, CutsFromTheLeft) {
  const auto bytes = MakeTokenizer({.kind = "bytes"});
  const TaskRow fits = TaskRowOf("abcd", "ef", *bytes, 5), cut = TaskRowOf("abcd", "ef", *bytes, 3);
  EXPECT_EQ(fits.num_cut, 0);  // six tokens, of which five are inputs
  EXPECT_EQ(cut.num_cut, 2);
  EXPECT_EQ(Shown(cut, *bytes), "cd|ef");
  EXPECT_EQ(Shown(TaskRowOf("abcd", "ef", *bytes, 2), *bytes), "d|ef");
  EXPECT_THAT([&] { TaskRowOf("abcd", "efg", *bytes, 2); },
              ThrowsMessage<UserError>(HasSubstr("a choice has 3 tokens, more than the 2")));
  EXPECT_THAT([&] { TaskRowOf("abcd", "", *bytes, 2); },
              ThrowsMessage<UserError>(HasSubstr("adds no token")));
}

TEST(TaskRow, Gpt2AtTheBoundary) {
  SKIP_WITHOUT_TEST_DATA("gpt2-vocab.json");
  const auto gpt2 = MakeTokenizer(
      {.kind = "gpt2", .vocab = TestData("gpt2-vocab.json"), .merges = TestData("gpt2-merges.txt")});
  const TaskRow row = TaskRowOf("The cat sat", " on the mat", *gpt2, 64);
  EXPECT_THAT(row.row.tokens, ElementsAre(464, 3797, 3332, 319, 262, 2603));
  EXPECT_EQ(row.row.first_target, 3);
  // The blank at the end goes over, so "on" keeps its usual token.
  EXPECT_THAT(TaskRowOf("The cat sat ", "on", *gpt2, 64).row.tokens, ElementsAre(464, 3797, 3332, 319));
  EXPECT_EQ(Shown(TaskRowOf("", " Hi", *gpt2, 64), *gpt2).substr(13), "| Hi");  // behind <|endoftext|>
  // Encoded as one, and the context's own count decides: "hello" is one token, as "hell" is.
  EXPECT_THAT([&] { TaskRowOf("hell", "o", *gpt2, 64); },
              ThrowsMessage<UserError>(HasSubstr("adds no token")));
}

}  // namespace
}  // namespace unipool
