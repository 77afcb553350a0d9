#include "launcher/data/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <mutex>

#include "launcher/data/data_print.h"
#include "runtime/errors.h"
#include "runtime/file_sum.h"
#include "runtime/watchdog.h"

namespace unipool {
namespace {

// Where this thread goes when a page of what it reads is gone.
struct Return {
  sigjmp_buf place;
  const uint8_t* begin;
  const uint8_t* end;
};
thread_local Return* volatile return_from_reading = nullptr;

struct sigaction former_action;

void OnBusError(int, siginfo_t* info, void*) {
  Return* const to = return_from_reading;
  const auto* address = static_cast<const uint8_t*>(info->si_addr);
  if (to != nullptr && address >= to->begin && address < to->end) siglongjmp(to->place, 1);
  sigaction(SIGBUS, &former_action, nullptr);  // the access is repeated, and is not ours
}

void InstallHandler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = OnBusError;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;  // a jump out of the handler leaves the signal usable
    sigaction(SIGBUS, &action, &former_action);
  });
}

int64_t ModifiedNs(const struct stat& status) {
  return int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
}

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  InstallHandler();
  file_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file_ < 0) throw UserError(Format("%s: cannot be opened: %s", path_.c_str(), std::strerror(errno)));
  struct stat status = {};
  if (fstat(file_, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(file_);
    throw UserError(Format("%s: is not a regular file", path_.c_str()));
  }
  size_bytes_ = static_cast<size_t>(status.st_size);
  modified_ns_ = ModifiedNs(status);
  void* memory = size_bytes_ == 0 ? nullptr : mmap(nullptr, size_bytes_, PROT_READ, MAP_SHARED, file_, 0);
  if (memory == MAP_FAILED) {
    const int error = errno;
    close(file_);
    throw UserError(Format("%s: %d bytes cannot be mapped into memory: %s", path_.c_str(), size_bytes_,
                           std::strerror(error)));
  }
  data_ = static_cast<const uint8_t*>(memory);
  print_ = PrintOfFile(file_, static_cast<int64_t>(size_bytes_));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_bytes_);
  close(file_);
}

void MappedFile::Guard(void (*work)(const void*), const void* argument) const {
  Return here{.place = {}, .begin = data_, .end = data_ + size_bytes_};
  struct Leave {
    Return* const outer = return_from_reading;  // a reading in a reading
    ~Leave() { return_from_reading = outer; }
  } leave;
  if (sigsetjmp(here.place, 0) == 0) {
    return_from_reading = &here;
    work(argument);
  }
  CheckUnchanged();
}

void MappedFile::CheckUnchanged() const {
  struct stat status = {};
  if (fstat(file_, &status) == 0 && static_cast<size_t>(status.st_size) == size_bytes_) {
    const int64_t modified_ns = ModifiedNs(status);
    if (modified_ns == modified_ns_) return;
    if (PrintOfFile(file_, static_cast<int64_t>(size_bytes_)) == print_) {
      if (modified_ns_.exchange(modified_ns) != modified_ns)
        PrintErrorLine("note: " + path_ +
                       ": was touched while it was read; 64 blocks of it are as they were");
      return;
    }
  }
  throw UserError(
      Format("%s: was written to while it was read (%d bytes when it was opened, %d now); give it back its "
             "bytes, and repeat the command when nothing changes the file",
             path_.c_str(), size_bytes_, static_cast<int64_t>(status.st_size)));
}

bool MappedFile::IsNamed() const {
  return StillNames(path_, file_);
}

}  // namespace unipool
