#include "runtime/file_sum.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

// GCC 12 calls registers of its own intrinsics uninitialized.
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace unipool {
namespace {

constexpr size_t kReadBytes = 1 << 20;

void ReadPieces(const std::string& path, const std::function<void(const char*, size_t)>& take) {
  const int fd = OpenRegularFile(path);
  std::vector<char> piece(kReadBytes);
  for (;;) {
    const ssize_t count = read(fd, piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = count < 0 ? errno : 0;
      close(fd);
      if (error != 0) throw UnreadableError(path + ": cannot be read (" + std::strerror(error) + ")");
      return;
    }
    take(piece.data(), static_cast<size_t>(count));
  }
}

}  // namespace

struct FileSummer::State {
  XXH3_state_t hash;
  int64_t bytes = 0;
};

FileSummer::FileSummer() : state_(std::make_unique<State>()) {
  XXH3_64bits_reset(&state_->hash);
}

FileSummer::~FileSummer() = default;

void FileSummer::Add(const void* data, int64_t bytes) {
  XXH3_64bits_update(&state_->hash, data, static_cast<size_t>(bytes));
  state_->bytes += bytes;
}

FileSum FileSummer::Sum() const {
  char digits[17];
  std::snprintf(digits, sizeof(digits), "%016llx",
                static_cast<unsigned long long>(XXH3_64bits_digest(&state_->hash)));
  return {.bytes = state_->bytes, .hash = digits};
}

FileSum SumOfText(const std::string& text) {
  FileSummer summer;
  summer.Add(text.data(), static_cast<int64_t>(text.size()));
  return summer.Sum();
}

int OpenRegularFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int error = errno;
    if (error == ENOENT) throw UserError(path + ": is missing (" + std::strerror(error) + ")");
    const std::string problem = path + ": cannot be opened (" + std::strerror(error) + ")";
    if (error == ENOTDIR || error == ELOOP || error == ENAMETOOLONG || error == ENXIO)
      throw UserError(problem);
    throw UnreadableError(problem);
  }
  struct stat status {};
  if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) return fd;
  close(fd);
  throw UserError(path + ": is not a regular file");
}

bool StillNames(const std::string& path, int file) {
  struct stat named {
  }, opened{};
  return stat(path.c_str(), &named) == 0 && fstat(file, &opened) == 0 && named.st_ino == opened.st_ino &&
         named.st_dev == opened.st_dev;
}

std::string ReadTextFile(const std::string& path) {
  std::string text;
  ReadPieces(path, [&](const char* data, size_t count) { text.append(data, count); });
  return text;
}

FileSum SumOfFile(const std::string& path) {
  FileSummer summer;
  ReadPieces(path, [&](const char* data, size_t count) { summer.Add(data, static_cast<int64_t>(count)); });
  return summer.Sum();
}

}  // namespace unipool
