// safetensors files: 8 bytes little-endian header length, a JSON header (name -> dtype, shape, data_offsets),
// then the data. https://huggingface.co/docs/safetensors. Reading maps the file; writing streams.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/tensor.h"

namespace unipool {

struct TensorFileEntry {
  std::string dtype;  // "F32", "BF16", "F16", "F64", "I64", ...
  std::vector<int64_t> shape;
  const void* data = nullptr;  // into the mapping; may be unaligned
  int64_t bytes = 0;
};

// A mapped file. Throws UserError, naming the file and what is wrong, when it cannot be opened, is truncated,
// or its header does not describe it (bad JSON, a name twice, overlapping or out-of-range offsets, holes,
// size not matching dtype and shape).
class TensorFileReader {
 public:
  explicit TensorFileReader(const std::string& path);
  ~TensorFileReader();
  TensorFileReader(const TensorFileReader&) = delete;
  const std::string& path() const { return path_; }
  const std::map<std::string, TensorFileEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // Copies elements [begin, begin + out.size()) of the entry (row-major order) into `out`, converting
  // F32/F64/BF16/F16 to out's dtype (kF32 or kF64); other types must match exactly (UserError).
  void Read(const TensorFileEntry& entry, int64_t begin, const Tensor& out) const;

 private:
  void ReadHeader();
  std::string path_;
  void* mapping_ = nullptr;
  int64_t mapping_bytes_ = 0;
  std::map<std::string, TensorFileEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

// Writes one file: declare all tensors, then give their data in the same order, in pieces if need be, then
// Close (which syncs to disk). Throws UserError naming the file on any write error (full disk); the
// unfinished file is removed then and when the writer is destroyed before Close.
class TensorFileWriter {
 public:
  explicit TensorFileWriter(std::string path);
  ~TensorFileWriter();
  TensorFileWriter(const TensorFileWriter&) = delete;
  void SetMetadata(const std::string& key, const std::string& value);
  void Declare(const std::string& name, DType dtype, std::vector<int64_t> shape);
  void Append(const void* data,
              int64_t bytes);  // the next bytes of the declared tensors, in order of declaration
  void Close();
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
  int fd_ = -1;
  bool header_written_ = false;
  int64_t declared_bytes_ = 0, appended_bytes_ = 0;
  std::vector<Declared> declared_;
  std::map<std::string, std::string> metadata_;
};

// Writes text beside its final name, syncs, renames. Throws UserError.
void WriteTextFile(const std::string& path, const std::string& text);
// Syncs a directory so that renames in it survive a crash. Throws UserError.
void SyncDirectory(const std::string& path);

}  // namespace unipool
