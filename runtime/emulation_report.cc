#include "runtime/emulation_report.h"

#include <sstream>

#include "runtime/errors.h"

namespace unipool {
namespace {

void Pack(std::ostream& out, const EmulatedCost& c) {
  out << c.idle_seconds << ' ' << c.exposed_seconds << ' ' << c.hidden_seconds << ' ' << c.bytes_sent << ' '
      << c.num_exchanges << '\n';
}
void Unpack(std::istream& in, EmulatedCost& c) {
  in >> c.idle_seconds >> c.exposed_seconds >> c.hidden_seconds >> c.bytes_sent >> c.num_exchanges;
  std::string end_of_line;
  std::getline(in, end_of_line);
}

std::string Pack(const EmulationReport& report) {
  std::ostringstream out;
  out.precision(17);
  out << report.virtual_seconds << ' ' << report.compute_seconds << '\n';
  Pack(out, report.total);
  for (const auto& [operation, cost] : report.operations) {
    out << operation << '\n';
    Pack(out, cost);
  }
  return out.str();
}

EmulationReport Unpack(const std::string& text) {
  std::istringstream in(text);
  EmulationReport report;
  in >> report.virtual_seconds >> report.compute_seconds;
  Unpack(in, report.total);
  for (std::string operation; std::getline(in, operation);) {
    Unpack(in, report.operations.emplace_back(operation, EmulatedCost{}).second);
  }
  return report;
}

std::string CostCells(const EmulatedCost& cost, double divisor) {
  const bool has_wire = cost.hidden_seconds + cost.exposed_seconds > 0;
  return Format(" %10.3f %10.3f %10.3f %9s %10.3f", 1e3 * cost.idle_seconds / divisor,
                1e3 * cost.exposed_seconds / divisor, 1e3 * cost.hidden_seconds / divisor,
                has_wire ? Format("%.1f", 100 * cost.HiddenShare()).c_str() : "-",
                cost.bytes_sent / 1e6 / divisor);
}
constexpr const char* kCostHeads = "    idle ms exposed ms  hidden ms  hidden %    MB sent";

}  // namespace

void EmulatedCost::Add(const EmulatedCost& other) {
  idle_seconds += other.idle_seconds;
  exposed_seconds += other.exposed_seconds;
  hidden_seconds += other.hidden_seconds;
  bytes_sent += other.bytes_sent;
  num_exchanges += other.num_exchanges;
}

void EmulationReport::Add(const EmulationReport& other) {
  virtual_seconds += other.virtual_seconds;
  compute_seconds += other.compute_seconds;
  total.Add(other.total);
  for (const auto& [operation, cost] : other.operations) {
    size_t i = 0;
    while (i < operations.size() && operations[i].first != operation) ++i;
    if (i == operations.size()) operations.emplace_back(operation, EmulatedCost{});
    operations[i].second.Add(cost);
  }
}

double EmulatedCost::HiddenShare() const {
  const double wire = hidden_seconds + exposed_seconds;
  return wire > 0 ? hidden_seconds / wire : 1;
}

std::vector<EmulationReport> GatherReports(Communicator& communicator, const EmulationReport& own) {
  std::vector<EmulationReport> reports;
  for (const std::string& text : communicator.AllGatherText(Pack(own), {.operation = "gather reports"})) {
    reports.push_back(Unpack(text));
  }
  return reports;
}

std::string RankTable(std::span<const EmulationReport> ranks, double num_steps) {
  std::string text = Format("%5s %10s %10s%s\n", "rank", "virtual ms", "compute ms", kCostHeads);
  for (size_t r = 0; r < ranks.size(); ++r) {
    text += Format("%5d %10.3f %10.3f%s\n", r, 1e3 * ranks[r].virtual_seconds / num_steps,
                   1e3 * ranks[r].compute_seconds / num_steps, CostCells(ranks[r].total, num_steps).c_str());
  }
  return text;
}

std::string OperationTable(std::span<const EmulationReport> ranks, double num_steps) {
  EmulationReport sum;
  for (const EmulationReport& report : ranks) sum.Add(report);
  const double divisor = num_steps * static_cast<double>(ranks.size());
  std::string text = Format("%-32s%s\n", "operation, mean of ranks", kCostHeads);
  for (const auto& [operation, cost] : sum.operations) {
    if (cost.num_exchanges == 0) continue;
    text += Format("%-32s%s\n", operation.c_str(), CostCells(cost, divisor).c_str());
  }
  return text;
}

}  // namespace unipool
