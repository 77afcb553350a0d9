#include "launcher/reports/metric_list.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "launcher/data/text_bytes.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kEveryStep[] = "every step";
constexpr char kWithTraffic[] = "steps, unless `traffic.record: OFF`";
constexpr char kWhereSplit[] = "of these, where ranks are threads or emulated; else every `traffic.every`th";
constexpr char kPoolTraffic[] = "of these, where several ranks share a pool";
constexpr char kWithLock[] = "steps, with `moe.lock`";
constexpr char kFromFreeze[] = "validations from the freeze of `moe.lock` on";
constexpr char kEveryValidation[] = "every validation";
constexpr char kValidationsOfBlends[] = "validations of several sources";
constexpr char kWithTasks[] = "validations, with `train.eval_tasks`";

MetricValue IfAny(const std::vector<NamedNumber>& numbers) {
  return numbers.empty() ? MetricValue() : MetricValue(numbers);
}

std::vector<NamedNumber> NumbersOf(const HeldRows& rows) {
  std::vector<NamedNumber> numbers;
  const auto values = rows.values();
  for (int i = 0; i < HeldRows::kNumNumbers; ++i)
    numbers.push_back({HeldRows::Names()[i], static_cast<double>(values[i])});
  return numbers;
}

template <class T>
MetricValue IfThere(const std::optional<T>& value) {
  if (value) return *value;
  return std::monostate{};
}

template <class T>
MetricValue OfLock(const StepOutcome& outcome, T LockReport::*number) {
  if (!outcome.report.load.lock) return std::monostate{};
  return (*outcome.report.load.lock).*number;
}

template <class T>
MetricValue OfTraffic(const StepOutcome& outcome, T TrafficStep::*number) {
  if (!outcome.report.traffic) return std::monostate{};
  return (*outcome.report.traffic).*number;
}
template <class T>
MetricValue OfTraffic(const StepOutcome& outcome, std::optional<T> TrafficStep::*number) {
  if (!outcome.report.traffic) return std::monostate{};
  return IfThere((*outcome.report.traffic).*number);
}

Json JsonOf(const MemoryParts& parts) {
  Json json = Json::object();
  for (int i = 0; i < kNumMemoryKinds; ++i) json[NameOf(static_cast<MemoryKind>(i))] = parts[i];
  return json;
}

// A source that is named twice gets a number at its second name.
Json JsonOf(const std::vector<NamedNumber>& numbers) {
  Json json = Json::object();
  for (const NamedNumber& number : numbers) {
    std::string name = number.name;
    for (int i = 2; json.contains(name); ++i) name = Format("%s (%d)", number.name, i);
    json[name] = number.value;
  }
  return json;
}

template <class Outcome>
Json ObjectOf(const std::vector<Metric<Outcome>>& metrics, const Outcome& outcome) {
  Json line = Json::object();
  for (const Metric<Outcome>& metric : metrics) {
    const MetricValue value = metric.value(outcome);
    if (const auto* count = std::get_if<int64_t>(&value)) line[metric.name] = *count;
    if (const auto* number = std::get_if<double>(&value)) line[metric.name] = *number;
    if (const auto* parts = std::get_if<MemoryParts>(&value)) line[metric.name] = JsonOf(*parts);
    if (const auto* numbers = std::get_if<std::vector<NamedNumber>>(&value))
      line[metric.name] = JsonOf(*numbers);
  }
  return line;
}

std::string Line(const Json& object) {
  return object.dump(-1, ' ', false, Json::error_handler_t::replace);  // a path need not be UTF-8
}

std::vector<Scalar> Scalars(const Json& object, const std::string& prefix = "") {
  std::vector<Scalar> scalars;
  for (const auto& [name, value] : object.items()) {
    if (value.is_number() && name != "step") scalars.push_back({prefix + name, value.get<double>()});
    if (!value.is_object()) continue;
    for (Scalar& part : Scalars(value, prefix + name + "/")) scalars.push_back(std::move(part));
  }
  return scalars;
}

template <class Outcome>
void AddRows(const std::vector<Metric<Outcome>>& metrics, std::string& text) {
  for (const Metric<Outcome>& metric : metrics) {
    const char* mark = metric.repeats == Repeats::kMeasured ? "\\*" : "";
    text +=
        Format("| `%s`%s | %s | %s | %s |\n", metric.name, mark, metric.unit, metric.lines, metric.meaning);
  }
}

template <class Outcome>
void AddEntries(const std::vector<Metric<Outcome>>& metrics, Json& list) {
  for (const Metric<Outcome>& metric : metrics) {
    list.push_back({{"name", metric.name},
                    {"unit", metric.unit},
                    {"lines", metric.lines},
                    {"repeats", metric.repeats == Repeats::kExactly ? "exactly" : "measured"},
                    {"meaning", metric.meaning}});
  }
}

}  // namespace

// clang-format off
const std::vector<Metric<StepOutcome>>& StepMetrics() {
  using S = StepOutcome;
  static const std::vector<Metric<S>> metrics = {
      {"step", "", kEveryStep, Repeats::kExactly, "optimizer updates so far: 1 after the first",
       [](const S& s) -> MetricValue { return s.step; }},
      {"tokens", "", kEveryStep, Repeats::kExactly, "tokens trained on so far, over all ranks",
       [](const S& s) -> MetricValue { return s.tokens; }},
      {"loss", "nats", kEveryStep, Repeats::kExactly,
       "mean cross entropy of the step's tokens, without the balancing loss",
       [](const S& s) -> MetricValue { return s.report.loss; }},
      {"pool_loss", "nats", kEveryStep, Repeats::kExactly,
       "balancing loss of whichever kind (`moe.balance`), with its coefficient",
       [](const S& s) -> MetricValue { return s.report.load.pool_loss; }},
      {"pool_loss_over_balance", "", kEveryStep, Repeats::kExactly,
       "balancing loss / its value at perfect balance; null where that is not known",
       [](const S& s) -> MetricValue { return s.PoolLossOverBalance(); }},
      {"max_violation", "", kEveryStep, Repeats::kExactly, "largest load of an expert / mean load - 1; load is choices with a positive score",
       [](const S& s) -> MetricValue { return s.report.load.max_violation; }},
      {"dead_experts", "", kEveryStep, Repeats::kExactly, "experts that no token of the step chose with a positive score",
       [](const S& s) -> MetricValue { return s.report.load.dead_experts; }},
      {"zero_score_share", "", kEveryStep, Repeats::kExactly,
       "share of tokens and layers without a positive router score: the experts are off for them",
       [](const S& s) -> MetricValue { return s.report.load.zero_score_share; }},
      {"tie_share", "", kEveryStep, Repeats::kExactly,
       "share of choices without a positive router score: they are no load and are not sent; with `moe.top_k: 1` it is `zero_score_share`",
       [](const S& s) -> MetricValue { return s.report.load.tie_share; }},
      {"used_experts", "", kEveryStep, Repeats::kExactly,
       "share of a rank's experts that had rows, mean over ranks, microbatches and layers (over slots, where stages share a pool)",
       [](const S& s) -> MetricValue { return s.report.used_experts; }},
      {"effective_experts", "", "steps after the first ten, where there is a router", Repeats::kExactly,
       "e to the power of the entropy of the experts' shares of all importance (`models/EXPERTS.md`)",
       [](const S& s) -> MetricValue {
         const double effective = s.report.load.effective_experts;
         return effective > 0 ? MetricValue(effective) : std::monostate{};
       }},
      {"grad_norm", "", kEveryStep, Repeats::kExactly, "norm of all gradients, before clipping",
       [](const S& s) -> MetricValue { return s.report.grad_norm; }},
      {"lr", "", kEveryStep, Repeats::kExactly, "learning rate of the step",
       [](const S& s) -> MetricValue { return s.lr; }},
      {"tokens_per_second", "1/s", kEveryStep, Repeats::kMeasured, "tokens of the step / its time",
       [](const S& s) -> MetricValue { return s.TokensPerSecond(); }},
      {"step_seconds", "s", kEveryStep, Repeats::kMeasured, "time of the step on rank 0",
       [](const S& s) -> MetricValue { return s.seconds; }},
      {"pool_shares_age", "steps or microbatches", kEveryStep, Repeats::kExactly,
       "age of the expert shares in the pool loss: steps with `moe.balance_scope: STEP`, else microbatches; "
       "-1: none in force",
       [](const S& s) -> MetricValue { return s.report.load.shares_age; }},
      {"balance_seconds", "s", kEveryStep, Repeats::kMeasured,
       "time that rank 0 spent starting and awaiting the step's statistics",
       [](const S& s) -> MetricValue { return s.report.load.seconds; }},
      {"peak_memory_bytes", "bytes", kEveryStep, Repeats::kMeasured,
       "largest memory that a rank has used so far",
       [](const S& s) -> MetricValue { return s.report.memory.total(); }},
      {"peak_memory_rank", "", kEveryStep, Repeats::kMeasured, "the rank that has used it",
       [](const S& s) -> MetricValue { return int64_t{s.report.memory.rank}; }},
      {"peak_memory", "bytes", kEveryStep, Repeats::kMeasured,
       "its parts: weights, gradients, optimizer, activations, exchange, scratch; "
       "their sum is `peak_memory_bytes`",
       [](const S& s) -> MetricValue { return s.report.memory.bytes; }},
      {"peak_memory_rows", "rows", kEveryStep, Repeats::kMeasured,
       "rows of experts that its arrays have held so far, by array (`parallel/held_rows.h`)",
       [](const S& s) -> MetricValue { return NumbersOf(s.report.memory.rows); }},
      {"skipped", "", "skipped steps", Repeats::kExactly,
       "1: loss or gradient norm is no number (null here), and weights and optimizer stay as they are",
       [](const S& s) -> MetricValue { return s.report.is_skipped ? MetricValue(int64_t{1}) : std::monostate{}; }},
      {"lock_stage", "", kWithLock, Repeats::kExactly,
       "0: layers share the pool, 1: experts that a layer does not own fade, 2: locked",
       [](const S& s) -> MetricValue {
         if (!s.report.load.lock) return std::monostate{};
         return static_cast<int64_t>(s.report.load.lock->stage);
       }},
      {"lock_alpha", "", kWithLock, Repeats::kExactly,
       "what scores of experts that a layer does not own lose in the step: 0 to 1",
       [](const S& s) -> MetricValue { return OfLock(s, &LockReport::anneal); }},
      {"lock_entropy", "nats", kWithLock, Repeats::kExactly,
       "entropy of a layer's mean scores, mean over layers; e to its power is the number of experts in use",
       [](const S& s) -> MetricValue { return OfLock(s, &LockReport::entropy); }},
      {"off_mask_rows", "", kWithLock, Repeats::kExactly,
       "choices of experts that the layer does not own, from the freeze on; 0 once it is locked",
       [](const S& s) -> MetricValue { return OfLock(s, &LockReport::off_mask_rows); }},
      {"slot_imbalance", "", "steps where several ranks share a pool", Repeats::kExactly,
       "largest / mean load of a rank over the slots of the step",
       [](const S& s) -> MetricValue { return IfThere(s.slot_imbalance); }},
      {"wire_bytes", "bytes", kWithTraffic, Repeats::kMeasured,
       "bytes that ranks sent to other ranks since the statistics of the step before, so the first step of a start lacks some",
       [](const S& s) -> MetricValue { return OfTraffic(s, &TrafficStep::wire_bytes); }},
      {"wire_bytes_inter", "bytes", kWithTraffic, Repeats::kMeasured, "those between nodes",
       [](const S& s) -> MetricValue { return OfTraffic(s, &TrafficStep::wire_bytes_inter); }},
      {"blocked_ms", "ms", kWithTraffic, Repeats::kMeasured,
       "time that a rank waited for exchanges, mean over ranks; where they are told `idle_ms` + `exposed_ms`",
       [](const S& s) -> MetricValue { return OfTraffic(s, &TrafficStep::blocked_ms); }},
      {"idle_ms", "ms", kWhereSplit, Repeats::kMeasured,
       "of it, until the last rank that sends or receives had started",
       [](const S& s) -> MetricValue { return OfTraffic(s, &TrafficStep::idle_ms); }},
      {"exposed_ms", "ms", kWhereSplit, Repeats::kMeasured, "the rest: the wire, or nobody moved the data",
       [](const S& s) -> MetricValue { return OfTraffic(s, &TrafficStep::exposed_ms); }},
      {"hidden_share", "", "steps on an emulated cluster", Repeats::kMeasured,
       "wire time for which nobody waited / all wire time of exchanges alone",
       [](const S& s) -> MetricValue { return OfTraffic(s, &TrafficStep::hidden_share); }},
      {"waited_for_rank", "", kWhereSplit, Repeats::kMeasured, "the rank that most idle time is owed to, whatever made it late (`report` tells)",
       [](const S& s) -> MetricValue { return OfTraffic(s, &TrafficStep::waited_for_rank); }},
      {"waited_for_share", "", kWhereSplit, Repeats::kMeasured, "its share of all idle time",
       [](const S& s) -> MetricValue { return OfTraffic(s, &TrafficStep::waited_for_share); }},
      {"receive_imbalance", "", kPoolTraffic, Repeats::kExactly,
       "mean over slots and lanes (with one stage: microbatches, layers and lanes) of the most rows that a rank received / the mean of its pool's ranks",
       [](const S& s) -> MetricValue { return OfTraffic(s, &TrafficStep::receive_imbalance); }},
      {"receive_imbalance_p95", "", kPoolTraffic, Repeats::kExactly, "its 95th percentile over the slots and lanes",
       [](const S& s) -> MetricValue { return OfTraffic(s, &TrafficStep::receive_imbalance_p95); }},
      {"most_rows_received", "", kPoolTraffic, Repeats::kExactly, "most rows that a rank received in a slot and lane",
       [](const S& s) -> MetricValue { return OfTraffic(s, &TrafficStep::most_rows_received); }},
      {"virtual_step_seconds", "s", "steps on an emulated cluster", Repeats::kMeasured,
       "time of the step on the emulated cluster, as rank 0 has it",
       [](const S& s) -> MetricValue { return IfThere(s.virtual_seconds); }},
  };
  return metrics;
}

const std::vector<Metric<ValidationOutcome>>& ValidationMetrics() {
  using V = ValidationOutcome;
  static const std::vector<Metric<V>> metrics = {
      {"step", "", kEveryValidation, Repeats::kExactly, "optimizer updates before the validation",
       [](const V& v) -> MetricValue { return v.step; }},
      {"valid_loss", "nats", kEveryValidation, Repeats::kExactly,
       "mean cross entropy of the validation's tokens",
       [](const V& v) -> MetricValue { return v.loss; }},
      {"valid_loss_per_byte", "nats", "validations of data whose tokenizer is known", Repeats::kExactly,
       "`valid_loss` / mean bytes of text of a token: for runs with other tokenizers on the same text",
       [](const V& v) -> MetricValue {
         return v.bytes_per_token > 0 ? MetricValue(v.loss / v.bytes_per_token) : std::monostate{};
       }},
      {"valid_bits_per_byte", "bits", "validations of data whose tokenizer is known", Repeats::kExactly,
       "`valid_loss_per_byte` in bits",
       [](const V& v) -> MetricValue {
         if (v.bytes_per_token <= 0) return std::monostate{};
         return BitsPerByte(v.loss, v.bytes_per_token);
       }},
      {"valid_perplexity", "", kEveryValidation, Repeats::kExactly, "e to the power of `valid_loss`",
       [](const V& v) -> MetricValue { return std::exp(v.loss); }},
      {"valid_loss_by_source", "nats", kValidationsOfBlends, Repeats::kExactly,
       "`valid_loss` of each source of the blend, by its name in `data.valid` or `data.train`",
       [](const V& v) -> MetricValue {
         return IfAny(v.by_source);
       }},
      {"task_acc", "", kWithTasks, Repeats::kExactly,
       "share of items that a task of `train.eval_tasks` has right (`launcher/tasks/TASKS.md`), by its name",
       [](const V& v) -> MetricValue { return IfAny(v.task_acc); }},
      {"task_acc_norm", "", kWithTasks, Repeats::kExactly,
       "the same where likelihoods are taken per character of a choice",
       [](const V& v) -> MetricValue { return IfAny(v.task_acc_norm); }},
      {"task_perplexity", "", kWithTasks, Repeats::kExactly, "perplexity of LAMBADA's last words",
       [](const V& v) -> MetricValue { return IfAny(v.task_perplexity); }},
      {"lock_coverage_min", "", kFromFreeze, Repeats::kExactly,
       "least share of a layer's choices that went to the experts it owns",
       [](const V& v) -> MetricValue { return IfThere(v.coverage_min); }},
      {"guard_excess", "nats", kFromFreeze, Repeats::kExactly,
       "`valid_loss` above that of the freeze; too much of it ends the run (`moe.lock.guard_excess`)",
       [](const V& v) -> MetricValue { return IfThere(v.guard_excess); }},
  };
  return metrics;
}
// clang-format on

double StepOutcome::PoolLossOverBalance() const {
  const double at_balance = report.load.pool_loss_at_balance;
  return at_balance > 0 ? report.load.pool_loss / at_balance : std::numeric_limits<double>::quiet_NaN();
}

std::string StepLine(const StepOutcome& outcome) {
  return Line(ObjectOf(StepMetrics(), outcome));
}

std::string ValidationLine(const ValidationOutcome& outcome) {
  return Line(ObjectOf(ValidationMetrics(), outcome));
}

std::vector<Scalar> StepScalars(const StepOutcome& outcome) {
  return Scalars(ObjectOf(StepMetrics(), outcome));
}

std::vector<Scalar> ValidationScalars(const ValidationOutcome& outcome) {
  return Scalars(ObjectOf(ValidationMetrics(), outcome));
}

std::string MetricsTable() {
  std::string text =
      "| metric | unit | in | meaning |\n"
      "|---|---|---|---|\n";
  AddRows(StepMetrics(), text);
  AddRows(ValidationMetrics(), text);
  return text +
         "\n\\* measured: differs between equal runs. All others repeat bit for bit on the same layout.\n";
}

std::string MetricsJson() {
  Json list = Json::array();
  AddEntries(StepMetrics(), list);
  AddEntries(ValidationMetrics(), list);
  return list.dump() + "\n";
}

}  // namespace unipool
