#include "launcher/tokens/prompts.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

class Prompts : public testing::Test {
 protected:
  Prompts() : folder_(testing::TempDir() + "prompts") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = (folder_ / name).string();
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  static std::vector<std::string> Texts(const std::string& path) {
    std::vector<std::string> texts;
    for (const Prompt& prompt : ReadPrompts(path).prompts) texts.push_back(prompt.text);
    return texts;
  }
  const std::filesystem::path folder_;
};

// Runs `body` with a file as the standard input.
template <class Body>
void WithInput(const std::string& path, const Body& body) {
  const int before = dup(STDIN_FILENO), file = open(path.c_str(), O_RDONLY);
  dup2(file, STDIN_FILENO);
  body();
  dup2(before, STDIN_FILENO);
  close(before);
  close(file);
}

TEST_F(Prompts, ALineIsAPrompt) {
  EXPECT_THAT(Texts(Write("a.txt", "It was\r\n\n  \n  two {\"text\": 1}\nlast")),
              ElementsAre("It was", "  two {\"text\": 1}", "last"));
  const std::string path = Write("b.txt", "\n\nx\n");
  EXPECT_EQ(ReadPrompts(path).prompts[0].origin, path + ", line 3");
  EXPECT_EQ(ReadPrompts(path).blank_lines, 2);
  EXPECT_EQ(ReadPrompts(Write("c.txt", "x\ny")).blank_lines, 0);
}

TEST_F(Prompts, LinesOfJson) {
  EXPECT_THAT(Texts(Write("a.jsonl", "{\"text\": \"one\\ntwo\", \"id\": 1}\n\n{\"text\": \"\"}\n")),
              ElementsAre("one\ntwo", ""));
  const std::string bad = Write("bad.jsonl", "{\"text\": \"a\"}\n{\"prompt\": \"b\"}\n");
  EXPECT_THAT([&] { ReadPrompts(bad); },
              ThrowsMessage<UserError>(HasSubstr(bad + ", line 2: has no key \"text\"")));
}

TEST_F(Prompts, WhatHoldsNone) {
  for (const char* text : {"", "\n \n"}) {
    const std::string path = Write("empty.txt", text);
    EXPECT_THAT([&] { ReadPrompts(path); }, ThrowsMessage<UserError>(HasSubstr(path + ": holds no prompt")));
  }
  EXPECT_THAT([&] { ReadPrompts((folder_ / "none").string()); },
              ThrowsMessage<UserError>(HasSubstr("none: cannot be opened: No such file or directory")));
  EXPECT_THAT([&] { ReadPrompts(folder_.string()); }, ThrowsMessage<UserError>(HasSubstr("is a folder")));
}

TEST_F(Prompts, OfTheStandardInput) {
  WithInput(Write("in", "two\nlines\n\n"), [] {
    const Prompt prompt = ReadPromptOfInput();
    EXPECT_EQ(prompt.text, "two\nlines\n");  // one line end is left out
    EXPECT_EQ(prompt.origin, "standard input");
  });
  WithInput(Write("in", "two\nlines\n"), [] { EXPECT_THAT(Texts("-"), ElementsAre("two", "lines")); });
  WithInput(Write("in", ""), [] { EXPECT_EQ(ReadPromptOfInput().text, ""); });
}

TEST(StopString, KnowsLineEnds) {
  EXPECT_EQ(StopString("END"), "END");
  EXPECT_EQ(StopString("\\n\\nThe\\t"), "\n\nThe\t");
  EXPECT_EQ(StopString("\\\\n"), "\\n");
  EXPECT_EQ(StopString("a\\"), "a\\");
  EXPECT_EQ(StopString("\\d"), "\\d");
  EXPECT_THAT([] { StopString(""); }, ThrowsMessage<UserError>(HasSubstr("--stop: is empty")));
}

}  // namespace
}  // namespace unipool
