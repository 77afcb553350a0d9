#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/tensor_file.h"

namespace unipool {
namespace {

[[noreturn]] void ThrowErrno(const char* action, const std::string& path, int error) {
  std::string text = Format("cannot %s %s: %s", action, path.c_str(), std::strerror(error));
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    text += "; free some space on that disk, or write to another one";
  }
  throw UserError(std::move(text));
}

int CreateFile(const std::string& path) {
  const int fd = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
  if (fd < 0) ThrowErrno("create", path, errno);
  return fd;
}

// 0, or the error.
int WriteAll(int fd, const void* data, int64_t bytes) {
  constexpr int64_t kMostAtOnce = 1 << 30;
  for (const char* next = static_cast<const char*>(data); bytes > 0;) {
    const ssize_t written = write(fd, next, std::min(bytes, kMostAtOnce));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? errno : EIO;
    next += written;
    bytes -= written;
  }
  return 0;
}

// Closes in any case. 0, or the first error.
int SyncAndClose(int fd) {
  int error = fsync(fd) == 0 ? 0 : errno;
  if (error == EINVAL || error == EROFS) error = 0;  // a device that has nothing to sync
  if (close(fd) != 0 && error == 0) error = errno;
  return error;
}

}  // namespace

TensorFileWriter::TensorFileWriter(std::string path) : path_(std::move(path)), fd_(CreateFile(path_)) {}

TensorFileWriter::~TensorFileWriter() {
  Discard();
}

void TensorFileWriter::Discard() {
  if (fd_ < 0) return;
  close(fd_);
  fd_ = -1;
  unlink(path_.c_str());
}

void TensorFileWriter::SetMetadata(const std::string& key, const std::string& value) {
  CHECK(!header_written_) << path_;
  metadata_[key] = value;
}

void TensorFileWriter::Declare(const std::string& name, DType dtype, std::vector<int64_t> shape) {
  CHECK(!header_written_) << path_ << ": " << name << " comes after the first data";
  int64_t bytes = SizeOf(dtype);
  for (const int64_t dim : shape) bytes *= dim;
  declared_bytes_ += bytes;
  declared_.push_back({name, dtype, std::move(shape)});
}

void TensorFileWriter::WriteHeader() {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata_.empty()) header["__metadata__"] = metadata_;
  int64_t begin = 0;
  for (const Declared& tensor : declared_) {
    int64_t end = SizeOf(tensor.dtype);
    for (const int64_t dim : tensor.shape) end *= dim;
    end += begin;
    CHECK(!header.contains(tensor.name)) << path_ << ": " << tensor.name << " is declared twice";
    header[tensor.name] = {
        {"dtype", NameOf(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data is aligned
  char length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i));
  header_written_ = true;
  Write(length, sizeof(length));
  Write(text.data(), static_cast<int64_t>(text.size()));
}

void TensorFileWriter::Append(const void* data, int64_t bytes) {
  if (!header_written_) WriteHeader();
  appended_bytes_ += bytes;
  CHECK_LE(appended_bytes_, declared_bytes_) << path_;
  Write(data, bytes);
}

void TensorFileWriter::Write(const void* data, int64_t bytes) {
  CHECK_GE(fd_, 0) << path_ << " is closed";
  // Pieces are written while the cache still holds them from the hash, which then costs next to nothing.
  constexpr int64_t kPieceBytes = 1 << 18;
  for (int64_t at = 0; at < bytes; at += kPieceBytes) {
    const char* piece = static_cast<const char*>(data) + at;
    const int64_t piece_bytes = std::min(kPieceBytes, bytes - at);
    summer_.Add(piece, piece_bytes);
    const int error = WriteAll(fd_, piece, piece_bytes);
    if (error == 0) continue;
    Discard();
    ThrowErrno("write", path_, error);
  }
}

FileSum TensorFileWriter::Close() {
  if (!header_written_) WriteHeader();
  CHECK_EQ(appended_bytes_, declared_bytes_) << path_;
  const int error = SyncAndClose(std::exchange(fd_, -1));
  if (error == 0) return summer_.Sum();
  unlink(path_.c_str());
  ThrowErrno("write", path_, error);
}

void WriteTextFile(const std::string& path, const std::string& text) {
  const std::string aside = path + ".partial";
  const int fd = CreateFile(aside);
  int error = WriteAll(fd, text.data(), static_cast<int64_t>(text.size()));
  const int sync_error = SyncAndClose(fd);
  if (error == 0) error = sync_error;
  if (error == 0 && std::rename(aside.c_str(), path.c_str()) != 0) error = errno;
  if (error == 0) return;
  unlink(aside.c_str());
  ThrowErrno("write", path, error);
}

void SyncDirectory(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) ThrowErrno("open directory", path, errno);
  const int error = SyncAndClose(fd);
  if (error != 0) ThrowErrno("sync directory", path, error);
}

}  // namespace unipool
