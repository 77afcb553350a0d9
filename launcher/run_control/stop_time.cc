#include "launcher/run_control/stop_time.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>

#include "runtime/errors.h"

namespace unipool {
namespace {

using Clock = std::chrono::system_clock;

constexpr int64_t kMostSeconds = int64_t{100} * 366 * 86400;  // of a duration

[[noreturn]] void Refuse(const std::string& text, const std::string& why) {
  throw UserError("train.stop_at: is \"" + text + "\"" + why +
                  "; may be a wall time (2026-12-01T18:00), a duration from the start on (3h30m) or seconds "
                  "since 1970 (1764612000)");
}

bool IsDigits(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

int64_t SecondsOf(char unit) {
  switch (unit) {
    case 'd':
      return 86400;
    case 'h':
      return 3600;
    case 'm':
      return 60;
    case 's':
      return 1;
    default:
      return 0;
  }
}

// Whole numbers with a unit each, the larger units first.
std::chrono::seconds ParseDuration(const std::string& text) {
  int64_t total = 0, last_unit = INT64_MAX;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find_first_not_of("0123456789", at);
    if (end == at || end == std::string::npos || end - at > 9) Refuse(text, "");
    const int64_t unit = SecondsOf(text[end]);
    if (unit == 0) Refuse(text, std::string(", where '") + text[end] + "' is no unit (d, h, m, s)");
    if (unit >= last_unit) Refuse(text, "");
    last_unit = unit;
    total += std::stoll(text.substr(at, end - at)) * unit;
    at = end + 1;
  }
  if (total > kMostSeconds) Refuse(text, ", more than a hundred years");
  return std::chrono::seconds(total);
}

int DaysOfMonth(int year, int month) {
  constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leaps = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return kDays[month - 1] + (month == 2 && leaps ? 1 : 0);
}

Clock::time_point ParseWallTime(const std::string& text) {
  std::string time = text;
  const bool is_utc = time.back() == 'Z';
  if (is_utc) time.pop_back();
  // 2026-12-01T18:00[:00]
  const std::string form = "dddd-dd-ddTdd:dd:dd";
  if (time.size() == 16) time += ":00";
  bool fits = time.size() == form.size();
  for (size_t i = 0; fits && i < form.size(); ++i) {
    const char c = time[i];
    fits = form[i] == 'd' ? c >= '0' && c <= '9' : form[i] == 'T' ? c == 'T' || c == ' ' : c == form[i];
  }
  if (!fits) Refuse(text, "");
  const auto number = [&](size_t at, size_t digits) { return std::atoi(time.substr(at, digits).c_str()); };
  std::tm parts{};
  parts.tm_year = number(0, 4) - 1900;
  parts.tm_mon = number(5, 2) - 1;
  parts.tm_mday = number(8, 2);
  parts.tm_hour = number(11, 2);
  parts.tm_min = number(14, 2);
  parts.tm_sec = number(17, 2);
  parts.tm_isdst = -1;
  const bool exists = parts.tm_year >= 70 && parts.tm_mon >= 0 && parts.tm_mon < 12 && parts.tm_mday >= 1 &&
                      parts.tm_mday <= DaysOfMonth(number(0, 4), number(5, 2)) && parts.tm_hour < 24 &&
                      parts.tm_min < 60 && parts.tm_sec < 60;
  if (!exists) Refuse(text, ", a time that does not exist");
  const std::time_t seconds = is_utc ? timegm(&parts) : std::mktime(&parts);
  if (seconds == -1) Refuse(text, ", a time that does not exist");
  return Clock::from_time_t(seconds);
}

}  // namespace

std::optional<Clock::time_point> ParseStopTime(const std::string& text, Clock::time_point start) {
  if (text.empty()) return std::nullopt;
  if (IsDigits(text)) {
    if (text.size() < 9) Refuse(text, ", a number without a unit");
    if (text.size() > 10) Refuse(text, ", too large a number");
    return Clock::from_time_t(std::stoll(text));
  }
  if (text.find('-') != std::string::npos) return ParseWallTime(text);
  return start + ParseDuration(text);
}

std::string WallTimeText(Clock::time_point time) {
  const std::time_t seconds = Clock::to_time_t(time);
  std::tm parts{};
  localtime_r(&seconds, &parts);
  char text[64] = "";
  std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

}  // namespace unipool
