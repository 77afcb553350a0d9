#include "launcher/config_text.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/text_format.h>

#include <memory>
#include <set>

#include "launcher/nearest_name.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace pb = google::protobuf;
using Token = pb::io::Tokenizer::Token;

// Keeps protobuf from logging: what it says is said again by this file in the words of the schema.
class SilentCollector : public pb::io::ErrorCollector {
 public:
  void AddError(int, int, const std::string&) override {}
};

std::string Expected(const pb::FieldDescriptor& field) {
  using Type = pb::FieldDescriptor;
  switch (field.cpp_type()) {
    case Type::CPPTYPE_INT32:
      return "a whole number (32 bits)";
    case Type::CPPTYPE_INT64:
      return "a whole number";
    case Type::CPPTYPE_UINT32:
    case Type::CPPTYPE_UINT64:
      return "a whole number, not negative";
    case Type::CPPTYPE_DOUBLE:
    case Type::CPPTYPE_FLOAT:
      return "a number";
    case Type::CPPTYPE_BOOL:
      return "true or false";
    case Type::CPPTYPE_STRING:
      return "a text in quotes";
    case Type::CPPTYPE_ENUM: {
      std::vector<std::string> names;
      for (int i = 0; i < field.enum_type()->value_count(); ++i)
        names.push_back(field.enum_type()->value(i)->name());
      return "one of " + JoinNames(names);
    }
    default:
      return "a block { ... }";
  }
}

std::string EnumSuggestion(const pb::FieldDescriptor& field, const std::string& value) {
  if (field.cpp_type() != pb::FieldDescriptor::CPPTYPE_ENUM) return "";
  std::vector<std::string> names;
  for (int i = 0; i < field.enum_type()->value_count(); ++i)
    names.push_back(field.enum_type()->value(i)->name());
  const bool is_gpu = EditDistance(value, "GPU") == 0;  // what people call the device CUDA
  for (const std::string& name : names) {
    if (is_gpu && name == "CUDA") return "; did you mean CUDA?";
  }
  return DidYouMean(value, names);
}

// parallel.ranks has a word for 0.
std::string AutoSuggestion(const pb::FieldDescriptor& field, const std::string& value) {
  if (field.full_name() != "unipool.ParallelConfig.ranks" || NearestName(value, {"auto"}).empty()) return "";
  return "; did you mean auto? It is parallel.ranks=auto on the command line, and 0 in a file";
}

// Walks the statements of a text and compares each with the schema.
class Diagnosis {
 public:
  Diagnosis(const pb::Message& schema, const std::string& file, const std::string& text)
      : schema_(schema),
        file_(file),
        input_(text.data(), static_cast<int>(text.size())),
        tokens_(&input_, &silent_) {
    tokens_.set_comment_style(pb::io::Tokenizer::SH_COMMENT_STYLE);
    tokens_.Next();
  }

  std::vector<std::string> Run() {
    Statements(schema_.GetDescriptor(), "", "");
    return problems_;
  }

 private:
  const Token& token() { return tokens_.current(); }
  bool AtEnd() { return token().type == pb::io::Tokenizer::TYPE_END; }
  bool At(const char* symbol) { return token().text == symbol; }
  bool Take(const char* symbol) {
    if (!At(symbol)) return false;
    tokens_.Next();
    return true;
  }
  void Report(int line, const std::string& problem) {
    problems_.push_back(Format("%s:%d: ", file_.c_str(), line + 1) + problem);
  }
  // Nothing after this point can be trusted: report and go to the end.
  void GiveUp(const std::string& problem) {
    Report(token().line, problem);
    gave_up_ = true;
    while (tokens_.Next()) {
    }
  }

  // Statements up to `close` (or the end of the file). message is null inside a block of an unknown field.
  void Statements(const pb::Descriptor* message, const std::string& prefix, const std::string& close) {
    std::set<std::string> seen;
    while (!AtEnd() && !(!close.empty() && At(close.c_str()))) Statement(message, prefix, seen);
    if (close.empty() || gave_up_ || Take(close.c_str())) return;
    Report(token().line, Format("the block of %s is not closed; a \"%s\" is missing",
                                prefix.substr(0, prefix.size() - 1).c_str(), close.c_str()));
  }

  void Statement(const pb::Descriptor* message, const std::string& prefix, std::set<std::string>& seen) {
    if (token().type != pb::io::Tokenizer::TYPE_IDENTIFIER) {
      return GiveUp(Format("expected the name of a field, found \"%s\"", token().text.c_str()));
    }
    const std::string name = token().text, path = prefix + name;
    const int line = token().line;
    tokens_.Next();
    const pb::FieldDescriptor* field = message ? message->FindFieldByName(name) : nullptr;
    if (message && !field) {
      Report(line, path + ": no such field" + SuggestField(*schema_.GetDescriptor(), *message, path));
    } else if (field && !field->is_repeated() && !seen.insert(name).second) {
      Report(line, path + ": given twice; keep one of the two");
    }
    const bool colon = Take(":");
    if (At("{") || At("<")) {
      Block(field, path, line);
    } else if (!colon) {
      return GiveUp(
          Format("%s: expected \":\" and a value, found \"%s\"", path.c_str(), token().text.c_str()));
    } else {
      Values(field, path, line);
    }
    if (!Take(";")) Take(",");
  }

  void Block(const pb::FieldDescriptor* field, const std::string& path, int line) {
    const bool is_message = field && field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE;
    if (field && !is_message) Report(line, path + ": expected " + Expected(*field) + ", found a block");
    const std::string close = At("{") ? "}" : ">";
    tokens_.Next();
    Statements(is_message ? field->message_type() : nullptr, path + ".", close);
  }

  void Values(const pb::FieldDescriptor* field, const std::string& path, int line) {
    if (!At("[")) return CheckValue(field, path, line, Value());
    tokens_.Next();
    if (field && !field->is_repeated())
      Report(line, path + ": expected " + Expected(*field) + ", found a list");
    while (!AtEnd() && !At("]")) {
      const int value_line = token().line;
      CheckValue(field && field->is_repeated() ? field : nullptr, path, value_line, Value());
      if (!Take(",")) break;
    }
    if (!Take("]")) GiveUp(path + ": the list is not closed; a \"]\" is missing");
  }

  // One value: a word, a number with its sign, or neighbouring strings (which text format joins).
  std::string Value() {
    std::string text(Take("-") ? 1 : 0, '-');
    const bool is_string = token().type == pb::io::Tokenizer::TYPE_STRING;
    const int line = token().line;
    do {
      text += token().text;
      tokens_.Next();
    } while (is_string && token().type == pb::io::Tokenizer::TYPE_STRING);
    // "5_000" and "10k" are two tokens without a space: one value for people.
    while (!is_string && !AtEnd() && token().line == line &&
           tokens_.previous().end_column == token().column &&
           (token().type == pb::io::Tokenizer::TYPE_IDENTIFIER ||
            token().type == pb::io::Tokenizer::TYPE_INTEGER)) {
      text += token().text;
      tokens_.Next();
    }
    return text;
  }

  void CheckValue(const pb::FieldDescriptor* field, const std::string& path, int line,
                  const std::string& value) {
    if (!field) return;
    if (field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE) {
      return Report(line, Format("%s: expected a block { ... }, found %s", path.c_str(), value.c_str()));
    }
    std::unique_ptr<pb::Message> owner(
        pb::MessageFactory::generated_factory()->GetPrototype(field->containing_type())->New());
    const std::string problem = SetFieldFromText(*owner, *field, value);
    if (!problem.empty()) Report(line, path + ": " + problem);
  }

  const pb::Message& schema_;
  std::string file_;
  SilentCollector silent_;
  pb::io::ArrayInputStream input_;
  pb::io::Tokenizer tokens_;
  std::vector<std::string> problems_;
  bool gave_up_ = false;
};

}  // namespace

std::vector<std::string> FieldNames(const pb::Descriptor& message) {
  std::vector<std::string> names;
  for (int i = 0; i < message.field_count(); ++i) names.push_back(message.field(i)->name());
  return names;
}

std::vector<std::string> LeafPaths(const pb::Descriptor& message, const std::string& prefix) {
  std::vector<std::string> paths;
  for (int i = 0; i < message.field_count(); ++i) {
    const pb::FieldDescriptor& field = *message.field(i);
    if (field.cpp_type() != pb::FieldDescriptor::CPPTYPE_MESSAGE) {
      paths.push_back(prefix + field.name());
      continue;
    }
    for (std::string& path : LeafPaths(*field.message_type(), prefix + field.name() + ".")) {
      paths.push_back(std::move(path));
    }
  }
  return paths;
}

// "train." of "train.steps"; "" of a path without a dot.
static std::string BlockOf(const std::string& path) {
  return path.substr(0, path.rfind('.') + 1);
}

std::string SuggestField(const pb::Descriptor& root, const pb::Descriptor& message, const std::string& path) {
  const std::string name = path.substr(path.rfind('.') + 1);
  std::vector<std::string> elsewhere;  // the right name in the wrong block
  for (const std::string& leaf : LeafPaths(root)) {
    if (leaf.substr(leaf.rfind('.') + 1) == name) elsewhere.push_back(leaf);
  }
  if (!elsewhere.empty()) return "; did you mean " + JoinNames(elsewhere) + "?";
  const std::string near = NearestName(name, FieldNames(message));
  if (!near.empty()) return "; did you mean " + (&message == &root ? "" : BlockOf(path)) + near + "?";
  const std::string far = DidYouMean(path, LeafPaths(root));
  return far.empty() ? "; fields here: " + JoinNames(FieldNames(message)) : far;
}

std::string SetFieldFromText(pb::Message& message, const pb::FieldDescriptor& field,
                             const std::string& value) {
  SilentCollector silent;
  pb::TextFormat::Parser parser;
  parser.RecordErrorsTo(&silent);
  if (parser.ParseFieldValueFromString(value, &field, &message)) return "";
  const bool quoted = !value.empty() && (value[0] == '"' || value[0] == '\'');
  return "expected " + Expected(field) + ", found " + (quoted ? value : "\"" + value + "\"") +
         EnumSuggestion(field, value) + AutoSuggestion(field, value);
}

std::vector<std::string> DiagnoseConfigText(const pb::Message& schema, const std::string& file,
                                            const std::string& text) {
  return Diagnosis(schema, file, text).Run();
}

}  // namespace unipool
