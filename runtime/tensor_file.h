// safetensors files (https://huggingface.co/docs/safetensors):
//   8 bytes     the length of the header, little-endian
//   the header  JSON: name -> dtype, shape, data_offsets
//   the data
// The reader maps the file into memory. The writer writes it as a stream.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/file_sum.h"
#include "runtime/tensor.h"

namespace unipool {

struct TensorFileEntry {
  std::string dtype;  // "F32", "BF16", "F16", "F64", "I64", ...
  std::vector<int64_t> shape;
  const void* data = nullptr;  // in the mapping; may be unaligned
  int64_t bytes = 0;
};

// A mapped file. The constructor throws a UserError that names the file and what is wrong:
//   - The file cannot be opened, or it is cut off.
//   - The header is bad JSON, or has a name twice.
//   - Offsets overlap, leave holes or lie outside the file.
//   - A tensor's size does not match its dtype and shape.
class TensorFileReader {
 public:
  explicit TensorFileReader(const std::string& path);
  ~TensorFileReader();
  TensorFileReader(const TensorFileReader&) = delete;
  const std::string& path() const { return path_; }
  const std::map<std::string, TensorFileEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // Copies elements [begin, begin + out.size()) of the entry, in row-major order, into `out`. F32, F64, BF16
  // and F16 are converted to out's dtype, where that is kF32 or kF64. Otherwise the two types must be equal,
  // or a UserError is thrown.
  void Read(const TensorFileEntry& entry, int64_t begin, const Tensor& out) const;

 private:
  void ReadHeader();
  std::string path_;
  void* mapping_ = nullptr;
  int64_t mapping_bytes_ = 0;
  std::map<std::string, TensorFileEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

// Writes one file. First Declare all tensors. Then Append their data in the same order, in pieces of any
// size. Then Close, which syncs to disk and returns the sum of all that was written. Any error of writing,
// such as a full disk, is a UserError that names the file. The unfinished file is removed after an error, and
// where the writer is destroyed before Close.
class TensorFileWriter {
 public:
  explicit TensorFileWriter(std::string path);
  ~TensorFileWriter();
  TensorFileWriter(const TensorFileWriter&) = delete;
  void SetMetadata(const std::string& key, const std::string& value);
  void Declare(const std::string& name, DType dtype, std::vector<int64_t> shape);
  // The next bytes of the declared tensors, in the order of their declaration.
  void Append(const void* data, int64_t bytes);
  FileSum Close();
  int64_t declared_bytes() const { return declared_bytes_; }

 private:
  struct Declared {
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;
  };
  void WriteHeader();
  void Write(const void* data, int64_t bytes);
  void Discard();  // removes the unfinished file
  std::string path_;
  FileSummer summer_;
  int fd_ = -1;
  bool header_written_ = false;
  int64_t declared_bytes_ = 0, appended_bytes_ = 0;
  std::vector<Declared> declared_;
  std::map<std::string, std::string> metadata_;
};

// Writes the text to a file beside `path`, syncs it, and renames it to `path`. So `path` holds the old text
// or the new one, and never half of one. Throws a UserError where that fails.
void WriteTextFile(const std::string& path, const std::string& text);
// Syncs a directory, so that renames in it survive a crash. Throws a UserError where that fails.
void SyncDirectory(const std::string& path);

}  // namespace unipool
