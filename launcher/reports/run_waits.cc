#include "launcher/reports/run_waits.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/format.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMostBytes = 1 << 20;  // of the file's end

template <class T>
std::optional<T> Number(const Json& line, const char* name) {
  const auto found = line.find(name);
  if (found == line.end() || !found->is_number()) return {};
  return found->get<T>();
}

std::string EndOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return "";
  const auto size = static_cast<int64_t>(file.tellg());
  std::string text(std::min(size, kMostBytes), '\0');
  file.seekg(size - static_cast<int64_t>(text.size()));
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  return text.substr(0, static_cast<size_t>(file.gcount()));
}

std::optional<RunWaits> WaitsOf(const Json& line) {
  const auto step = Number<int64_t>(line, "step");
  const auto seconds = Number<double>(line, "step_seconds"), blocked = Number<double>(line, "blocked_ms");
  if (!step || !seconds || !blocked || *seconds <= 0) return {};
  return RunWaits{.step = *step,
                  .step_ms = 1e3 * *seconds,
                  .blocked_ms = *blocked,
                  .idle_ms = Number<double>(line, "idle_ms"),
                  .exposed_ms = Number<double>(line, "exposed_ms"),
                  .waited_for_rank = Number<int>(line, "waited_for_rank"),
                  .waited_for_share = Number<double>(line, "waited_for_share")};
}

}  // namespace

std::optional<RunWaits> ReadRunWaits(const std::string& run_dir) {
  const std::string text = EndOf(run_dir + "/metrics.jsonl");
  std::optional<RunWaits> newest;
  for (size_t end = text.rfind('\n'); end != text.npos && end > 0;) {  // what is torn at the end is no line
    const size_t before = text.rfind('\n', end - 1);
    const size_t begin = before == text.npos ? 0 : before + 1;
    const Json line = Json::parse(text.substr(begin, end - begin), nullptr, /*allow_exceptions=*/false);
    const std::optional<RunWaits> waits = line.is_object() ? WaitsOf(line) : std::nullopt;
    if (waits && waits->idle_ms) return waits;
    if (waits && !newest) newest = waits;
    end = before;
  }
  return newest;
}

std::string RunWaitsText(const RunWaits& waits) {
  std::string text = Format("%.0f %% of step %d", 100 * waits.blocked_ms / waits.step_ms, waits.step);
  if (!waits.idle_ms || !waits.exposed_ms) return text + Format(": %.1f ms", waits.blocked_ms);
  text += Format(": %.1f ms for late ranks", *waits.idle_ms);
  if (waits.waited_for_rank && waits.waited_for_share && *waits.waited_for_rank >= 0)
    text += Format(" (%.0f %% for rank %d, whatever made it late)", 100 * *waits.waited_for_share,
                   *waits.waited_for_rank);
  return text + Format(", %.1f ms for the wire", *waits.exposed_ms);
}

Json RunWaitsJson(const RunWaits& waits) {
  Json json{{"step", waits.step}, {"step_ms", waits.step_ms}, {"blocked_ms", waits.blocked_ms}};
  if (waits.idle_ms) json["idle_ms"] = *waits.idle_ms;
  if (waits.exposed_ms) json["exposed_ms"] = *waits.exposed_ms;
  if (waits.waited_for_rank) json["waited_for_rank"] = *waits.waited_for_rank;
  if (waits.waited_for_share) json["waited_for_share"] = *waits.waited_for_share;
  return json;
}

}  // namespace unipool
