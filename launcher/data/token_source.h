// Where tokens come from: one stream of ids, with places at which it may be cut into splits.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace unipool {

class TokenSource {
 public:
  virtual ~TokenSource() = default;
  // The file that holds the ids, for messages.
  virtual std::string name() const = 0;
  virtual int64_t num_tokens() const = 0;
  // Reads tokens [first, first + tokens.size()) of the stream. REQUIRES: they exist. Thread-safe, no
  // allocation. Throws UserError that names the file, the id and its position when an id is not in [0,
  // vocab), and when the file was written to since it was opened.
  virtual void Read(int64_t first, std::span<int32_t> tokens, int64_t vocab) const = 0;
  // The token at which a cumulative share (0..1) of the source ends.
  virtual int64_t Boundary(double share) const = 0;
  // Where those ends can be, for messages: "between its 3 documents".
  virtual std::string Cuts() const = 0;
};

// `path` is a Megatron dataset (PREFIX, PREFIX.bin or PREFIX.idx), or else a text file, which is read as
// bytes. Throws UserError that names what was looked for.
std::unique_ptr<TokenSource> OpenTokenSource(const std::string& path);

// Whether there is a file that OpenTokenSource(path) would read.
bool TokenSourceExists(const std::string& path);

// The files that OpenTokenSource(path) would read, be they there or not.
std::vector<std::string> FilesOfTokenSource(const std::string& path);

// The sentence for an id outside the vocabulary. `position` counts tokens from the begin of the file.
// `all_ids`: how many ids the file may hold; 0: not known.
std::string OutsideVocabulary(const std::string& file, int64_t position, int64_t id, int64_t vocab,
                              int64_t all_ids);

}  // namespace unipool
