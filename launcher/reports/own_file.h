// Where what a command makes for people to keep goes: a picture, a page, a table.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace unipool {

// A kind of file, so that no other is ever replaced.
struct OwnFile {
  const char* name;                              // "SVG picture"
  std::function<bool(std::string_view)> is_own;  // of a file's first bytes, 256 at most
};

// Writes `text` to `path`, and follows links.
//   no such file       is made
//   one of this kind   is replaced, whole or not at all
//   another file       is left as it is: UserError
//   no regular file    a pipe, a device: takes the bytes as they are
//   standard output    (/dev/stdout) takes them too, a file or not
// Returns whether that was standard output. Throws UserError where it cannot be written.
bool WriteOwnFile(const OwnFile& file, const std::string& path, const std::string& text);

// An SVG.
bool WritePicture(const std::string& path, const std::string& svg);

}  // namespace unipool
