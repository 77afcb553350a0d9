// train.stop_at: when a run has to be over.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace unipool {

// The moment that a text names; nothing for an empty one. Forms:
//   2026-12-01T18:00      wall time of this machine, in UTC with a Z at the end; also with seconds
//                         and with a blank instead of T
//   3h30m, 90m, 1d12h     a duration from `start` on, of d, h, m and s
//   1764612000            seconds since 1970, of 9 or 10 digits
// Throws UserError.
std::optional<std::chrono::system_clock::time_point> ParseStopTime(
    const std::string& text, std::chrono::system_clock::time_point start);

// "2026-12-01 18:00:00", wall time of this machine.
std::string WallTimeText(std::chrono::system_clock::time_point time);

}  // namespace unipool
