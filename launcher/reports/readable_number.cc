#include "launcher/reports/readable_number.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "runtime/errors.h"

namespace unipool {
namespace {

std::string Scaled(int64_t value, const char* separator, const char* suffix) {
  const double x = static_cast<double>(value);
  if (value >= 999'950'000) return Format("%.3f%sB%s", x / 1e9, separator, suffix);
  if (value >= 999'950) return Format("%.1f%sM%s", x / 1e6, separator, suffix);
  if (value >= 1000) return Format("%.1f%sK%s", x / 1e3, separator, suffix);
  return Format("%d%s%s", value, separator, suffix);
}

}  // namespace

std::string FormatCount(int64_t count) {
  return Scaled(count, "", "");
}

std::string FormatBytes(int64_t bytes) {
  std::string text = Scaled(bytes, " ", "B");
  const size_t giga = text.find(" BB");
  if (giga != std::string::npos) text.replace(giga, 3, " GB");
  return text;
}

std::string Digits(double value, int digits) {
  char text[400];  // the largest number has 309 digits before the point
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string FormatDuration(double seconds) {
  const int64_t s = std::llround(std::max(0.0, seconds));
  if (s < 60) return Format("%ds", s);
  if (s < 3600) return Format("%dm%02ds", s / 60, s % 60);
  if (s < 86400) return Format("%dh%02dm", s / 3600, s % 3600 / 60);
  return Format("%dd%02dh", s / 86400, s % 86400 / 3600);
}

}  // namespace unipool
