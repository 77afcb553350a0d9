#include "launcher/tasks/task_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/errors.h"
#include "tests/launcher/data_test_files.h"

namespace unipool {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::string PathOf(const std::string& entry, const std::string& folder = "") {
  return TaskSourcesOf({entry}, folder)[0].path;
}

TEST(TaskFile, FilesAndFolders) {
  const TemporaryFolder folder;
  const std::string file = WriteFile(folder / "any", "{}");
  WriteFile(folder / "lambada-dev.jsonl", "{}");
  WriteFile(folder / "lambadas.jsonl", "{}");
  WriteFile(folder / "arc_easy.jsonl.gz", "{}");
  WriteFile(folder / "arc_easy-old.jsonl", "{}");
  WriteFile(folder / "social_iqa.jsonl", "{}");
  EXPECT_EQ(PathOf("piqa=" + file), file);
  EXPECT_EQ(PathOf("lambada=" + folder.path()), folder / "lambada-dev.jsonl");
  EXPECT_EQ(PathOf("lambada", folder.path()), folder / "lambada-dev.jsonl");
  EXPECT_EQ(PathOf("arc_easy", folder.path()), folder / "arc_easy.jsonl.gz");  // the plain name goes first
  EXPECT_EQ(PathOf("siqa", folder.path()), folder / "social_iqa.jsonl");
  EXPECT_THAT([&] { PathOf("boolq", folder.path()); },
              ThrowsMessage<UserError>(HasSubstr("has no file boolq.jsonl or boolq-*.jsonl")));
  WriteFile(folder / "lambada_test.jsonl", "{}");
  EXPECT_THAT([&] { PathOf("lambada", folder.path()); },
              ThrowsMessage<UserError>(AllOf(HasSubstr("several files"), HasSubstr("lambada=FILE"))));
  EXPECT_THAT([&] { PathOf("lambada"); }, ThrowsMessage<UserError>(HasSubstr("write lambada=FILE")));
  EXPECT_THAT([&] { PathOf("lambada=" + (folder / "none")); },
              ThrowsMessage<UserError>(HasSubstr("does not exist")));
  EXPECT_THAT(
      [&] {
        TaskSourcesOf({"race=x", "piqa=" + file, "piqa=" + file}, "");
      },
      ThrowsMessage<UserError>(AllOf(HasSubstr("no such task"), HasSubstr("named twice"))));
}

TaskItems Items(const std::string& text, int64_t limit = 0) {
  const TemporaryFolder folder;
  return ReadTaskItems(TaskSourcesOf({"lambada=" + WriteFile(folder / "f", text)}, "")[0], limit);
}

TEST(TaskFile, LinesAndTheirNumbers) {
  const std::string text = "{\"text\": \"a b\"}\n\n  \r\n{\"text\": \"c d\"}\r\n{\"text\": \"e f\"}";
  const TaskItems all = Items(text), some = Items(text, 2);
  ASSERT_EQ(all.items.size(), 3u);
  EXPECT_EQ(all.items[1].line, 4);
  EXPECT_EQ(all.items[2].choices[0].continuation, " f");
  EXPECT_EQ(some.items.size(), 2u);
  EXPECT_EQ(some.num_lines, 3);
}

TEST(TaskFile, SaysWhatIsWrongWithWhichLine) {
  EXPECT_THAT([] { Items("{\"text\": \"a b\"}\n{\"text\": \"a\nb\"}\n"); },
              ThrowsMessage<UserError>(AllOf(HasSubstr("line 2: is not JSON"), HasSubstr("line 3: "))));
  EXPECT_THAT([] { Items("[1]\n{\"text\": \"a\xff b\"}\n"); },
              ThrowsMessage<UserError>(
                  AllOf(HasSubstr("line 1: is no JSON object (task lambada)"), HasSubstr("line 2"))));
  EXPECT_THAT(
      [] { Items("{}\n{}\n{}\n{}\n"); },
      ThrowsMessage<UserError>(AllOf(HasSubstr("line 3: has no field \"text\""), Not(HasSubstr("line 4")))));
  EXPECT_THAT([] { Items("\n"); }, ThrowsMessage<UserError>(HasSubstr("has no line")));
  EXPECT_THAT([] { Items("1 2\n" + std::string(100000, '[') + "\n"); },
              ThrowsMessage<UserError>(HasSubstr("line 2")));
}

}  // namespace
}  // namespace unipool
