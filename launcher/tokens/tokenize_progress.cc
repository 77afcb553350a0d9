#include "launcher/tokens/tokenize_progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "runtime/errors.h"

namespace unipool {

namespace {

constexpr int kBarWidth = 30;

std::string Clock(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  return s < 3600 ? Format("%d:%02d", s / 60, s % 60) : Format("%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
}

}  // namespace

TokenizeProgress::TokenizeProgress(int64_t total_bytes)
    : total_bytes_(total_bytes), terminal_(isatty(STDERR_FILENO)) {}

void TokenizeProgress::Add(int64_t bytes, int64_t documents, int64_t tokens) {
  bytes_ += bytes;
  documents_ += documents;
  tokens_ += tokens;
  const Clock::time_point now = Clock::now();
  if (now - drawn_ < (terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000))) return;
  drawn_ = now;
  Draw(std::chrono::duration<double>(now - begin_).count());
}

void TokenizeProgress::Draw(double seconds) const {
  std::string line;
  if (total_bytes_ > 0) {
    const double share = static_cast<double>(bytes_) / static_cast<double>(total_bytes_);
    if (terminal_) {
      const int filled = std::min(kBarWidth, static_cast<int>(share * kBarWidth));
      line.append("[").append(filled, '=').append(kBarWidth - filled, ' ').append("] ");
    }
    line += Format("%3.0f %%  ETA %s  ", 100 * share, unipool::Clock(seconds * (1 / share - 1)).c_str());
  }
  line += Format("%.1f MB  %.1f MB/s  %.0f docs/s  %.0f tokens/s", 1e-6 * static_cast<double>(bytes_),
                 1e-6 * static_cast<double>(bytes_) / seconds, static_cast<double>(documents_) / seconds,
                 static_cast<double>(tokens_) / seconds);
  ClearLine();
  std::fprintf(stderr, terminal_ ? "%s" : "%s\n", line.c_str());
  std::fflush(stderr);
}

void TokenizeProgress::ClearLine() const {
  if (terminal_) std::fputs("\r\033[K", stderr);
}

void TokenizeProgress::Finish() {
  const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
  ClearLine();
  const double megabytes = 1e-6 * static_cast<double>(bytes_);
  const std::string text =
      Format("%d documents, %d tokens from %.1f MB in %s (%.1f MB/s, %.0f docs/s, %.0f tokens/s)\n",
             documents_, tokens_, megabytes, unipool::Clock(seconds), megabytes / seconds,
             static_cast<double>(documents_) / seconds, static_cast<double>(tokens_) / seconds);
  std::fputs(text.c_str(), stderr);
}

}  // namespace unipool
