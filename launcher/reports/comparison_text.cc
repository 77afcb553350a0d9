// How a comparison is shown.
#include <algorithm>
#include <cmath>
#include <map>

#include "launcher/reports/readable_number.h"
#include "launcher/reports/run_comparison.h"
#include "launcher/reports/shown_width.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

constexpr size_t kWidestValue = 24;  // of a setting

std::string Number(const std::optional<double>& value, int digits) {
  return value ? Digits(*value, digits) : "-";
}

std::optional<double> MeanOf(const std::optional<Estimate>& estimate) {
  return estimate ? std::optional(estimate->mean) : std::nullopt;
}

std::string SignedText(const std::optional<Estimate>& difference, bool utf8) {
  if (!difference) return "-";
  const std::string mean = Format("%s%.4f", difference->mean < 0 ? "-" : "+", std::abs(difference->mean));
  if (!difference->error) return mean;
  return mean + (utf8 ? " \u00b1 " : " +- ") + Format("%.4f", *difference->error);
}

std::string Seeds(const RunGroup& group) {
  std::string text;
  for (const ComparedRun* run : group.runs) {
    text += (text.empty() ? "" : ",") + std::to_string(run->config.train().seed());
  }
  return text;
}

using Rows = std::vector<std::vector<std::string>>;

// The first column to the left, the others to the right.
std::string Table(const Rows& rows) {
  std::vector<size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], static_cast<size_t>(ShownWidth(row[i])));
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string blanks(widths[i] - static_cast<size_t>(ShownWidth(row[i])), ' ');
      line += i == 0 ? row[i] + blanks : "  " + blanks + row[i];
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

Json EstimateJson(const std::optional<Estimate>& estimate) {
  if (!estimate) return nullptr;
  Json json{{"mean", estimate->mean}, {"error", nullptr}, {"seeds", estimate->count}};
  if (estimate->error) json["error"] = *estimate->error;
  return json;
}

Json NumberJson(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

std::string Joined(const std::vector<std::string>& notes, const char* between) {
  std::string text;
  for (const std::string& note : notes) text += (text.empty() ? "" : between) + note;
  return text;
}

// One column a group, one row a setting that differs.
std::string Settings(const Comparison& comparison) {
  std::map<std::string, std::vector<std::string>> values;
  const size_t count = comparison.groups.size();
  for (const RunGroup& group : comparison.groups) {
    for (const SettingDifference& setting : group.settings)
      values.try_emplace(setting.path, count, setting.one);  // the others have the first group's
  }
  Rows rows(1, {"settings that differ"});
  for (const RunGroup& group : comparison.groups) rows[0].push_back(group.name);
  for (size_t i = 0; i < count; ++i) {
    for (const SettingDifference& setting : comparison.groups[i].settings)
      values[setting.path][i] = setting.other;
  }
  for (const auto& [path, of_groups] : values) {
    rows.push_back({path});
    for (const std::string& value : of_groups) rows.back().push_back(Shortened(value, kWidestValue));
  }
  return Table(rows);
}

std::string Notes(const Comparison& comparison) {
  std::string text;
  for (const RunGroup& group : comparison.groups) {
    if (!group.notes.empty()) text += "note: " + group.name + ": " + Joined(group.notes, ";\n      ") + "\n";
  }
  return text.empty() ? "" : "\n" + text;
}

bool HasBytes(const Comparison& comparison) {
  return std::any_of(comparison.groups.begin(), comparison.groups.end(),
                     [](const RunGroup& group) { return group.per_byte_difference.has_value(); });
}

Json SettingsJson(const RunGroup& group) {
  Json json = Json::object();
  for (const SettingDifference& setting : group.settings)
    json[setting.path] = {{"first", setting.one}, {"this", setting.other}};
  return json;
}

}  // namespace

std::string ComparisonText(const Comparison& comparison, bool utf8) {
  Rows rows = {{"", "seeds", "parameters", "active", "loss", "valid", "balance", "dead", "tokens/s"}};
  const bool per_byte = HasBytes(comparison);
  if (per_byte) rows[0].emplace_back("nats/byte");
  for (const RunGroup& group : comparison.groups) {
    rows.push_back({group.name, Seeds(group), FormatCount(group.total), FormatCount(group.active),
                    Format("%.4f", group.loss.mean), Number(MeanOf(group.valid_loss), 4),
                    Number(group.balance, 3), Number(group.dead_experts, 1),
                    FormatCount(std::llround(group.tokens_per_second))});
    if (per_byte) rows.back().push_back(Number(MeanOf(group.valid_per_byte), 4));
  }
  const RunGroup& first = comparison.groups[0];
  Rows differences = {{"less " + first.name, "loss", "valid"}};
  if (per_byte) differences[0].emplace_back("nats/byte");
  for (size_t i = 1; i < comparison.groups.size(); ++i) {
    const RunGroup& group = comparison.groups[i];
    differences.push_back(
        {group.name, SignedText(group.loss_difference, utf8), SignedText(group.valid_difference, utf8)});
    if (per_byte) differences.back().push_back(SignedText(group.per_byte_difference, utf8));
  }
  Rows by_step = {{comparison.valid_step > 0 ? "valid at step" : "loss at step"}};
  for (size_t i = 1; i < comparison.groups.size(); ++i) by_step[0].push_back(comparison.groups[i].name);
  for (const Comparison::Row& row : comparison.rows) {
    by_step.push_back({std::to_string(row.step)});
    for (const auto& difference : row.differences) by_step.back().push_back(SignedText(difference, utf8));
  }
  const std::string valid_text =
      comparison.valid_step > 0 ? Format(", valid: of the validation after step %d", comparison.valid_step)
                                : "";
  return Format("Up to step %d. loss: mean of the last tenth of the steps%s\n\n", comparison.step,
                valid_text.c_str()) +
         Table(rows) + "\nPaired by seed: mean difference and its standard error\n" + Table(differences) +
         "\n" + Table(by_step) + "\n" + Settings(comparison) + Notes(comparison);
}

Json ComparisonJson(const Comparison& comparison) {
  Json groups = Json::array(), rows = Json::array();
  for (const RunGroup& group : comparison.groups) {
    Json runs = Json::array();
    for (const ComparedRun* run : group.runs)
      runs.push_back({{"run", run->path}, {"seed", run->config.train().seed()}});
    groups.push_back({{"name", group.name},
                      {"runs", runs},
                      {"parameters", {{"total", group.total}, {"active", group.active}}},
                      {"loss", EstimateJson(group.loss)},
                      {"valid_loss", EstimateJson(group.valid_loss)},
                      {"valid_loss_per_byte", EstimateJson(group.valid_per_byte)},
                      {"pool_loss_over_balance", NumberJson(group.balance)},
                      {"max_violation", NumberJson(group.max_violation)},
                      {"dead_experts", NumberJson(group.dead_experts)},
                      {"tokens_per_second", group.tokens_per_second},
                      {"difference",
                       {{"loss", EstimateJson(group.loss_difference)},
                        {"valid_loss", EstimateJson(group.valid_difference)},
                        {"valid_loss_per_byte", EstimateJson(group.per_byte_difference)}}},
                      {"settings", SettingsJson(group)},
                      {"note", Joined(group.notes, "; ")}});
  }
  for (const Comparison::Row& row : comparison.rows) {
    Json differences = Json::array();
    for (const auto& difference : row.differences) differences.push_back(EstimateJson(difference));
    rows.push_back({{"step", row.step}, {"differences", differences}});
  }
  return {{"step", comparison.step},
          {"valid_step", comparison.valid_step > 0 ? Json(comparison.valid_step) : Json(nullptr)},
          {"groups", groups},
          {"by_step", rows}};
}

}  // namespace unipool
