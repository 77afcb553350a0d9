// A whole file as read-only memory. Pages are loaded when they are first touched. All who map the file share
// them, so that opening it once per rank costs no memory.
//
// The file may change while it is mapped. One that is replaced under its name stays here with its former
// bytes. One that is cut ends the reading of what is gone with SIGBUS, which Reading makes a UserError. One
// that is written over has other bytes in the same memory, which Reading sees by its size, or by its time and
// 64 blocks of it. One that was only touched (as some do against the purge of old files) is read on.
#pragma once

#include <atomic>
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

  // Runs `work`, which reads data() in this thread and holds nothing that must be released. Then throws
  // UserError that names the file if it was written to since it was opened. Costs a call of fstat, 0.2 us.
  template <class Work>
  void Reading(const Work& work) const {
    Guard([](const void* it) { (*static_cast<const Work*>(it))(); }, &work);
  }

  bool IsNamed() const;  // whether the path still names this file

 private:
  void Guard(void (*work)(const void*), const void* argument) const;
  void CheckUnchanged() const;

  std::string path_;
  int file_ = -1;
  const uint8_t* data_ = nullptr;
  size_t size_bytes_ = 0;
  uint64_t print_ = 0;  // of its 64 blocks (data_print.h)
  mutable std::atomic<int64_t> modified_ns_ = 0;
};

}  // namespace unipool
