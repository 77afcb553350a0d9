#include "launcher/run_control/signal_requests.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

namespace unipool {
namespace {

constexpr std::pair<int, RunRequest> kSignals[] = {
    {SIGUSR1, RunRequest::kSaveSignal}, {SIGUSR2, RunRequest::kStopUsr2}, {SIGTERM, RunRequest::kStopTerm},
    {SIGINT, RunRequest::kStopInt},     {SIGHUP, RunRequest::kStopHup},   {SIGXCPU, RunRequest::kStopXcpu},
};
constexpr int kNumSignals = std::size(kSignals);
constexpr int64_t kSameNanoseconds = 200'000'000;

struct LastWords {
  std::string path, partial, text;
};

// What the handlers know. All of it may be used in a handler.
std::array<std::atomic<bool>, kNumRunRequests> asked;
std::atomic<bool> slurm_kills{false};           // Slurm itself ends what does not end in time
std::atomic<int64_t> first_end_nanoseconds{0};  // of TERM or INT; 0: none yet
std::atomic<const LastWords*> last_words{nullptr};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int64_t>::is_always_lock_free &&
              std::atomic<const LastWords*>::is_always_lock_free);

std::atomic<bool> installed{false};
std::array<struct sigaction, kNumSignals + 1> previous;  // + 1: PIPE
// All that were set: a handler may still read one that was replaced. A few hundred bytes each; the oldest go.
std::mutex words_mutex;
std::deque<std::unique_ptr<LastWords>> all_words;
constexpr size_t kMostWords = 4;

int64_t Nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec + 1;
}

void WriteLastWords() {
  const LastWords* words = last_words.load();
  if (!words) return;
  const int fd = open(words->partial.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return;
  const ssize_t written = write(fd, words->text.data(), words->text.size());
  close(fd);
  if (written == static_cast<ssize_t>(words->text.size())) {
    rename(words->partial.c_str(), words->path.c_str());
  } else {
    unlink(words->partial.c_str());
  }
}

void Handle(int number) {
  const int saved_errno = errno;
  if (number == SIGTERM || number == SIGINT) {
    const int64_t now = Nanoseconds();
    const bool hurries = number == SIGINT || !slurm_kills.load();
    int64_t first = 0;
    if (!first_end_nanoseconds.compare_exchange_strong(first, now) && now - first > kSameNanoseconds &&
        hurries) {
      WriteLastWords();
      _exit(128 + number);
    }
  }
  for (const auto& [signal, request] : kSignals) {
    if (signal == number) asked[static_cast<int>(request)].store(true);
  }
  errno = saved_errno;
}

}  // namespace

SignalRequests::SignalRequests() {
  CHECK(!installed.exchange(true)) << "two at once";
  for (auto& flag : asked) flag.store(false);
  first_end_nanoseconds.store(0);
  slurm_kills.store(std::getenv("SLURM_JOB_ID") != nullptr);
  struct sigaction action {};
  action.sa_handler = &Handle;
  action.sa_flags = SA_RESTART;  // a read or write that it interrupts goes on
  sigemptyset(&action.sa_mask);
  for (int i = 0; i < kNumSignals; ++i) {
    const int number = kSignals[i].first;
    PCHECK(sigaction(number, nullptr, &previous[i]) == 0);
    if ((number == SIGHUP || number == SIGINT) && previous[i].sa_handler == SIG_IGN) continue;
    PCHECK(sigaction(number, &action, nullptr) == 0);
  }
  action.sa_handler = SIG_IGN;
  PCHECK(sigaction(SIGPIPE, &action, &previous[kNumSignals]) == 0);
}

SignalRequests::~SignalRequests() {
  for (int i = 0; i < kNumSignals; ++i) sigaction(kSignals[i].first, &previous[i], nullptr);
  sigaction(SIGPIPE, &previous[kNumSignals], nullptr);
  SetLastWords("", "");
  installed.store(false);
}

void SignalRequests::AddTo(RunRequests& requests) {
  for (const auto& [signal, request] : kSignals) {
    std::atomic<bool>& flag = asked[static_cast<int>(request)];
    if (request == RunRequest::kSaveSignal ? flag.exchange(false) : flag.load()) requests.Add(request);
  }
}

bool SignalRequests::StopAsked() const {
  for (const auto& [signal, request] : kSignals) {
    if (request != RunRequest::kSaveSignal && asked[static_cast<int>(request)].load()) return true;
  }
  return false;
}

void SignalRequests::SetLastWords(const std::string& path, const std::string& text) {
  const std::lock_guard lock(words_mutex);
  if (path.empty()) return last_words.store(nullptr);
  all_words.push_back(std::make_unique<LastWords>());
  *all_words.back() = {.path = path, .partial = path + "." + std::to_string(getpid()) + ".tmp", .text = text};
  last_words.store(all_words.back().get());
  if (all_words.size() > kMostWords) all_words.pop_front();
}

}  // namespace unipool
