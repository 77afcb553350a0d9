#include "launcher/traffic_report/report_comparison.h"

#include <algorithm>
#include <set>

#include "launcher/reports/shown_width.h"
#include "launcher/traffic_report/report_text.h"
#include "runtime/format.h"

namespace unipool {
namespace {

constexpr size_t kMostCells = 12;

template <class Value>
std::vector<double> OfSteps(const TrafficReport& report, Value value) {
  std::vector<double> values;
  for (const StepFigures& step : report.figures.steps) values.push_back(value(step));
  return values;
}

template <class Value>
ComparedNumber Compared(const std::string& name, const TrafficReport& own, const TrafficReport& other,
                        Value value) {
  ComparedNumber number{.name = name, .unit = "ms"};
  const std::vector<double> a = OfSteps(other, value), b = OfSteps(own, value);
  number.other = Quantile(a, 0.5) * 1e-6;
  number.own = Quantile(b, 0.5) * 1e-6;
  number.noise = a.size() < 2 || b.size() < 2 ? kUnknown : 0;
  for (const auto* values : {&a, &b}) {
    if (IsKnown(number.noise))
      number.noise = std::max(number.noise, 0.5e-6 * (Quantile(*values, 0.75) - Quantile(*values, 0.25)));
  }
  return number;
}

ComparedNumber Volume(const std::string& name, const TrafficReport& own, const TrafficReport& other,
                      double (*value)(const RankFigures&)) {
  ComparedNumber number{.name = name, .unit = "MB"};
  for (const RankFigures& rank : own.figures.ranks) number.own += value(rank) / 1e6;
  for (const RankFigures& rank : other.figures.ranks) number.other += value(rank) / 1e6;
  return number;
}

std::string NameOf(const CellKey& key) {
  const auto& [communicator, operation, lane, layer] = key;
  std::string name = operation;
  if (lane >= 0) name += std::string(", ") + LaneName(lane);
  return layer < 0 ? name : name + Format(", layer %d", layer);
}

std::vector<ComparedNumber> Cells(const TrafficReport& own, const TrafficReport& other) {
  std::map<std::string, ComparedNumber> cells;  // communicators of one operation together
  for (const auto& [key, cell] : own.figures.cells) cells[NameOf(key)].own += cell.waits.blocked * 1e-6;
  for (const auto& [key, cell] : other.figures.cells) cells[NameOf(key)].other += cell.waits.blocked * 1e-6;
  std::vector<ComparedNumber> list;
  for (auto& [name, number] : cells) {
    number.name = name;
    number.unit = "ms";
    number.noise = kUnknown;
    list.push_back(number);
  }
  std::stable_sort(list.begin(), list.end(), [](const ComparedNumber& a, const ComparedNumber& b) {
    return std::abs(a.own - a.other) > std::abs(b.own - b.other);
  });
  if (list.size() > kMostCells) list.resize(kMostCells);
  return list;
}

std::vector<std::string> Columns(const ComparedNumber& number) {
  const double difference = number.own - number.other;
  std::vector<std::string> columns = {number.name, IsKnown(number.other) ? Format("%.3f", number.other) : "-",
                                      IsKnown(number.own) ? Format("%.3f", number.own) : "-"};
  columns.push_back(IsKnown(difference) ? Format("%+.3f", difference) : "-");
  columns.push_back(
      IsKnown(difference) && number.other > 0 ? Format("%+.1f %%", 100 * difference / number.other) : "-");
  columns.push_back(IsKnown(number.noise) ? Format("%.3f", number.noise) : "-");
  columns.push_back(number.IsNoise() && IsKnown(difference) ? "noise" : "");
  return columns;
}

// Where no number has noise, names have its columns.
std::string Lines(const std::vector<ComparedNumber>& numbers, const std::string& title) {
  const bool has_noise = std::any_of(numbers.begin(), numbers.end(),
                                     [](const ComparedNumber& number) { return IsKnown(number.noise); });
  const size_t width = has_noise ? 30 : 38;
  const auto line = [&](const std::vector<std::string>& columns, const char* mark) {
    std::string text = FirstColumns(columns[0], width);
    text.resize(std::max(text.size(), width), ' ');
    text += Format(" %9s %9s %9s %8s", columns[1], columns[2], columns[3], columns[4]);
    if (has_noise) text += Format(" %7s%s", columns[5], mark);
    return text + "\n";
  };
  std::string text = line({title, "other", "this", "change", "", "+-"}, "");
  for (const ComparedNumber& number : numbers) text += line(Columns(number), number.IsNoise() ? " ~" : "");
  return text;
}

}  // namespace

TrafficComparison CompareTraffic(const TrafficReport& own, const TrafficReport& other) {
  TrafficComparison comparison{.own = own.run.run_dir, .other = other.run.run_dir};
  using S = const StepFigures&;
  const bool split = own.figures.is_split && other.figures.is_split;
  const auto add = [&](const std::string& name, auto value) {
    comparison.numbers.push_back(Compared(name, own, other, value));
  };
  add("step", [](S s) { return s.step; });
  add("not blocked", [](S s) { return s.step - s.waits.blocked; });
  add("blocked", [](S s) { return s.waits.blocked; });
  if (split) {
    add("idle (late senders)", [](S s) { return s.waits.idle; });
    add("idle (late receivers)", [](S s) { return s.waits.idle_receiver; });
    add("exposed", [](S s) { return s.waits.exposed; });
    add("of it stalled", [](S s) { return s.waits.stalled; });
    add("hidden", [](S s) { return s.waits.hidden; });
  }
  const RecordedManifest &a = own.run.manifest, &b = other.run.manifest;
  const auto differ = [&](const char* what, const std::string& mine, const std::string& others) {
    if (mine != others)
      comparison.differences.push_back(Format("%s: %s in this, %s in the other", what, mine, others));
  };
  differ("ranks", Format("%d", a.world), Format("%d", b.world));
  differ("stages", Format("%d", a.stages), Format("%d", b.stages));
  differ("carrier", a.carrier, b.carrier);
  differ("layers, experts, top-k", Format("%d, %d, %d", a.layers, a.experts, a.top_k),
         Format("%d, %d, %d", b.layers, b.experts, b.top_k));
  differ("tokens of a microbatch", Format("%d", a.tokens_per_microbatch),
         Format("%d", b.tokens_per_microbatch));
  differ("microbatches", Format("%d", a.microbatches), Format("%d", b.microbatches));
  differ("bytes of a row", Format("%d", a.row_bytes), Format("%d", b.row_bytes));
  using R = const RankFigures&;
  comparison.numbers.push_back(
      Volume("MB to other ranks, all ranks", own, other, [](R r) { return r.volume.Wire(); }));
  comparison.numbers.push_back(Volume("MB between nodes", own, other, [](R r) { return r.volume.inter; }));
  comparison.cells = Cells(own, other);
  return comparison;
}

std::string TrafficComparisonText(const TrafficComparison& comparison) {
  std::string differences;
  for (const std::string& difference : comparison.differences)
    differences += "these are unlike runs in " + difference + "\n";
  return "this:  " + comparison.own + "\nother: " + comparison.other + "\n" + differences + "\n" +
         Lines(comparison.numbers, "a step, ms: medians") + "\n" +
         Lines(comparison.cells, "blocked, ms a step, mean of ranks") +
         "\n~: no larger than what steps of one run differ by\n"
         "A step takes as long as its slowest rank; what ranks wait for is the mean of ranks, and \"not "
         "blocked\"\n"
         "the difference. The report of one run shows means over steps instead of medians.\n";
}

HtmlScreen ComparisonScreen(const TrafficComparison& comparison) {
  const auto table_of = [](const std::vector<ComparedNumber>& numbers, const std::string& title) {
    HtmlTable table{.head = {title, "other", "this", "change", "", "+-", ""}, .rows = {}};
    for (const ComparedNumber& number : numbers) table.rows.push_back(Columns(number));
    return TableHtml(table);
  };
  std::string unlike;
  for (const std::string& difference : comparison.differences)
    unlike += "<p>These are unlike runs in " + MarkupText(difference) + ".</p>\n";
  return {"compare", "Compared",
          "<p>This is " + MarkupText(comparison.own) + ", the other " + MarkupText(comparison.other) +
              ". noise: no larger than what steps of one run differ by. Times are medians over steps; a step "
              "takes "
              "as long as its slowest rank, waits are means of ranks, and \"not blocked\" is the "
              "difference.</p>\n" +
              unlike + table_of(comparison.numbers, "a step, ms: medians") +
              table_of(comparison.cells, "blocked, ms a step")};
}

}  // namespace unipool
