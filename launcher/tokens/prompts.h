// The texts that `generate` continues.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace unipool {

struct Prompt {
  std::string text;
  std::string origin;  // for messages: "--prompt", "a.txt, line 3"
};

// All of the standard input as one prompt. One line end at its end is left out: shells and editors put it
// there. Throws UserError.
Prompt ReadPromptOfInput();

struct PromptFile {
  std::vector<Prompt> prompts;  // at least one
  int64_t blank_lines = 0;      // that are no prompts
};
// One prompt a line of a file (input_file.h); blank lines are none. Lines of a file NAME.jsonl, compressed or
// not, are JSON objects whose "text" is the prompt. "-" is the standard input, of plain lines. Throws
// UserError that names file and line, also where there is no prompt in it.
PromptFile ReadPrompts(const std::string& path);

// A stop string as it is given: \n, \t, \r and \\ stand for the characters. Throws UserError for "".
std::string StopString(const std::string& given);

}  // namespace unipool
