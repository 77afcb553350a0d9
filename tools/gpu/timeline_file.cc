#include "tools/gpu/timeline_file.h"

#include <cxxabi.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdlib>
#include <memory>

namespace unipool {
namespace {

std::string Demangled(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), std::free);
  return status == 0 && text ? text.get() : name;
}

}  // namespace

TimelineFile::TimelineFile(const std::string& path) : path_(path) {
  const std::string process = std::to_string(getpid());
  for (size_t at; (at = path_.find("%p")) != std::string::npos;) path_.replace(at, 2, process);
  file_ = std::fopen(path_.c_str(), "w");
  if (!file_) return;
  std::setvbuf(file_, nullptr, _IOFBF, 1 << 20);
  std::fprintf(file_, "unipool-timeline\t1\t%s\n", process.c_str());
}

TimelineFile::~TimelineFile() {
  if (file_) std::fclose(file_);
}

int64_t TimelineFile::NameId(const char* name) {
  std::string key = name ? name : "?";
  std::replace_if(
      key.begin(), key.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; }, ' ');
  const auto [entry, is_new] = names_.try_emplace(key, static_cast<int64_t>(names_.size()));
  if (is_new) {
    std::fprintf(file_, "N\t%" PRId64 "\t%s\t%s\n", entry->second, key.c_str(), Demangled(key).c_str());
  }
  return entry->second;
}

void TimelineFile::WriteKernel(const int64_t (&place)[3], uint64_t start, uint64_t end, const char* name) {
  const std::lock_guard lock(mutex_);
  if (!file_) return;
  const int64_t id = NameId(name);
  std::fprintf(file_, "K\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRId64 "\n",
               place[0], place[1], place[2], start, end, id);
}

void TimelineFile::WriteCopy(const int64_t (&place)[3], uint64_t start, uint64_t end, int kind,
                             uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (!file_) return;
  std::fprintf(file_, "C\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRIu64 "\t%" PRIu64 "\t%d\t%" PRIu64 "\n",
               place[0], place[1], place[2], start, end, kind, bytes);
}

void TimelineFile::WriteSet(const int64_t (&place)[3], uint64_t start, uint64_t end, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (!file_) return;
  std::fprintf(file_, "S\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n",
               place[0], place[1], place[2], start, end, bytes);
}

void TimelineFile::WriteRange(int64_t thread, uint64_t start, uint64_t end, const char* name) {
  const std::lock_guard lock(mutex_);
  if (!file_) return;
  const int64_t id = NameId(name);
  std::fprintf(file_, "R\t%" PRId64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRId64 "\n", thread, start, end, id);
}

void TimelineFile::WriteOverhead(int kind, uint64_t start, uint64_t end) {
  const std::lock_guard lock(mutex_);
  if (!file_) return;
  std::fprintf(file_, "V\t%d\t%" PRIu64 "\t%" PRIu64 "\n", kind, start, end);
}

bool TimelineFile::Close(int64_t dropped) {
  const std::lock_guard lock(mutex_);
  if (!file_) return true;
  std::fprintf(file_, "E\t%" PRId64 "\n", dropped);
  const bool is_whole = std::ferror(file_) == 0;
  const bool is_closed = std::fclose(file_) == 0;
  file_ = nullptr;
  return is_whole && is_closed;
}

}  // namespace unipool
