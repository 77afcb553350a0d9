// A whole file as read-only memory. Pages are loaded when they are first touched. All who map the file share
// them, so that opening it once per rank costs no memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace unipool {

class MappedFile {
 public:
  // Throws UserError that names the path when it cannot be opened, is no regular file or cannot be mapped.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  const uint8_t* data() const { return data_; }  // null if the file is empty
  size_t size_bytes() const { return size_bytes_; }

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t size_bytes_ = 0;
};

}  // namespace unipool
