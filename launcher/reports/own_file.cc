#include "launcher/reports/own_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "launcher/standard_output.h"
#include "runtime/tensor_file.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

constexpr int kMostLinks = 40;
constexpr size_t kMostOfBegin = 256;

// The file behind a chain of links, whether it is there or not.
std::string BehindLinks(const std::string& path) {
  fs::path behind = path;
  std::error_code error;
  for (int i = 0; i < kMostLinks && fs::is_symlink(fs::symlink_status(behind, error)); ++i) {
    const fs::path target = fs::read_symlink(behind, error);
    if (error) throw UserError(path + ": cannot be read (" + error.message() + ")");
    behind = behind.parent_path() / target;
  }
  return behind.string();
}

std::string BeginOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw UserError(path + ": cannot be read (" + std::strerror(errno) + ")");
  std::string begin(kMostOfBegin, '\0');
  file.read(begin.data(), static_cast<std::streamsize>(begin.size()));
  begin.resize(static_cast<size_t>(file.gcount()));
  return begin;
}

bool IsStandardOutput(const struct stat& status) {
  struct stat ours {};
  return fstat(STDOUT_FILENO, &ours) == 0 && ours.st_dev == status.st_dev && ours.st_ino == status.st_ino;
}

void WriteInto(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
  size_t done = 0;
  while (fd >= 0 && done < text.size()) {
    const ssize_t written = write(fd, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    done += static_cast<size_t>(written);
  }
  const std::string reason = std::strerror(errno);
  if (fd >= 0) close(fd);
  if (done < text.size()) throw UserError(path + ": cannot be written (" + reason + ")");
}

}  // namespace

bool WriteOwnFile(const OwnFile& file, const std::string& path, const std::string& text) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    if (errno != ENOENT) throw UserError(path + ": cannot be written (" + std::strerror(errno) + ")");
    WriteTextFile(BehindLinks(path), text);
    return false;
  }
  if (S_ISDIR(status.st_mode)) throw UserError(path + ": is a folder; give a file for the " + file.name);
  if (IsStandardOutput(status)) {
    PrintResult(text);
    return true;
  }
  if (!S_ISREG(status.st_mode)) {
    WriteInto(path, text);
    return false;
  }
  if (!file.is_own(BeginOf(path)))
    throw UserError(path + ": is there and is no " + file.name +
                    ", so it is not replaced; give another name");
  WriteTextFile(BehindLinks(path), text);
  return false;
}

bool WritePicture(const std::string& path, const std::string& svg) {
  const auto is_svg = [](std::string_view begin) {
    return begin.starts_with("<svg") || begin.starts_with("<?xml");
  };
  return WriteOwnFile({"SVG picture", is_svg}, path, svg);
}

}  // namespace unipool
