// Contexts, continuations and the right choice of each task, from a line as its set has it.
#include "launcher/tasks/task_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "runtime/errors.h"

namespace unipool {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::ThrowsMessage;

TaskItem Read(const std::string& task, const json& line) {
  return TaskNamed(task).read(line);
}

// "context|continuation", choice by choice, and the right one's number.
std::string Shown(const TaskItem& item) {
  std::string text;
  for (const TaskChoice& choice : item.choices) text += choice.context + "|" + choice.continuation + "\n";
  return text + std::to_string(item.gold);
}

TEST(TaskList, Names) {
  EXPECT_EQ(AllTasks().size(), 9u);
  EXPECT_STREQ(TaskNamed("lambada_openai").name, "lambada");
  EXPECT_STREQ(TaskNamed("social_iqa").name, "siqa");
  EXPECT_THAT([] { TaskNamed("race"); }, ThrowsMessage<UserError>(HasSubstr("there are lambada, hellaswag")));
}

TEST(TaskList, Lambada) {
  EXPECT_EQ(Shown(Read("lambada", {{"text", "he said to  Tom, \"run"}})), "he said to  Tom,| \"run\n0");
  EXPECT_EQ(Shown(Read("lambada", {{"text", "run"}})), "| run\n0");
  for (const char* text : {"", "he said "}) {
    EXPECT_THAT([&] { Read("lambada", {{"text", text}}); }, ThrowsMessage<UserError>(HasSubstr("last word")));
  }
  EXPECT_THAT([] { Read("lambada", {{"txt", "a b"}}); }, ThrowsMessage<UserError>("has no field \"text\""));
  EXPECT_THAT([] { Read("lambada", {{"text", 3}}); }, ThrowsMessage<UserError>(HasSubstr("is no text")));
}

TEST(TaskList, HellaSwag) {
  const json own{{"activity_label", "Baking [x]"},
                 {"ctx_a", "A man Bakes."},
                 {"ctx_b", "he THEN"},
                 {"ctx", "is not read"},
                 {"endings", {"eats [step] it.", " sleeps. "}},
                 {"label", "1"}};
  const TaskItem item = Read("hellaswag", own);
  EXPECT_EQ(Shown(item),
            "Baking : A man Bakes. He then| eats it.\nBaking : A man Bakes. He then| sleeps.\n1");
  EXPECT_EQ(item.choices[1].text, "sleeps.");
  const json clean{{"ctx", "Baking: A man"}, {"endings", {"eats", "sleeps", "runs"}}, {"label", 2}};
  EXPECT_EQ(Shown(Read("hellaswag", clean)),
            "Baking: A man| eats\nBaking: A man| sleeps\nBaking: A man| runs\n2");
  const auto broken = [&](const char* key, const json& value) {
    json line = clean;
    line[key] = value;
    return line;
  };
  EXPECT_THAT([&] { Read("hellaswag", broken("label", 3)); },
              ThrowsMessage<UserError>("its \"label\" is 3; must be 0 to 2"));
  EXPECT_THAT([&] { Read("hellaswag", broken("label", "")); },
              ThrowsMessage<UserError>(HasSubstr("whole number")));
  EXPECT_THAT(
      [&] {
        Read("hellaswag", broken("endings", {"a", " ", "b"}));
      },
      ThrowsMessage<UserError>(HasSubstr("\"endings\" is empty")));
  EXPECT_THAT([&] { Read("hellaswag", broken("endings", "a")); },
              ThrowsMessage<UserError>(HasSubstr("no list")));
}

TEST(TaskList, Piqa) {
  const json line{{"goal", "open it"}, {"sol1", "Pull."}, {"sol2", "Push."}, {"label", 1}};
  EXPECT_EQ(Shown(Read("piqa", line)),
            "Question: open it\nAnswer:| Pull.\nQuestion: open it\nAnswer:| Push.\n1");
}

TEST(TaskList, ArcInBothForms) {
  const json lists{{"question", "Why?"},
                   {"choices", {{"text", {"x", "y", "z"}}, {"label", {"A", "B", "C"}}}},
                   {"answerKey", "C"}};
  const json objects{
      {"question",
       {{"stem", "Why?"}, {"choices", {{{"text", "x"}, {"label", "1"}}, {{"text", "y"}, {"label", "2"}}}}}},
      {"answerKey", "1"}};
  const std::string context = "Question: Why?\nAnswer:";
  EXPECT_EQ(Shown(Read("arc_easy", lists)), context + "| x\n" + context + "| y\n" + context + "| z\n2");
  EXPECT_EQ(Shown(Read("arc_challenge", objects)), context + "| x\n" + context + "| y\n0");
  json broken = lists;
  broken["answerKey"] = "D";
  EXPECT_THAT([&] { Read("arc_easy", broken); },
              ThrowsMessage<UserError>(HasSubstr("\"answerKey\" is \"D\"")));
  broken = lists;
  broken["choices"]["label"] = {"A", "B"};
  EXPECT_THAT([&] { Read("arc_easy", broken); }, ThrowsMessage<UserError>(HasSubstr("3 texts but 2 labels")));
  broken["choices"] = 7;
  EXPECT_THAT([&] { Read("arc_easy", broken); }, ThrowsMessage<UserError>(HasSubstr("no list")));
}

TEST(TaskList, OpenBookQaInBothForms) {
  const json lists{{"question_stem", "The sun is"},
                   {"choices", {{"text", {"hot", "cold"}}, {"label", {"A", "B"}}}},
                   {"answerKey", " A"}};
  EXPECT_EQ(Shown(Read("openbookqa", lists)), "The sun is| hot\nThe sun is| cold\n0");
  const json objects{{"question",
                      {{"stem", "The sun is"},
                       {"choices", {{{"text", "hot"}, {"label", "A"}}, {{"text", "cold"}, {"label", "B"}}}}}},
                     {"answerKey", "B"}};
  EXPECT_EQ(Shown(Read("openbookqa", objects)), "The sun is| hot\nThe sun is| cold\n1");
  EXPECT_THAT(
      [] {
        Read("openbookqa", {{"question", "a"}});
      },
      ThrowsMessage<UserError>("has no field \"question_stem\""));
}

TEST(TaskList, WinoGrandePutsTheOptionsIntoContexts) {
  const json line{
      {"sentence", "Ann met Eve as _ was late ."}, {"option1", "Ann"}, {"option2", "Eve"}, {"answer", "2"}};
  EXPECT_EQ(Shown(Read("winogrande", line)),
            "Ann met Eve as Ann| was late .\nAnn met Eve as Eve| was late .\n1");
  json broken = line;
  broken["sentence"] = "no place";
  EXPECT_THAT([&] { Read("winogrande", broken); }, ThrowsMessage<UserError>(HasSubstr("has no _")));
  broken["sentence"] = "it was _ ";
  EXPECT_THAT([&] { Read("winogrande", broken); }, ThrowsMessage<UserError>(HasSubstr("nothing behind")));
  broken = line;
  broken["answer"] = "";
  EXPECT_THAT([&] { Read("winogrande", broken); }, ThrowsMessage<UserError>(HasSubstr("whole number")));
}

TEST(TaskList, BoolQ) {
  const json line{{"passage", "It is so."}, {"question", "is it so"}, {"label", 1}};
  const std::string expected = "It is so.\nQuestion: is it so?\nAnswer:";
  EXPECT_EQ(Shown(Read("boolq", line)), expected + "| no\n" + expected + "| yes\n1");
  const json own{{"passage", "It is so."}, {"question", "is it so"}, {"answer", false}};
  EXPECT_EQ(Read("boolq", own).gold, 0);
}

TEST(TaskList, Siqa) {
  const json line{{"context", "Ann ran."}, {"question", "Why?"}, {"answerA", "late"},
                  {"answerB", "fun"},      {"answerC", "fear"},  {"label", "3"}};
  EXPECT_EQ(Shown(Read("siqa", line)),
            "Q: Ann ran. Why?\nA:| late\nQ: Ann ran. Why?\nA:| fun\nQ: Ann ran. Why?\nA:| fear\n2");
  json broken = line;
  broken["label"] = "0";
  EXPECT_THAT([&] { Read("siqa", broken); }, ThrowsMessage<UserError>("its \"label\" is 0; must be 1 to 3"));
}

}  // namespace
}  // namespace unipool
