// Writes PREFIX.bin and PREFIX.idx (indexed_dataset.h) as Megatron-LM's preprocessor does, byte for byte.
// Each document is one sequence. A document without tokens has no sequence and repeats its entry in the
// document array.
//
// Both files are written aside, as PREFIX.bin.part and PREFIX.idx.part. Finish syncs and renames them, the
// index last, and before it PREFIX.tokenizer.json. The index of a former dataset is removed first, so that at
// no time an index describes another's tokens. Without Finish nothing remains. One writer at a time
// (writer_lock.h): what a killed one has left is written over. Memory: 12 bytes a document.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "launcher/data/indexed_dataset.h"
#include "launcher/tokens/writer_lock.h"

namespace unipool {

class IndexedDatasetWriter {
 public:
  // All functions throw UserError that names the file and the system's reason, for example a full disk. The
  // constructor also where another writer of this prefix is at work.
  IndexedDatasetWriter(std::string prefix, TokenType type);
  ~IndexedDatasetWriter();
  IndexedDatasetWriter(const IndexedDatasetWriter&) = delete;
  IndexedDatasetWriter& operator=(const IndexedDatasetWriter&) = delete;

  // `bytes` are the documents' ids one after another, already in the element type. `lengths` are the tokens
  // of each document.
  void Add(std::span<const uint8_t> bytes, std::span<const int32_t> lengths);
  // The tokenizer of the ids, PREFIX.tokenizer.json (tokens/tokenizer_file.h); without it, one of a former
  // dataset is removed.
  void SetTokenizer(std::string text) { tokenizer_ = std::move(text); }
  void Finish();

  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return static_cast<int64_t>(documents_.size()) - 1; }

 private:
  void WriteIndex();
  void WriteTokenizer();

  const std::string prefix_;
  const WriterLock lock_;
  const TokenType type_;
  int bin_ = -1;  // file descriptor of PREFIX.bin.part
  bool finished_ = false;
  std::string tokenizer_;
  int64_t num_tokens_ = 0;
  std::vector<int32_t> lengths_;
  std::vector<int64_t> documents_ = {0};
};

// Appends `ids` to `bytes` in the element type. REQUIRES: they fit into it.
void AppendTokens(std::span<const int32_t> ids, TokenType type, std::vector<uint8_t>& bytes);

}  // namespace unipool
