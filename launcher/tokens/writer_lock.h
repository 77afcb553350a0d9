// One writer for files of one name. Two at once would mix their bytes.
#pragma once

#include <string>

namespace unipool {

// Holds PATH.lock until it is destroyed, which removes the file, or its process ends, however it ends. A file
// that a killed process has left is taken over. Throws UserError when another process (or another WriterLock
// of this one) holds it, or it cannot be written. A file system without locks stops nobody.
class WriterLock {
 public:
  explicit WriterLock(const std::string& path);
  ~WriterLock();
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

 private:
  const std::string path_;
  int file_ = -1;
};

}  // namespace unipool
