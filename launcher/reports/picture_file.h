// Where a picture goes.
#pragma once

#include <string>

namespace unipool {

// Writes an SVG picture to `path`, and follows links.
//   no such file       is made
//   an SVG             is replaced, whole or not at all
//   another file       is left as it is: UserError
//   no regular file    a pipe, a device: takes the bytes as they are
//   standard output    (/dev/stdout) takes them too, a file or not
// Returns whether that was standard output. Throws UserError where it cannot be written.
bool WritePicture(const std::string& path, const std::string& svg);

}  // namespace unipool
