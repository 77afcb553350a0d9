#include "launcher/tokens/shown_text.h"

#include <algorithm>
#include <cstdint>

#include "runtime/errors.h"

namespace unipool {
namespace {

// Bytes at the end of `text` that begin a UTF-8 character without ending it.
size_t UnfinishedCharacter(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<uint8_t>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;  // not the first of its character
    const size_t length = byte >= 0xF0 && byte <= 0xF4 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC2 ? 2 : 1;
    return byte <= 0xF4 && length > back ? back : 0;
  }
  return 0;
}

}  // namespace

ShownText::ShownText(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) CHECK(!stop.empty());
}

// Bytes at the end of held_ that may be the begin of a stop string or of a character.
size_t ShownText::HeldBack() const {
  size_t most = UnfinishedCharacter(held_);
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > most; --length) {
      if (std::string_view(held_).ends_with(std::string_view(stop).substr(0, length))) most = length;
    }
  }
  return most;
}

std::string ShownText::Add(std::string_view piece) {
  std::string shown;
  for (const char byte : piece) {
    if (has_stopped_) break;
    held_.push_back(byte);
    size_t longest = 0;
    for (const std::string& stop : stops_) {
      if (held_.ends_with(stop)) longest = std::max(longest, stop.size());
    }
    if (longest > 0) {
      shown += held_.substr(0, held_.size() - longest);
      held_.clear();
      has_stopped_ = true;
      break;
    }
    const size_t ready = held_.size() - HeldBack();
    shown += held_.substr(0, ready);
    held_.erase(0, ready);
  }
  return shown;
}

std::string ShownText::Rest() {
  std::string rest;
  rest.swap(held_);
  return rest;
}

}  // namespace unipool
