// The file of a time line: what a device did, and what the host said it was doing. Text, a line a record.
// Fields are separated by tabs, times are ns of one clock, and lines are in no order of time.
// timeline_record.py reads it.
//
//   unipool-timeline 1 PROCESS                      the first line
//   N NAME_ID SYMBOL TEXT                           a name, before the first record that has its number
//   K DEVICE CONTEXT STREAM START END NAME_ID       a kernel
//   C DEVICE CONTEXT STREAM START END KIND BYTES    a copy
//   S DEVICE CONTEXT STREAM START END BYTES         memory set to one value
//   R THREAD START END NAME_ID                      a range of a host thread (NVTX push and pop)
//   V KIND START END                                time that CUPTI or CUDA took for itself
//   E DROPPED                                       the last line of a complete file: records that were lost
//
// TEXT is the symbol demangled, or the symbol again. KIND of a copy is CUPTI's CUpti_ActivityMemcpyKind: 1
// host to device, 2 device to host, 8 device to device, 10 between devices. KIND of V is its
// CUpti_ActivityOverheadKind.
#pragma once

#include <cstdint>
#include <cstdio>
#include <mutex>
#include <string>
#include <unordered_map>

namespace unipool {

// Writes the file. Any thread may write.
class TimelineFile {
 public:
  // "%p" in the path stands for the process. is_open() says whether the file could be made; errno says why
  // not.
  explicit TimelineFile(const std::string& path);
  ~TimelineFile();
  TimelineFile(const TimelineFile&) = delete;
  bool is_open() const { return file_ != nullptr; }
  const std::string& path() const { return path_; }

  void WriteKernel(const int64_t (&place)[3], uint64_t start, uint64_t end, const char* name);
  void WriteCopy(const int64_t (&place)[3], uint64_t start, uint64_t end, int kind, uint64_t bytes);
  void WriteSet(const int64_t (&place)[3], uint64_t start, uint64_t end, uint64_t bytes);
  void WriteRange(int64_t thread, uint64_t start, uint64_t end, const char* name);
  void WriteOverhead(int kind, uint64_t start, uint64_t end);
  // Writes the last line; nothing is written after it. False: something of the file did not reach the disk.
  bool Close(int64_t dropped);

 private:
  int64_t NameId(const char* name);

  std::mutex mutex_;
  std::string path_;
  std::FILE* file_ = nullptr;
  std::unordered_map<std::string, int64_t> names_;
};

}  // namespace unipool
