// Text that a shell or sbatch reads as one word, whatever it holds, and words out of text. Nothing here
// runs anything.
#pragma once

#include <string>
#include <vector>

namespace unipool {

// As one word of bash: as it is where that is plain, else in single quotes.
std::string ShellWord(const std::string& text);
std::string ShellWords(const std::vector<std::string>& words);  // with blanks between them
// As the value of an option in a line `#SBATCH --name=VALUE`, which sbatch parses by rules of its own.
std::string SbatchWord(const std::string& text);
// As a part of a file name pattern of sbatch (--output), where % begins a replacement.
std::string SbatchPattern(const std::string& text);

// The words of a text that a person quoted as for a shell, with ', " and \. No variable or command is
// expanded. Throws UserError, beginning with `name`, when a quote is not closed.
std::vector<std::string> SplitShellWords(const std::string& text, const std::string& name);

// Whether a text has characters that end a line, or other control characters: no script line can hold it.
bool HasControlCharacters(const std::string& text);

}  // namespace unipool
