#include "launcher/reports/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "launcher/command_line.h"
#include "runtime/errors.h"
#include "runtime/watchdog.h"

namespace unipool {
namespace {

constexpr int kMostWrappers = 8;  // scripts between mpirun and this process

std::string TextOf(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// 0 where it cannot be told.
int ParentOf(int pid) {
  const std::string stat = TextOf(Format("/proc/%d/stat", pid));
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos || name_end + 4 > stat.size()) return 0;
  return std::atoi(stat.c_str() + name_end + 3);
}

// --tag-output, --timestamp-output, --output-filename, --output ...: lines get marks, or go to files.
bool ChangesOutput(int pid) {
  std::istringstream words(TextOf(Format("/proc/%d/cmdline", pid)));
  for (std::string word; std::getline(words, word, '\0');) {
    if (word.starts_with("-") && word.find("output") != std::string::npos) return true;
  }
  return false;
}

bool IsSame(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// Standard output of the nearest ancestor whose output is another than ours: mpirun's.
int OpenOutputOfLauncher() {
  struct stat ours, theirs;
  if (fstat(STDOUT_FILENO, &ours) != 0) return -1;
  for (int pid = getppid(), i = 0; pid > 1 && i < kMostWrappers; pid = ParentOf(pid), ++i) {
    const std::string path = Format("/proc/%d/fd/1", pid);
    if (stat(path.c_str(), &theirs) != 0) return -1;
    if (IsSame(ours, theirs)) continue;
    if (!S_ISCHR(theirs.st_mode) || ChangesOutput(pid)) return -1;
    return open(path.c_str(), O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  }
  return -1;
}

int NumberOf(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  const int number = text ? std::atoi(text) : 0;
  return number > 0 && number < 10'000 ? number : otherwise;
}

}  // namespace

OutputTerminal::OutputTerminal(bool under_mpirun)
    : fd_(under_mpirun ? OpenOutputOfLauncher() : dup(STDOUT_FILENO)) {
  if (fd_ >= 0 && isatty(fd_) == 0) {
    close(fd_);
    fd_ = -1;
  }
}

OutputTerminal::~OutputTerminal() {
  if (fd_ >= 0) close(fd_);
}

TerminalSize SizeOfTerminal(int fd) {
  TerminalSize size{.columns = NumberOf("COLUMNS", 80), .rows = NumberOf("LINES", 24)};
  winsize told{};
  if (fd < 0 || ioctl(fd, TIOCGWINSZ, &told) != 0) return size;
  if (told.ws_col > 0) size.columns = told.ws_col;
  if (told.ws_row > 0) size.rows = told.ws_row;
  return size;
}

bool IsUnderMpirun() {
  return std::getenv("OMPI_COMM_WORLD_RANK") != nullptr || std::getenv("PMIX_RANK") != nullptr;
}

std::string TerminalText(const std::string& text) {
  std::string shown;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if ((byte < 0x20 && byte != '\n') || byte == 0x7f) {
      shown += Format("\\x%02x", byte);
    } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {  // U+0080 to U+009F
      shown += Format("\\x%02x", next);
      ++i;
    } else {
      shown += text[i];
    }
  }
  return shown;
}

void TellNote(const std::string& note) {
  if (!note.empty() && IsPrintingProcess()) PrintErrorLine("note: " + TerminalText(note));
}

bool ShowsUtf8() {
  for (const char* variable : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* locale = std::getenv(variable);
    if (!locale || *locale == '\0') continue;
    for (const char* name : {"UTF-8", "utf-8", "UTF8", "utf8"}) {
      if (std::strstr(locale, name)) return true;
    }
    return false;
  }
  return false;
}

bool ShowsColors(int fd) {
  const char* no = std::getenv("NO_COLOR");
  const char* kind = std::getenv("TERM");
  return fd >= 0 && isatty(fd) != 0 && !(no && *no) && !(kind && std::strcmp(kind, "dumb") == 0);
}

}  // namespace unipool
