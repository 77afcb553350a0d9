#include "launcher/data/indexed_dataset_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "launcher/tokens/tokenizer_file.h"
#include "runtime/errors.h"

namespace unipool {

namespace {

[[noreturn]] void FailToWrite(const std::string& path, int error) {
  throw UserError(Format("%s: cannot be written: %s", path.c_str(), std::strerror(error)));
}

int Create(const std::string& path) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) FailToWrite(path, errno);
  return file;
}

void WriteAll(int file, const std::string& path, const void* data, size_t num_bytes) {
  const auto* at = static_cast<const uint8_t*>(data);
  while (num_bytes > 0) {
    const ssize_t written = write(file, at, num_bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) FailToWrite(path, errno);
    at += written;
    num_bytes -= static_cast<size_t>(written);
  }
}

void SyncAndClose(int& file, const std::string& path) {
  const int failed = fsync(file) != 0 ? errno : 0;
  const int not_closed = close(file) != 0 ? errno : 0;
  file = -1;
  if (failed != 0 || not_closed != 0) FailToWrite(path, failed != 0 ? failed : not_closed);
}

void Rename(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) != 0) FailToWrite(to, errno);
}

// So that names outlive a loss of power in the order in which they were given. Where a folder cannot be
// synced, nothing is lost but that.
void SyncFolder(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const int file = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) return;
  fsync(file);
  close(file);
}

template <typename T>
void Append(std::vector<uint8_t>& bytes, const T* values, size_t count) {
  const auto* begin = reinterpret_cast<const uint8_t*>(values);
  bytes.insert(bytes.end(), begin, begin + count * sizeof(T));
}

}  // namespace

IndexedDatasetWriter::IndexedDatasetWriter(std::string prefix, TokenType type)
    : prefix_(std::move(prefix)), lock_(prefix_), type_(type), bin_(Create(prefix_ + ".bin.part")) {}

IndexedDatasetWriter::~IndexedDatasetWriter() {
  if (bin_ >= 0) close(bin_);
  if (finished_) return;
  unlink((prefix_ + ".bin.part").c_str());
  unlink((prefix_ + ".idx.part").c_str());
  unlink((TokenizerFileOf(prefix_) + ".part").c_str());
}

void IndexedDatasetWriter::Add(std::span<const uint8_t> bytes, std::span<const int32_t> lengths) {
  int64_t added = 0;
  for (const int32_t length : lengths) {
    if (length > 0) lengths_.push_back(length);
    documents_.push_back(static_cast<int64_t>(lengths_.size()));
    added += length;
  }
  CHECK_EQ(static_cast<int64_t>(bytes.size()), added * TokenBytes(type_));
  WriteAll(bin_, prefix_ + ".bin.part", bytes.data(), bytes.size());
  num_tokens_ += added;
}

void IndexedDatasetWriter::WriteIndex() {
  const std::string path = prefix_ + ".idx.part";
  int file = Create(path);
  std::vector<uint8_t> header = {'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0};
  const uint64_t version = 1, counts[2] = {lengths_.size(), documents_.size()};
  const auto code = static_cast<uint8_t>(type_);
  Append(header, &version, 1);
  Append(header, &code, 1);
  Append(header, counts, 2);
  std::vector<int64_t> offsets;
  offsets.reserve(lengths_.size());
  int64_t offset = 0;
  for (const int32_t length : lengths_) {
    offsets.push_back(offset);
    offset += length * TokenBytes(type_);
  }
  try {
    WriteAll(file, path, header.data(), header.size());
    WriteAll(file, path, lengths_.data(), lengths_.size() * sizeof(int32_t));
    WriteAll(file, path, offsets.data(), offsets.size() * sizeof(int64_t));
    WriteAll(file, path, documents_.data(), documents_.size() * sizeof(int64_t));
    SyncAndClose(file, path);
  } catch (...) {
    if (file >= 0) close(file);
    throw;
  }
}

void IndexedDatasetWriter::WriteTokenizer() {
  if (tokenizer_.empty()) return;
  const std::string path = TokenizerFileOf(prefix_) + ".part";
  int file = Create(path);
  try {
    WriteAll(file, path, tokenizer_.data(), tokenizer_.size());
    SyncAndClose(file, path);
  } catch (...) {
    if (file >= 0) close(file);
    throw;
  }
}

void IndexedDatasetWriter::Finish() {
  WriteIndex();
  WriteTokenizer();
  SyncAndClose(bin_, prefix_ + ".bin.part");
  if (unlink((prefix_ + ".idx").c_str()) != 0 && errno != ENOENT) FailToWrite(prefix_ + ".idx", errno);
  SyncFolder(prefix_);
  const std::string tokenizer = TokenizerFileOf(prefix_);
  if (!tokenizer_.empty()) Rename(tokenizer + ".part", tokenizer);
  if (tokenizer_.empty() && unlink(tokenizer.c_str()) != 0 && errno != ENOENT) FailToWrite(tokenizer, errno);
  Rename(prefix_ + ".bin.part", prefix_ + ".bin");
  SyncFolder(prefix_);
  Rename(prefix_ + ".idx.part", prefix_ + ".idx");
  SyncFolder(prefix_);
  finished_ = true;
}

void AppendTokens(std::span<const int32_t> ids, TokenType type, std::vector<uint8_t>& bytes) {
  const size_t before = bytes.size();
  bytes.resize(before + ids.size() * static_cast<size_t>(TokenBytes(type)));
  uint8_t* to = bytes.data() + before;
  const auto copy = [&]<typename T>(T) {
    for (size_t i = 0; i < ids.size(); ++i) {
      const T id = static_cast<T>(ids[i]);
      std::memcpy(to + i * sizeof(T), &id, sizeof(T));
    }
  };
  switch (type) {
    case TokenType::kUint8:
      return copy(uint8_t{});
    case TokenType::kInt8:
      return copy(int8_t{});
    case TokenType::kInt16:
      return copy(int16_t{});
    case TokenType::kInt32:
      return copy(int32_t{});
    case TokenType::kInt64:
      return copy(int64_t{});
    case TokenType::kUint16:
      return copy(uint16_t{});
  }
}

}  // namespace unipool
