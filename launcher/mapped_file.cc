#include "launcher/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/errors.h"

namespace unipool {

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  const int file = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw UserError(Format("%s: cannot be opened: %s", path_.c_str(), std::strerror(errno)));
  struct stat status = {};
  if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(file);
    throw UserError(Format("%s: is not a regular file", path_.c_str()));
  }
  size_bytes_ = static_cast<size_t>(status.st_size);
  void* memory = size_bytes_ == 0 ? nullptr : mmap(nullptr, size_bytes_, PROT_READ, MAP_SHARED, file, 0);
  const int error = errno;
  close(file);
  if (memory == MAP_FAILED) {
    throw UserError(Format("%s: %d bytes cannot be mapped into memory: %s", path_.c_str(), size_bytes_,
                           std::strerror(error)));
  }
  data_ = static_cast<const uint8_t*>(memory);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_bytes_);
}

}  // namespace unipool
