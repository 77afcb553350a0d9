// Regular files read whole, and their sums: length and XXH3 hash of 64 bits, by which a file is known again.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/errors.h"

namespace unipool {

struct FileSum {
  int64_t bytes = 0;
  std::string hash;  // 16 hexadecimal digits
  bool operator==(const FileSum&) const = default;
};

// The sum of bytes that come in pieces.
class FileSummer {
 public:
  FileSummer();
  ~FileSummer();
  FileSummer(const FileSummer&) = delete;
  void Add(const void* data, int64_t bytes);
  FileSum Sum() const;  // of all that was added

 private:
  struct State;
  std::unique_ptr<State> state_;
};

FileSum SumOfText(const std::string& text);

// A file that may be as it should be, but cannot be read: no permission, a failing disk.
class UnreadableError : public UserError {
 public:
  using UserError::UserError;
};

// Opens a regular file for reading; never waits, as opening a FIFO would. Throws UnreadableError, or
// UserError where there is no such file or something else is in its place.
int OpenRegularFile(const std::string& path);
// Whether `path` still names the open file: it may have been removed, or replaced by another one.
bool StillNames(const std::string& path, int file);
// Both throw what OpenRegularFile throws, and UnreadableError where reading fails.
std::string ReadTextFile(const std::string& path);
FileSum SumOfFile(const std::string& path);

}  // namespace unipool
