#include "launcher/tokens/input_file.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>
#include <utility>

#include "runtime/errors.h"
#include "runtime/file_sum.h"
#include "runtime/watchdog.h"

extern char** environ;

namespace unipool {
namespace {

using std::string_view_literals::operator""sv;

struct Packing {
  const char* tool;  // TOOL -dc unpacks its standard input
  const char* suffix;
  std::string_view magic;
};

constexpr Packing kPackings[] = {
    {"gzip", ".gz", "\x1f\x8b"sv},
    {"zstd", ".zst", "\x28\xb5\x2f\xfd"sv},
    {"zstd", ".zst", "\x50\x2a\x4d\x18"sv},  // a frame to skip, as pzstd begins
    {"bzip2", ".bz2", "BZh"sv},
    {"xz", ".xz",
     "\xfd"
     "7zXZ\0"sv},
};

// How `begin` is packed, or null.
const Packing* PackingOf(std::string_view begin) {
  for (const Packing& packing : kPackings) {
    if (begin.substr(0, packing.magic.size()) == packing.magic) return &packing;
  }
  return nullptr;
}

const Packing* PackingOfFile(int file) {
  char begin[8];
  const ssize_t count = pread(file, begin, sizeof begin, 0);
  return count > 0 ? PackingOf({begin, static_cast<size_t>(count)}) : nullptr;
}

[[noreturn]] void Fail(const std::string& name, const char* what, int error) {
  throw UserError(Format("%s: cannot be %s: %s", name.c_str(), what, std::strerror(error)));
}

ssize_t ReadAgain(int file, char* to, size_t most) {
  ssize_t count;
  do {
    count = read(file, to, most);
  } while (count < 0 && errno == EINTR);
  return count;
}

bool SameContent(const struct stat& a, const struct stat& b) {
  return a.st_size == b.st_size && a.st_mtim.tv_sec == b.st_mtim.tv_sec &&
         a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

void Close(int& file) {
  if (file >= 0) close(file);
  file = -1;
}

}  // namespace

InputFile::InputFile(const std::string& path) : path_(path), name_(path == "-" ? "standard input" : path) {
  file_ = path == "-" ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_ < 0) Fail(name_, "opened", errno);
  try {
    if (fstat(file_, &opened_) != 0) Fail(name_, "opened", errno);
    const Packing* packing = S_ISREG(opened_.st_mode) ? PackingOfFile(file_) : nullptr;
    if (packing) {
      StartTool(packing->tool);
      return;
    }
    for (const Packing& named : kPackings) {
      if (!S_ISREG(opened_.st_mode) || !path.ends_with(named.suffix)) continue;
      throw UserError(Format("%s: does not begin as %s files do; it is cut off, damaged or misnamed",
                             name_.c_str(), named.suffix));
    }
    text_ = file_;
  } catch (...) {
    Close(file_);
    throw;
  }
}

InputFile::~InputFile() {
  if (text_ != file_) Close(text_);
  Close(file_);
  if (tool_ > 0) {  // it is in the middle of the file, and nobody waits for the rest
    kill(tool_, SIGKILL);
    EndOfTool();
  }
  Close(report_);
}

void InputFile::StartTool(const char* tool) {
  tool_name_ = tool;
  int ends[2] = {-1, -1};
  report_ = memfd_create("report of the unpacking program", MFD_CLOEXEC);
  if (report_ < 0 || pipe2(ends, O_CLOEXEC) != 0) Fail(name_, "unpacked", errno);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, file_, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, report_, STDERR_FILENO);
  posix_spawnattr_t signals;
  posix_spawnattr_init(&signals);
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigdefault(&signals, &defaults);
  posix_spawnattr_setflags(&signals, POSIX_SPAWN_SETSIGDEF);
  std::string name = tool, unpack = "-dc";
  char* arguments[] = {name.data(), unpack.data(), nullptr};
  const int error = posix_spawnp(&tool_, tool, &files, &signals, arguments, environ);
  posix_spawnattr_destroy(&signals);
  posix_spawn_file_actions_destroy(&files);
  close(ends[1]);
  text_ = ends[0];
  if (error == 0) return;
  tool_ = -1;
  Close(text_);
  Close(report_);
  throw UserError(
      Format("%s: is compressed, and the program %s that unpacks it cannot be started (%s); install it, or "
             "unpack the file first",
             name_.c_str(), tool, std::strerror(error)));
}

size_t InputFile::Read(char* to, size_t most) {
  const ssize_t count = ReadAgain(text_, to, most);
  if (count < 0) Fail(name_, "read", errno);
  if (count == 0) CheckEnd();
  if (std::exchange(at_begin_, false) && tool_ < 0) {
    if (const Packing* packing = PackingOf({to, static_cast<size_t>(count)})) {
      throw UserError(
          Format("%s: comes compressed through a pipe; unpack it on the way, for example with %s -dc FILE | "
                 "unipool tokenize -",
                 name_.c_str(), packing->tool));
    }
  }
  return static_cast<size_t>(count);
}

void InputFile::CheckEnd() {
  struct stat now = {};
  if (S_ISREG(opened_.st_mode)) {
    if (fstat(file_, &now) != 0 || !SameContent(opened_, now)) {
      throw UserError(
          Format("%s: was written to while it was read (%d bytes at the begin, %d at the end); "
                 "repeat the command when nothing changes the file",
                 name_.c_str(), static_cast<int64_t>(opened_.st_size), static_cast<int64_t>(now.st_size)));
    }
    if (path_ != "-" && !StillNames(path_, file_)) {
      PrintErrorLine(Format("note: %s was replaced while it was read; the texts are those of the former file",
                            name_.c_str()));
    }
  }
  const std::string problem = EndOfTool();
  if (!problem.empty()) {
    throw UserError(Format("%s: cannot be unpacked (%s)", name_.c_str(), problem.c_str()));
  }
}

std::string InputFile::EndOfTool() {
  if (tool_ < 0) return "";
  int status = 0;
  while (waitpid(tool_, &status, 0) < 0 && errno == EINTR) {
  }
  tool_ = -1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return "";
  char said[1000];
  const ssize_t count = std::max<ssize_t>(pread(report_, said, sizeof said, 0), 0);
  std::string text(said, static_cast<size_t>(count));
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  text.erase(0, std::min(text.find_first_not_of(" \n"), text.size()));
  for (size_t line; (line = text.find('\n')) != std::string::npos;) text.replace(line, 1, " ");
  if (text.empty()) text = Format("%s ended with status %d", tool_name_.c_str(), status);
  return text;
}

bool InputFile::IsPacked(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return false;
  const bool is_packed = PackingOfFile(file) != nullptr;
  close(file);
  return is_packed;
}

}  // namespace unipool
