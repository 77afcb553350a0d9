#include "launcher/tokens/prompts.h"

#include <filesystem>

#include "launcher/tokens/input_file.h"
#include "launcher/tokens/tokenize_input.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr size_t kChunkBytes = 1 << 16;
constexpr size_t kMostBytes = size_t{1} << 26;  // of one prompt

bool IsJsonLines(std::string path) {
  for (const char* packed : {".gz", ".zst", ".bz2", ".xz"}) {
    if (path.ends_with(packed)) path = std::filesystem::path(path).replace_extension().string();
  }
  return path.ends_with(".jsonl");
}

std::string OfLine(std::string_view line, bool is_json) {
  std::string text(line);
  if (is_json) ExtractText(line, "text", text);
  if (!is_json && text.ends_with('\r')) text.pop_back();
  return text;
}

}  // namespace

Prompt ReadPromptOfInput() {
  InputFile file("-");
  std::string text;
  for (size_t count = kChunkBytes; count > 0;) {
    const size_t before = text.size();
    text.resize(before + kChunkBytes);
    count = file.Read(text.data() + before, kChunkBytes);
    text.resize(before + count);
    if (text.size() > kMostBytes) throw UserError("standard input: is longer than 64 MiB; is this a prompt?");
  }
  if (text.ends_with('\n')) text.pop_back();
  return {.text = text, .origin = file.name()};
}

PromptFile ReadPrompts(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    throw UserError("--prompt_file " + path + ": is a folder; name a file with a prompt a line");
  const bool is_json = IsJsonLines(path);
  PromptFile found;
  LineReader reader({path}, kChunkBytes);
  LineChunk chunk;
  std::string name = path;
  while (reader.Next(chunk)) {
    name = chunk.path;
    std::string_view rest = chunk.text;
    for (int64_t line = chunk.first_line; !rest.empty(); ++line) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      const std::string_view content = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (content.find_first_not_of(" \t\r") == std::string_view::npos) {
        ++found.blank_lines;
        continue;
      }
      const std::string origin = Format("%s, line %d", name.c_str(), line);
      try {
        found.prompts.push_back({.text = OfLine(content, is_json), .origin = origin});
      } catch (const UserError& error) {
        throw UserError(origin + ": " + error.what());
      }
    }
  }
  if (found.prompts.empty()) throw UserError(name + ": holds no prompt; write one a line");
  return found;
}

std::string StopString(const std::string& given) {
  if (given.empty()) throw UserError("--stop: is empty; a text that ends before nothing has no token");
  std::string text;
  for (size_t i = 0; i < given.size(); ++i) {
    const char next = given[i] == '\\' && i + 1 < given.size() ? given[i + 1] : 0;
    const char meant = next == 'n' ? '\n' : next == 't' ? '\t' : next == 'r' ? '\r' : next == '\\' ? '\\' : 0;
    text.push_back(meant != 0 ? meant : given[i]);
    if (meant != 0) ++i;
  }
  return text;
}

}  // namespace unipool
