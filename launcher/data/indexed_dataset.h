// Token ids as Megatron-LM keeps them. PREFIX.bin holds the ids of all sequences one after another.
// PREFIX.idx says where each begins. Both are memory-mapped.
//
// PREFIX.idx is little-endian, without padding: 34 bytes, then arrays that need not be aligned.
//   "MMIDIDX\0\0"          9 bytes
//   uint64 version         1
//   uint8  element code    1 uint8, 2 int8, 3 int16, 4 int32, 5 int64, 6 float64, 7 float32, 8 uint16
//   uint64 S               sequences
//   uint64 E               entries of the document array
//   int32  length[S]       of each sequence, in elements
//   int64  byte_offset[S]  of each sequence in the .bin
//   int64  document[E]     first sequence of each document, from 0 to S
//   int8   mode[S]         multimodal data only
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "launcher/data/mapped_file.h"
#include "launcher/data/token_source.h"

namespace unipool {

enum class TokenType : uint8_t { kUint8 = 1, kInt8 = 2, kInt16 = 3, kInt32 = 4, kInt64 = 5, kUint16 = 8 };

int64_t TokenBytes(TokenType type);

// What Megatron's preprocessor writes for a vocabulary: uint16 below 65,500 entries, int32 otherwise.
TokenType TokenTypeFor(int64_t vocab_size);

class IndexedDataset : public TokenSource {
 public:
  // `prefix` is the path without .bin or .idx. Reads all of the .idx once to check it. Throws a UserError
  // that names the file, what was found and what would be right:
  //   - A file is missing.
  //   - The .idx has a wrong magic, version or element code.
  //   - The .idx has another size than its counts say, or its arrays contradict each other.
  //   - The .bin ends before its last sequence.
  //   - The files are replaced meanwhile.
  explicit IndexedDataset(const std::string& prefix);

  std::string name() const override { return bin_.path(); }
  int64_t num_tokens() const override { return num_tokens_; }
  void Read(int64_t first, std::span<int32_t> tokens, int64_t vocab) const override;
  // Cuts between sequences, as Megatron does for language models: share * S, rounded half to even.
  int64_t Boundary(double share) const override;
  std::string Cuts() const override;

  TokenType type() const { return type_; }
  int64_t num_sequences() const { return num_sequences_; }
  int64_t num_documents() const { return num_entries_ - 1; }
  int64_t sequence_length(int64_t sequence) const;  // tokens
  int64_t sequence_begin(int64_t sequence) const;   // its first token, counted over the whole .bin
  int64_t document_begin(int64_t entry) const;      // its first sequence; entry = num_documents(): S

 private:
  void ReadHeader();
  void CheckArrays();

  MappedFile idx_, bin_;
  TokenType type_ = TokenType::kUint16;
  int64_t num_sequences_ = 0;
  int64_t num_entries_ = 0;  // of the document array
  int64_t num_tokens_ = 0;
};

}  // namespace unipool
