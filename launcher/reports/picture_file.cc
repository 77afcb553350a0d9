#include "launcher/reports/picture_file.h"

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

bool IsSvg(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw UserError(path + ": cannot be read (" + std::strerror(errno) + ")");
  std::string begin(5, '\0');
  file.read(begin.data(), 5);
  return begin.starts_with("<svg") || begin == "<?xml";
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

bool WritePicture(const std::string& path, const std::string& svg) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    if (errno != ENOENT) throw UserError(path + ": cannot be written (" + std::strerror(errno) + ")");
    WriteTextFile(BehindLinks(path), svg);
    return false;
  }
  if (S_ISDIR(status.st_mode)) throw UserError(path + ": is a folder; give a file for the picture");
  if (IsStandardOutput(status)) {
    PrintResult(svg);
    return true;
  }
  if (!S_ISREG(status.st_mode)) {
    WriteInto(path, svg);
    return false;
  }
  if (!IsSvg(path))
    throw UserError(path + ": is there and is no SVG picture, so it is not replaced; give another name");
  WriteTextFile(BehindLinks(path), svg);
  return false;
}

}  // namespace unipool
