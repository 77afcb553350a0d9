#include "launcher/slurm/shell_words.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr const char* kPlain = "_-+=.,/:@%^";  // beside letters and digits

bool IsPlain(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || std::string(kPlain).find(c) != std::string::npos;
}

std::string Replace(const std::string& text, char from, const std::string& to) {
  std::string result;
  for (const char c : text) result += c == from ? to : std::string(1, c);
  return result;
}

}  // namespace

std::string ShellWord(const std::string& text) {
  if (!text.empty() && text[0] != '=' && std::all_of(text.begin(), text.end(), IsPlain)) return text;
  return "'" + Replace(text, '\'', R"('\'')") + "'";
}

std::string ShellWords(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + ShellWord(word);
  return text;
}

std::string SbatchWord(const std::string& text) {
  if (!text.empty() && std::all_of(text.begin(), text.end(), IsPlain)) return text;
  return "\"" + Replace(Replace(text, '\\', "\\\\"), '"', "\\\"") + "\"";
}

std::string SbatchPattern(const std::string& text) {
  return Replace(text, '%', "%%");
}

std::vector<std::string> SplitShellWords(const std::string& text, const std::string& name) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\' && quote != '\'' && i + 1 < text.size()) {
      word += text[++i];
      in_word = true;
    } else if (quote != 0) {
      if (c == quote) {
        quote = 0;
      } else {
        word += c;
      }
    } else if (c == '\'' || c == '"') {
      quote = c;
      in_word = true;
    } else if (std::isspace(static_cast<unsigned char>(c)) != 0) {
      if (in_word) words.push_back(std::exchange(word, ""));
      in_word = false;
    } else {
      word += c;
      in_word = true;
    }
  }
  if (quote != 0) throw UserError(name + ": a quote " + quote + " is not closed in: " + text);
  if (in_word) words.push_back(word);
  return words;
}

bool HasControlCharacters(const std::string& text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return std::iscntrl(static_cast<unsigned char>(c)) != 0; });
}

}  // namespace unipool
