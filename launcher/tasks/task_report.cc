#include "launcher/tasks/task_report.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "launcher/reports/readable_number.h"

namespace unipool {
namespace {

using Json = nlohmann::ordered_json;

std::string WithError(const Estimate& estimate, int digits) {
  const std::string value = Digits(estimate.value, digits);
  return std::isfinite(estimate.stderr_of_mean) ? value + " +-" + Digits(estimate.stderr_of_mean, digits)
                                                : value;
}

Json NumberOrNull(double number) {
  return std::isfinite(number) ? Json(number) : Json();
}

void Add(const char* name, const Estimate& estimate, Json& to) {
  to[Format("%s,none", name)] = NumberOrNull(estimate.value);
  to[Format("%s_stderr,none", name)] = NumberOrNull(estimate.stderr_of_mean);
}

}  // namespace

std::string TaskReportText(const TaskReport& report) {
  std::string text = report.checkpoint + "\n" +
                     Format("%-14s %6s  %-17s %-17s %s\n", "task", "items", "acc", "acc_norm", "chance");
  for (const TaskFigures& task : report.tasks) {
    text += Format("%-14s %6d  %-17s %-17s %-6s", task.task, task.num_items, WithError(task.acc, 4),
                   task.acc_norm ? WithError(*task.acc_norm, 4) : "",
                   task.chance ? Digits(*task.chance, 4) : "0");
    if (task.perplexity) text += "  perplexity " + WithError(*task.perplexity, 2);
    if (task.IsNoBetterThanChance()) text += "  no better than chance";
    text += "\n";
  }
  for (const TaskFigures& task : report.tasks) {
    if (task.num_cut == 0) continue;
    text += Format("%s: %d of %d items have contexts longer than the model sees; their begin was cut\n",
                   task.task, task.num_cut, task.num_items);
  }
  return text + Format("%.4g items a second\n", static_cast<double>(report.num_items) / report.seconds);
}

std::string TaskReportJson(const TaskReport& report) {
  Json json;
  for (const TaskFigures& task : report.tasks) {
    Json& to = json["results"][task.task];
    to["alias"] = task.task;
    Add("acc", task.acc, to);
    if (task.acc_norm) Add("acc_norm", *task.acc_norm, to);
    if (task.perplexity) Add("perplexity", *task.perplexity, to);
    if (task.chance) to["chance,none"] = *task.chance;
    to["contexts_cut"] = task.num_cut;
    json["n-samples"][task.task] = {{"original", task.num_lines}, {"effective", task.num_items}};
    json["n-shot"][task.task] = 0;
  }
  json["checkpoint"] = report.checkpoint;
  json["items_per_second"] = NumberOrNull(static_cast<double>(report.num_items) / report.seconds);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string SampleLine(const TaskSource& source, int64_t doc_id, const TaskItem& item,
                       const ItemScores& scores) {
  Json json{{"task", source.task->name}, {"doc_id", doc_id}, {"line", item.line}, {"target", item.gold}};
  for (size_t i = 0; i < item.choices.size(); ++i) {
    const TaskChoice& choice = item.choices[i];
    json["arguments"].push_back({choice.context, choice.continuation});
    json["resps"].push_back(Json::array({scores.log_probs[i], static_cast<bool>(scores.is_greedy[i])}));
  }
  if (item.choices.size() == 1) {
    json["acc"] = scores.is_greedy[0] ? 1 : 0;
  } else {
    const ItemPicks picks = PicksOf(item, scores);
    json["acc"] = picks.best == item.gold ? 1 : 0;
    if (source.task->has_norm) json["acc_norm"] = picks.best_norm == item.gold ? 1 : 0;
  }
  if (scores.is_cut) json["context_cut"] = true;
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace unipool
