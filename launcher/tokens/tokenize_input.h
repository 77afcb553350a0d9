// From files of JSON lines to texts: cuts files into chunks of whole lines, and takes one string out of a
// line. What Python's json writes can be read: NaN, Infinity and integers of any length, as values of other
// keys.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/tokens/input_file.h"

namespace unipool {

// Some whole lines of one file.
struct LineChunk {
  std::string path;
  int64_t first_line = 1;  // number of the first line
  std::string text;        // lines with their ends; the last line of a file may have none
};

// Reads files (input_file.h) one after another, in chunks of about `chunk_bytes`. A longer line makes a
// longer chunk. The byte order mark that some editors write at the begin of a file is left out.
class LineReader {
 public:
  LineReader(std::vector<std::string> paths, size_t chunk_bytes);

  // False after the last file. Throws UserError that names the file: it cannot be read (InputFile::Read), is
  // UTF-16, or has a line of more than 1 GiB.
  bool Next(LineChunk& chunk);

 private:
  bool ReadSome();
  void TakeByteOrderMark(std::string& text) const;

  const std::vector<std::string> paths_;
  const size_t chunk_bytes_;
  size_t file_idx_ = 0;
  std::unique_ptr<InputFile> file_;
  bool at_end_ = false;  // of the current file
  int64_t line_ = 1;     // number of the first line in `pending_`
  std::string pending_;  // read but not given out
};

// The string at `key` of the JSON object `line`. Of equal keys the last counts. Throws UserError with the
// reason ("is not JSON: ...", "has no key ..."), without file and line, which the caller knows.
void ExtractText(std::string_view line, const std::string& key, std::string& text);

}  // namespace unipool
