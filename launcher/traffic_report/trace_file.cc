#include "launcher/traffic_report/trace_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/errors.h"

namespace unipool {
namespace {

using Json = nlohmann::ordered_json;
enum Thread : int { kForward = 1, kBackward = 2, kOther = 3, kStart = 4, kWaits = 5, kWire = 6 };
constexpr std::pair<Thread, const char*> kThreads[] = {{kForward, "compute, forward lane"},
                                                       {kBackward, "compute, backward lane"},
                                                       {kOther, "compute, no lane"},
                                                       {kStart, "start of exchanges"},
                                                       {kWaits, "waits"},
                                                       {kWire, "wire"}};

int ComputeThread(int lane) {
  return lane == 0 ? kForward : lane == 1 ? kBackward : kOther;
}

class TraceWriter {
 public:
  TraceWriter(const TrafficReport& report, const std::vector<int64_t>& steps)
      : report_(report), traffic_(report.traffic), steps_(steps) {
    for (const JoinedStep& step : traffic_.steps) {
      if (!Wanted(step.step)) continue;
      const int64_t begin = *std::min_element(step.begin.begin(), step.begin.end());
      if (begin < 0)
        throw UserError("--trace: times of ranks are not known: clocks of their hosts were never compared");
      origin_ = std::min(origin_, begin);
    }
    if (origin_ == INT64_MAX)
      throw UserError("--trace: no step of this choice is recorded with traffic.record=FULL");
    text_ = "{\"displayTimeUnit\":\"ms\",\"metadata\":" + Metadata().dump() + ",\"traceEvents\":[\n";
    AddNames();
    for (const JoinedStep& step : traffic_.steps) {
      if (Wanted(step.step)) AddStep(step);
    }
    for (const JoinedExchange& exchange : traffic_.exchanges) {
      if (Wanted(exchange.step)) AddExchange(exchange);
    }
    AddBytesUnderWay();
    text_ += "\n]}\n";
  }
  std::string& text() { return text_; }

 private:
  bool Wanted(int64_t step) const { return std::find(steps_.begin(), steps_.end(), step) != steps_.end(); }
  double Us(int64_t ns) const { return static_cast<double>(ns - origin_) / 1000; }

  Json Metadata() const {
    const RecordedManifest& manifest = report_.run.manifest;
    return {
        {"run", report_.run.run_dir},
        {"run_id", manifest.run_id},
        {"program_version", manifest.program_version},
        {"steps", steps_},
        {"clocks", report_.clocks->num_clocks()},
        {"clock_alignment", manifest.clock == "virtual"         ? "virtual time"
                            : report_.clocks->num_clocks() == 1 ? "one clock"
                                                                : "offset and drift from compared clocks"},
        {"idle_uncertainty_us_a_step", report_.figures.idle_uncertainty / 1000},
        {"causality_violations", report_.evidence.causality.num_violations}};
  }

  void Add(const Json& event) {
    if (++num_events_ > kMostTraceEvents || static_cast<int64_t>(text_.size()) > kMostTraceBytes) {
      throw UserError(
          Format("--trace: more than %d events or %d MB in %d steps of %d ranks, which viewers do not open: "
                 "choose fewer --steps, one --layer, --lane or --operation",
                 kMostTraceEvents, kMostTraceBytes / 1000000, steps_.size(), report_.run.manifest.world));
    }
    text_ += (num_events_ == 1 ? "" : ",\n") + event.dump();
  }

  void AddNames() {
    const RecordedManifest& manifest = report_.run.manifest;
    for (int rank = 0; rank < manifest.world; ++rank) {
      const std::string name = Format("rank %d (node %d)", rank, manifest.node_of_rank[rank]);
      Add({{"ph", "M"}, {"name", "process_name"}, {"pid", rank}, {"tid", 0}, {"args", {{"name", name}}}});
      Add({{"ph", "M"},
           {"name", "process_sort_index"},
           {"pid", rank},
           {"tid", 0},
           {"args", {{"sort_index", rank}}}});
      for (const auto& [thread, thread_name] : kThreads) {
        Add({{"ph", "M"},
             {"name", "thread_name"},
             {"pid", rank},
             {"tid", thread},
             {"args", {{"name", thread_name}}}});
        Add({{"ph", "M"},
             {"name", "thread_sort_index"},
             {"pid", rank},
             {"tid", thread},
             {"args", {{"sort_index", static_cast<int>(thread)}}}});
      }
    }
  }

  void AddSlice(int rank, int thread, const std::string& name, int64_t begin, int64_t end, Json arguments) {
    if (end <= begin) return;
    Add({{"ph", "X"},
         {"name", name},
         {"cat", "step"},
         {"pid", rank},
         {"tid", thread},
         {"ts", Us(begin)},
         {"dur", static_cast<double>(end - begin) / 1000},
         {"args", std::move(arguments)}});
  }

  void AddStep(const JoinedStep& step) {
    for (int rank = 0; rank < report_.run.manifest.world; ++rank) {
      for (const ComputeRange& range : ComputeRanges(traffic_, step, rank)) {
        if (report_.options.filter.lane >= 0 && report_.options.filter.lane != range.lane) continue;
        if (report_.options.filter.layer >= 0 && report_.options.filter.layer != range.layer) continue;
        std::string name = "compute";
        if (range.layer >= 0) name += Format(", layer %d", range.layer);
        AddSlice(rank, ComputeThread(range.lane), name, range.begin, range.end,
                 {{"step", step.step}, {"microbatch", range.microbatch}});
      }
    }
  }

  void AddExchange(const JoinedExchange& exchange) {
    const std::string& operation = traffic_.operations[exchange.operation];
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      if (!part.recorded || part.start < 0 || part.wait_leave < 0) continue;
      const ExchangeRecord& record = part.recorded->record;
      if (!report_.options.filter.Takes(operation, exchange.lane, record.layer)) continue;
      AddPart(exchange, part, traffic_.WorldRank(exchange, static_cast<int>(p)), operation);
    }
  }

  void AddPart(const JoinedExchange& exchange, const ExchangePart& part, int rank,
               const std::string& operation) {
    const ExchangeRecord& record = part.recorded->record;
    const int64_t bytes = BytesOnWire(part);
    const Json arguments = {{"step", exchange.step},
                            {"sequence", exchange.sequence},
                            {"layer", record.layer},
                            {"microbatch", record.microbatch},
                            {"lane", record.lane},
                            {"bytes", bytes},
                            {"idle_us", static_cast<double>(part.idle) / 1000},
                            {"exposed_us", static_cast<double>(part.exposed) / 1000}};
    std::string name = operation;
    if (record.layer >= 0) name += Format(", layer %d", record.layer);
    AddSlice(rank, kStart, name, part.start, std::max(part.start_done, part.start + 1), arguments);
    if (bytes > 0) {
      const std::string id = Format("%d", ++num_wires_);
      for (const bool is_begin : {true, false}) {
        Add({{"ph", is_begin ? "b" : "e"},
             {"cat", "wire"},
             {"name", name},
             {"id", id},
             {"pid", rank},
             {"tid", static_cast<int>(kWire)},
             {"ts", Us(is_begin ? part.start : part.wait_leave)},
             {"args", is_begin ? arguments : Json::object()}});
      }
      changes_.push_back({part.start, rank, bytes});
      changes_.push_back({part.wait_leave, rank, -bytes});
    }
    if (part.exposed < 0) {
      AddSlice(rank, kWaits, "blocked: " + name, part.wait_enter, part.wait_leave, arguments);
      return;
    }
    const int64_t after_idle = part.wait_enter + part.idle, after = after_idle + part.idle_receiver;
    const std::string late = part.cause < 0 ? "" : Format(" for rank %d", part.cause);
    AddSlice(rank, kWaits, "idle" + late + ": " + name, part.wait_enter, after_idle, arguments);
    AddSlice(rank, kWaits, "idle (receiver)" + late + ": " + name, after_idle, after, arguments);
    AddSlice(rank, kWaits, (part.stalled * 2 > part.exposed ? "stalled: " : "exposed: ") + name, after,
             part.wait_leave, arguments);
    if (part.cause >= 0 && after > part.wait_enter) AddArrow(exchange, part, rank, after);
  }

  // From the Start of the rank that was late to the end of the idle time.
  void AddArrow(const JoinedExchange& exchange, const ExchangePart& part, int rank, int64_t idle_end) {
    for (size_t q = 0; q < exchange.parts.size(); ++q) {
      const ExchangePart& late = exchange.parts[q];
      if (traffic_.WorldRank(exchange, static_cast<int>(q)) != part.cause || late.start < 0 || !late.recorded)
        continue;
      if (!report_.options.filter.Takes(traffic_.operations[exchange.operation], exchange.lane,
                                        late.recorded->record.layer))
        continue;
      const std::string id = Format("%d", ++num_arrows_);
      // Inside the slices that they belong to.
      const int64_t from = late.start,
                    to = std::max(part.wait_enter, std::min(idle_end - 1, part.wait_leave));
      Add({{"ph", "s"},
           {"cat", "late"},
           {"name", "late"},
           {"id", id},
           {"pid", part.cause},
           {"tid", static_cast<int>(kStart)},
           {"ts", Us(from)}});
      Add({{"ph", "f"},
           {"bp", "e"},
           {"cat", "late"},
           {"name", "late"},
           {"id", id},
           {"pid", rank},
           {"tid", static_cast<int>(kWaits)},
           {"ts", Us(std::max(to, from))}});
    }
  }

  void AddBytesUnderWay() {
    std::sort(changes_.begin(), changes_.end(), [](const Change& a, const Change& b) {
      return std::tie(a.rank, a.ns, a.bytes) < std::tie(b.rank, b.ns, b.bytes);
    });
    int64_t under_way = 0;
    for (size_t i = 0; i < changes_.size(); ++i) {
      if (i == 0 || changes_[i].rank != changes_[i - 1].rank) under_way = 0;
      under_way += changes_[i].bytes;
      if (i + 1 < changes_.size() && changes_[i + 1].rank == changes_[i].rank &&
          changes_[i + 1].ns == changes_[i].ns)
        continue;
      Add({{"ph", "C"},
           {"name", "bytes under way"},
           {"pid", changes_[i].rank},
           {"ts", Us(changes_[i].ns)},
           {"args", {{"bytes", std::max<int64_t>(0, under_way)}}}});
    }
  }

  struct Change {
    int64_t ns = 0;
    int rank = 0;
    int64_t bytes = 0;
  };
  const TrafficReport& report_;
  const JoinedTraffic& traffic_;
  const std::vector<int64_t>& steps_;
  std::string text_;
  std::vector<Change> changes_;
  int64_t origin_ = INT64_MAX, num_events_ = 0, num_wires_ = 0, num_arrows_ = 0;
};

}  // namespace

std::string TraceText(const TrafficReport& report, const std::vector<int64_t>& steps) {
  return std::move(TraceWriter(report, steps).text());
}

int64_t MedianStep(const TrafficReport& report) {
  if (!report.HasRecords()) return -1;
  std::vector<StepFigures> steps = report.figures.steps;
  if (steps.empty()) return -1;
  std::sort(steps.begin(), steps.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  return steps[(steps.size() - 1) / 2].first;
}

std::vector<ComputeRange> ComputeRanges(const JoinedTraffic& traffic, const JoinedStep& step, int rank) {
  struct Call {
    int64_t begin = 0, end = 0;
    const ExchangeRecord* record = nullptr;
  };
  std::vector<Call> calls;
  for (const JoinedExchange& exchange : traffic.exchanges) {
    if (exchange.step != step.step) continue;
    const std::vector<int>& members = traffic.communicators[exchange.communicator].members;
    const auto member = std::find(members.begin(), members.end(), rank);
    if (member == members.end()) continue;
    const ExchangePart& part = exchange.parts[member - members.begin()];
    if (!part.recorded || part.start < 0) continue;
    calls.push_back({part.start, part.start_done, &part.recorded->record});
    if (part.wait_enter >= 0) calls.push_back({part.wait_enter, part.wait_leave, &part.recorded->record});
  }
  std::sort(calls.begin(), calls.end(), [](const Call& a, const Call& b) { return a.begin < b.begin; });
  std::vector<ComputeRange> ranges;
  int64_t now = step.begin[rank];
  for (const Call& call : calls) {
    if (call.begin > now)
      ranges.push_back({now, call.begin, call.record->lane, call.record->layer, call.record->microbatch});
    now = std::max(now, call.end);
  }
  if (step.end[rank] > now) ranges.push_back({now, step.end[rank]});
  return ranges;
}

}  // namespace unipool
