// The terminal on which people see what this process prints, and what it can show.
#pragma once

#include <string>

namespace unipool {

// The terminal that this process's standard output ends at. mpirun gives its ranks a terminal or pipe of
// their own; what they print ends where mpirun's own output goes. Nothing there when mpirun marks or splits
// lines.
class OutputTerminal {
 public:
  explicit OutputTerminal(bool under_mpirun);
  ~OutputTerminal();
  OutputTerminal(const OutputTerminal&) = delete;
  bool is_there() const { return fd_ >= 0; }
  int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

struct TerminalSize {
  int columns = 80, rows = 24;
};
// Now; people resize their windows. Where it is not known: COLUMNS and LINES of the environment, or 80 x 24.
TerminalSize SizeOfTerminal(int fd);

// Whether mpirun or the like has started this process, so that its output is not its own.
bool IsUnderMpirun();

// The text without what a terminal would obey: a control character but the end of a line is "\x1b".
std::string TerminalText(const std::string& text);

// "note: ..." on standard error, by the process that prints. "": nothing.
void TellNote(const std::string& note);

// Whether the locale's characters are UTF-8, so that block characters can be shown.
bool ShowsUtf8();

// Whether lines of several colors may be shown on `fd`: a terminal, and neither NO_COLOR nor TERM=dumb.
bool ShowsColors(int fd);

}  // namespace unipool
