// The bytes of a text that is read once from begin to end: a file, compressed or not, a pipe, or the standard
// input.
//
// A file that begins as gzip, zstd, bzip2 or xz do is unpacked by the program of that name, which runs
// beside this one. What a damaged or cut file makes it say on its standard error is the reason that is told.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <string>

namespace unipool {

class InputFile {
 public:
  // "-" is the standard input. Opening a named pipe waits for its writer. Throws UserError that names the
  // file and the reason. Also for packed bytes from a pipe, which the sentence says how to unpack.
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  // Reads up to `most` bytes and returns how many; 0 at the end. The end is told only where all was well.
  // Otherwise it throws UserError: the file was written to since it was opened, or could not be unpacked. A
  // file that was replaced under its name gives its former bytes and a note.
  size_t Read(char* to, size_t most);

  const std::string& name() const { return name_; }  // for messages

  // Whether a file's own size is that of its text.
  static bool IsPacked(const std::string& path);

 private:
  void StartTool(const char* tool);
  void CheckEnd();
  std::string EndOfTool();  // what it said where it failed, else ""

  const std::string path_, name_;
  int file_ = -1;
  int text_ = -1;    // what Read reads: the file, or the tool's output
  int report_ = -1;  // the tool's standard error
  pid_t tool_ = -1;
  std::string tool_name_;
  struct stat opened_ = {};
  bool at_begin_ = true;
};

}  // namespace unipool
