#include "launcher/tasks/task_list.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "launcher/tasks/python_text.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

const Json& Field(const Json& object, const std::string& key) {
  const auto found = object.find(key);
  if (found == object.end()) throw UserError("has no field \"" + key + "\"");
  return *found;
}

std::string Text(const Json& object, const std::string& key) {
  const Json& value = Field(object, key);
  if (!value.is_string()) throw UserError("its \"" + key + "\" is no text but " + value.type_name());
  return value.get<std::string>();
}

std::string ChoiceText(std::string text, const std::string& key) {
  if (Stripped(text).empty()) throw UserError("its \"" + key + "\" is empty; a choice needs a text");
  return text;
}

// A number, or a text of one.
int64_t Number(const Json& object, const std::string& key) {
  const Json& value = Field(object, key);
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_string()) {
    const std::string text = value.get<std::string>();
    if (!text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos)
      return std::stoll(text);
  }
  throw UserError("its \"" + key + "\" is no whole number");
}

int64_t Label(const Json& object, const std::string& key, int64_t first, int64_t count) {
  const int64_t label = Number(object, key);
  if (label < first || label >= first + count)
    throw UserError(Format("its \"%s\" is %d; must be %d to %d", key, label, first, first + count - 1));
  return label - first;
}

// One context, and each choice behind it.
TaskItem AfterContext(const std::string& context, const std::vector<std::string>& choices, int64_t gold) {
  TaskItem item{.gold = gold};
  for (const std::string& choice : choices)
    item.choices.push_back({.context = context, .continuation = " " + choice, .text = choice});
  return item;
}

// All but the last word, then that word. Words are what single blanks part.
TaskItem Lambada(const Json& line) {
  const std::string text = Text(line, "text");
  const size_t blank = text.rfind(' ');
  const std::string last = blank == std::string::npos ? text : text.substr(blank + 1);
  if (last.empty()) throw UserError("its \"text\" has no last word: it is empty, or ends with a blank");
  return AfterContext(blank == std::string::npos ? "" : text.substr(0, blank), {last}, 0);
}

// "ctx" is taken as it is where the set's own fields are not there.
TaskItem HellaSwag(const Json& line) {
  std::string context;
  const bool is_clean = !line.contains("activity_label") && line.contains("ctx");
  if (is_clean) {
    context = Text(line, "ctx");
  } else {
    const std::string label = Text(line, "activity_label"), begin = Text(line, "ctx_a");
    context = WithoutBrackets(label + ": " + begin + " " + Capitalized(Text(line, "ctx_b")));
  }
  const Json& endings = Field(line, "endings");
  if (!endings.is_array() || endings.size() < 2) throw UserError("its \"endings\" are no list of texts");
  std::vector<std::string> choices;
  for (const Json& ending : endings) {
    if (!ending.is_string()) throw UserError("its \"endings\" are no list of texts");
    const std::string text = ending.get<std::string>();
    choices.push_back(ChoiceText(is_clean ? text : WithoutBrackets(text), "endings"));
  }
  const auto count = static_cast<int64_t>(choices.size());
  return AfterContext(context, choices, Label(line, "label", 0, count));
}

TaskItem Piqa(const Json& line) {
  const std::string goal = Text(line, "goal"), first = ChoiceText(Text(line, "sol1"), "sol1");
  const std::string second = ChoiceText(Text(line, "sol2"), "sol2");
  return AfterContext("Question: " + goal + "\nAnswer:", {first, second}, Label(line, "label", 0, 2));
}

// Choices as lists of texts and labels, or as a list of objects of both, and the label of the right one.
TaskItem Lettered(const std::string& context, const Json& choices, const Json& line) {
  std::vector<std::string> texts, labels;
  const auto take_text = [&](const Json& value, std::vector<std::string>& to) {
    if (!value.is_string()) throw UserError("its \"choices\" hold no texts");
    to.push_back(value.get<std::string>());
  };
  if (choices.is_object()) {
    for (const Json& text : Field(choices, "text")) take_text(text, texts);
    for (const Json& label : Field(choices, "label")) take_text(label, labels);
  } else if (choices.is_array()) {
    for (const Json& choice : choices) {
      if (!choice.is_object()) throw UserError("its \"choices\" are no objects of \"text\" and \"label\"");
      take_text(Field(choice, "text"), texts);
      take_text(Field(choice, "label"), labels);
    }
  } else {
    throw UserError("its \"choices\" are no list");
  }
  if (texts.size() != labels.size())
    throw UserError(Format("its \"choices\" have %d texts but %d labels", texts.size(), labels.size()));
  if (texts.size() < 2) throw UserError("its \"choices\" are fewer than two");
  for (const std::string& text : texts) ChoiceText(text, "choices");
  const std::string key = Stripped(Text(line, "answerKey"));
  const auto found = std::find(labels.begin(), labels.end(), key);
  if (found == labels.end()) throw UserError("its \"answerKey\" is \"" + key + "\", no label of its choices");
  return AfterContext(context, texts, found - labels.begin());
}

// The question as a text beside the choices, or as an object with "stem" and "choices".
TaskItem Arc(const Json& line) {
  const Json& question = Field(line, "question");
  const bool is_object = question.is_object();
  const std::string stem = is_object ? Text(question, "stem") : Text(line, "question");
  return Lettered("Question: " + stem + "\nAnswer:", Field(is_object ? question : line, "choices"), line);
}

TaskItem OpenBookQa(const Json& line) {
  if (line.contains("question_stem"))
    return Lettered(Text(line, "question_stem"), Field(line, "choices"), line);
  if (!line.contains("question") || !line["question"].is_object()) Field(line, "question_stem");  // throws
  return Lettered(Text(line["question"], "stem"), Field(line["question"], "choices"), line);
}

// The choices are the contexts: what follows the blank is the same behind both.
TaskItem WinoGrande(const Json& line) {
  const std::string sentence = Text(line, "sentence");
  const size_t blank = sentence.find('_');
  if (blank == std::string::npos) throw UserError("its \"sentence\" has no _ to fill");
  const std::string rest = Stripped(sentence.substr(blank + 1));
  if (rest.empty()) throw UserError("its \"sentence\" has nothing behind the _ to score");
  TaskItem item{.gold = Label(line, "answer", 1, 2)};
  for (const char* key : {"option1", "option2"}) {
    const std::string option = ChoiceText(Text(line, key), key);
    item.choices.push_back(
        {.context = sentence.substr(0, blank) + option, .continuation = " " + rest, .text = option});
  }
  return item;
}

// "label" of 0 and 1, or the set's own "answer" of true and false.
TaskItem BoolQ(const Json& line) {
  const std::string passage = Text(line, "passage"), question = Text(line, "question");
  const std::string context = passage + "\nQuestion: " + question + "?\nAnswer:";
  int64_t gold = 0;
  if (line.contains("answer") && !line.contains("label")) {
    if (!line["answer"].is_boolean()) throw UserError("its \"answer\" is neither true nor false");
    gold = line["answer"].get<bool>() ? 1 : 0;
  } else {
    gold = Label(line, "label", 0, 2);
  }
  return AfterContext(context, {"no", "yes"}, gold);
}

TaskItem Siqa(const Json& line) {
  const std::string context = Text(line, "context"), question = Text(line, "question");
  std::vector<std::string> answers;
  for (const char* key : {"answerA", "answerB", "answerC"})
    answers.push_back(ChoiceText(Text(line, key), key));
  return AfterContext("Q: " + context + " " + question + "\nA:", answers, Label(line, "label", 1, 3));
}

}  // namespace

const std::vector<TaskInfo>& AllTasks() {
  static const std::vector<TaskInfo> tasks = {
      {"lambada", "lambada_openai", false, Lambada},
      {"hellaswag", "hellaswag", true, HellaSwag},
      {"piqa", "piqa", true, Piqa},
      {"arc_easy", "arc_easy", true, Arc},
      {"arc_challenge", "arc_challenge", true, Arc},
      {"winogrande", "winogrande", false, WinoGrande},
      {"boolq", "boolq", false, BoolQ},
      {"openbookqa", "openbookqa", true, OpenBookQa},
      {"siqa", "social_iqa", false, Siqa},
  };
  return tasks;
}

const TaskInfo& TaskNamed(const std::string& name) {
  std::string all;
  for (const TaskInfo& task : AllTasks()) {
    if (name == task.name || name == task.harness_name) return task;
    all += (all.empty() ? "" : ", ") + std::string(task.name);
  }
  throw UserError("task \"" + name + "\": there is no such task; there are " + all);
}

}  // namespace unipool
