#include "launcher/config.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "launcher/config_text.h"
#include "launcher/home_path.h"
#include "launcher/nearest_name.h"
#include "launcher/preset_folder.h"
#include "launcher/text_list.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace pb = google::protobuf;

// Some editors begin a text with these three bytes.
std::string WithoutByteOrderMark(const std::string& text) {
  return text.rfind("\xEF\xBB\xBF", 0) == 0 ? text.substr(3) : text;
}

std::string ReadConfigFile(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    const std::string own = (fs::path(path) / "config.txtpb").string();
    throw UserError(path + ": is a folder; give a configuration file (.txtpb)" +
                    (fs::exists(own, ignored) ? "; that of this run is " + own : ""));
  }
  std::ifstream file(path);
  std::ostringstream text;
  if (file && text << file.rdbuf()) return WithoutByteOrderMark(text.str());
  if (file && fs::is_regular_file(path, ignored) && fs::is_empty(path, ignored)) return "";
  if (file && !fs::is_regular_file(path, ignored))
    throw UserError(path + ": holds nothing and is no regular file; give a configuration file (.txtpb)");
  const std::string reason = std::strerror(errno);
  if (const std::string preset = FindPreset(path); !preset.empty())
    throw UserError(path + ": cannot be read (" + reason + "); did you mean " + preset + "?");
  std::vector<std::string> neighbours;
  const fs::path folder = fs::path(path).parent_path();
  for (const auto& entry : fs::directory_iterator(folder.empty() ? "." : folder, ignored)) {
    if (entry.path().extension() == ".txtpb")
      neighbours.push_back((folder / entry.path().filename()).string());
  }
  std::sort(neighbours.begin(), neighbours.end());
  throw UserError(path + ": cannot be read (" + reason + ")" + DidYouMean(path, neighbours));
}

class SyntaxErrors : public pb::io::ErrorCollector {
 public:
  explicit SyntaxErrors(std::string file) : file_(std::move(file)) {}
  void AddError(int line, int column, const std::string& message) override {
    problems.push_back(Format("%s:%d:%d: %s", file_.c_str(), line + 1, column + 1, message.c_str()));
  }
  std::vector<std::string> problems;

 private:
  std::string file_;
};

std::string Trim(const std::string& text) {
  const auto begin = text.find_first_not_of(" \t\n");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\n") - begin + 1);
}

std::string Unquote(const std::string& text) {
  if (text.size() >= 2 && (text[0] == '"' || text[0] == '\'') && text.back() == text[0]) {
    return text.substr(1, text.size() - 2);
  }
  return text;
}

std::vector<std::string> SplitList(const std::string& text) {
  const bool in_brackets = text.size() >= 2 && text.front() == '[' && text.back() == ']';
  return SplitTextList(in_brackets ? text.substr(1, text.size() - 2) : text);
}

std::string UpperCase(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::toupper(c); });
  return text;
}

// Sets one field that is not a message from an override's value; returns "" or what is wrong.
std::string ReplaceValue(pb::Message& message, const pb::FieldDescriptor& field, const std::string& value) {
  const pb::Reflection& reflection = *message.GetReflection();
  reflection.ClearField(&message, &field);
  if (field.is_repeated()) {
    const bool is_text = field.cpp_type() == pb::FieldDescriptor::CPPTYPE_STRING;
    for (const std::string& item : SplitList(value)) {
      if (is_text) {
        reflection.AddString(&message, &field, item);
      } else if (std::string problem = SetFieldFromText(message, field, item); !problem.empty()) {
        return problem;
      }
    }
    return "";
  }
  if (field.cpp_type() == pb::FieldDescriptor::CPPTYPE_STRING) {
    reflection.SetString(&message, &field, Unquote(value));
    return "";
  }
  const bool is_enum = field.cpp_type() == pb::FieldDescriptor::CPPTYPE_ENUM;
  return SetFieldFromText(message, field, is_enum ? UpperCase(value) : value);
}

// Returns "" or what is wrong.
std::string ApplyOverride(Config& config, const std::string& override_text) {
  const auto equals = override_text.find('=');
  if (equals == std::string::npos || equals == 0)
    return "expected field.path=value, for example train.steps=100";
  const std::string path = Trim(override_text.substr(0, equals)),
                    value = Trim(override_text.substr(equals + 1));
  pb::Message* message = &config;
  for (size_t begin = 0;;) {
    const size_t dot = path.find('.', begin);
    const bool last = dot == std::string::npos;
    const pb::Descriptor& type = *message->GetDescriptor();
    const pb::FieldDescriptor* field = type.FindFieldByName(path.substr(begin, last ? dot : dot - begin));
    if (!field) return "no such field" + SuggestField(*config.GetDescriptor(), type, path);
    const bool is_message = field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE;
    if (is_message == last) {
      return is_message
                 ? "is a block; name one of its fields: " + JoinNames(FieldNames(*field->message_type()))
                 : path.substr(0, dot) + " has no fields of its own";
    }
    if (last) return ReplaceValue(*message, *field, value);
    message = message->GetReflection()->MutableMessage(message, field);
    begin = dot + 1;
  }
}

void PrintField(const pb::Message& message, const pb::FieldDescriptor& field, const std::string& indent,
                std::string& text);

void PrintMessage(const pb::Message& message, const std::string& indent, std::string& text) {
  const pb::Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) PrintField(message, *type.field(i), indent, text);
}

void PrintField(const pb::Message& message, const pb::FieldDescriptor& field, const std::string& indent,
                std::string& text) {
  const pb::Reflection& reflection = *message.GetReflection();
  if (field.cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE) {
    text += indent + field.name() + " {\n";
    PrintMessage(reflection.GetMessage(message, &field), indent + "  ", text);
    text += indent + "}\n";
    return;
  }
  text += indent + field.name() + ": ";
  std::string value;
  if (!field.is_repeated()) {
    // The default where the field is not set.
    pb::TextFormat::PrintFieldValueToString(message, &field, -1, &value);
    text += value + "\n";
    return;
  }
  std::vector<std::string> values;
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    pb::TextFormat::PrintFieldValueToString(message, &field, i, &value);
    values.push_back(value);
  }
  text.append("[").append(JoinNames(values)).append("]\n");
}

// A message of a text with problems stays empty.
void ParseText(const std::string& text, const std::string& name, pb::Message& message, Problems& problems) {
  SyntaxErrors syntax(name);
  pb::TextFormat::Parser parser;
  parser.RecordErrorsTo(&syntax);
  if (parser.ParseFromString(text, &message)) return;
  message.Clear();
  std::vector<std::string> found = DiagnoseConfigText(message, name, text);
  for (std::string& problem : found.empty() ? syntax.problems : found) problems.Add(std::move(problem));
}

}  // namespace

void LoadText(const std::string& path, pb::Message& message) {
  // The file may be read by many ranks, and later again; a pipe would be empty then.
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored) && !std::filesystem::is_directory(path, ignored) &&
      !std::filesystem::is_regular_file(path, ignored)) {
    throw UserError(path + ": is not a regular file");
  }
  Problems problems;
  ParseText(ReadConfigFile(path), path, message, problems);
  problems.ThrowIfAny();
}

Config ParseConfig(const std::string& text, const std::string& name,
                   const std::vector<std::string>& overrides) {
  Config config;
  Problems problems;
  ParseText(text, name, config, problems);
  for (const std::string& override_text : overrides) {
    const std::string problem = ApplyOverride(config, override_text);
    if (!problem.empty()) problems.Add("override " + override_text + ": " + problem);
  }
  problems.ThrowIfAny();
  ExpandHome(config);
  return config;
}

Config LoadConfig(const std::string& path, const std::vector<std::string>& overrides) {
  const std::string text = ReadConfigFile(path);
  try {
    return ParseConfig(text, path, overrides);
  } catch (const UserError& error) {
    if (path.ends_with(".txtpb")) throw;
    std::vector<std::string> problems = error.problems();
    problems.push_back(path + ": is read as a configuration file (.txtpb); to train on it: unipool train " +
                       "configs/demo.txtpb data.train=" + path);
    throw UserError(problems);
  }
}

std::string ResolvedConfigText(const Config& config) {
  std::string text;
  PrintMessage(config, "", text);
  return text;
}

}  // namespace unipool
