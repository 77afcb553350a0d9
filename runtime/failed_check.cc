#include "runtime/failed_check.h"

#include <execinfo.h>
#include <glog/logging.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <mutex>

#include "runtime/errors.h"

namespace unipool {
namespace {

// Keeps the words of the CHECK that failed: glog does not give them to its failure function.
class LastWords : public google::LogSink {
 public:
  void send(google::LogSeverity severity, const char* /*full_filename*/, const char* base_filename, int line,
            const google::LogMessageTime& /*time*/, const char* message, size_t size) override {
    if (severity != google::GLOG_FATAL) return;
    const std::lock_guard lock(mutex_);
    text_ = Format("%s:%d: ", base_filename, line) + std::string(message, size);
  }
  std::string text() {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  std::mutex mutex_;
  std::string text_;
};

struct Acts {
  JobEndHook on_end;
  void (*last_act)() = nullptr;
  LastWords words;
};
std::unique_ptr<Acts> acts;  // of the one FailedCheckActs that lives: glog's function has no arguments

// To clang [[noreturn]] is no part of a function's type, as glog wants it.
__attribute__((noreturn)) void AfterFailedCheck() {
  void* frames[64];
  backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
  if (acts && acts->on_end) acts->on_end({.exit_code = kAbortedExitCode, .reason = acts->words.text()});
  if (acts && acts->last_act) acts->last_act();
  std::abort();
}

// As glog does by itself. std::abort throws nothing, which is part of its type and not of glog's.
__attribute__((noreturn)) void Abort() {
  std::abort();
}

}  // namespace

FailedCheckActs::FailedCheckActs(JobEndHook on_end, void (*last_act)()) {
  CHECK(!acts);
  acts = std::make_unique<Acts>();
  acts->on_end = std::move(on_end);
  acts->last_act = last_act;
  google::AddLogSink(&acts->words);
  google::InstallFailureFunction(&AfterFailedCheck);
}

FailedCheckActs::~FailedCheckActs() {
  google::InstallFailureFunction(&Abort);
  google::RemoveLogSink(&acts->words);
  acts.reset();
}

}  // namespace unipool
