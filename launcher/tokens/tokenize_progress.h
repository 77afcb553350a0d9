// Says on stderr how far a long run over bytes and documents is. On a terminal it is a bar that is drawn
// anew. Elsewhere it is a line every ten seconds.
#pragma once

#include <chrono>
#include <cstdint>

namespace unipool {

class TokenizeProgress {
 public:
  explicit TokenizeProgress(int64_t total_bytes);  // 0: not known, as for a pipe
  void Add(int64_t bytes, int64_t documents, int64_t tokens);
  void Finish();  // the final line: totals and mean speed

 private:
  using Clock = std::chrono::steady_clock;
  void Draw(double seconds) const;
  void ClearLine() const;

  const int64_t total_bytes_;
  const bool terminal_;
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point drawn_ = begin_;
  int64_t bytes_ = 0, documents_ = 0, tokens_ = 0;
};

}  // namespace unipool
