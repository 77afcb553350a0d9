#include "launcher/traffic_report/exchange_lines.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace unipool {
namespace {

using Json = nlohmann::ordered_json;

Json OrNull(int64_t value, int64_t origin = 0) {
  return value < 0 ? Json() : Json(value - origin);
}

void WriteExpertLines(const ExpertRows& experts, const std::function<void(const std::string&)>& write) {
  for (int expert = 0; expert < experts.num_experts(); ++expert) {
    for (size_t i = 0; i < experts.layers.size(); ++i) {
      const Json line{{"first_step", experts.first},
                      {"last_step", experts.last},
                      {"expert", expert},
                      {"layer", experts.layers[i]},
                      {"ranks", experts.ranks[expert]},
                      {"rows", experts.rows[expert][i]},
                      {"to_mean", experts.Ratio(expert, i)}};
      write(line.dump() + "\n");
    }
  }
}

int64_t FirstStart(const JoinedTraffic& traffic) {
  int64_t first = INT64_MAX;
  for (const JoinedExchange& exchange : traffic.exchanges) {
    for (const ExchangePart& part : exchange.parts) {
      if (part.start >= 0) first = std::min(first, part.start);
    }
  }
  return first;
}

Json LineOf(const JoinedTraffic& traffic, const JoinedExchange& exchange, int p, int64_t origin) {
  const ExchangePart& part = exchange.parts[p];
  const ExchangeRecord& record = part.recorded->record;
  Json to = Json::array(), from = Json::array(), arrived = Json::array();
  for (const PeerBytes& peer : part.recorded->peers) {
    const int rank = traffic.WorldRank(exchange, peer.peer);
    if (peer.bytes_to > 0) to.push_back({rank, peer.bytes_to});
    if (peer.bytes_from > 0) from.push_back({rank, peer.bytes_from});
    if (peer.arrived_us >= 0) arrived.push_back({rank, peer.arrived_us});
  }
  const bool is_split = part.exposed >= 0;
  return {{"step", exchange.step},
          {"communicator", traffic.communicators[exchange.communicator].name},
          {"sequence", exchange.sequence},
          {"rank", traffic.WorldRank(exchange, p)},
          {"operation", traffic.operations[exchange.operation]},
          {"slot_time", OrNull(record.slot_time)},
          {"slot_index", OrNull(record.slot_index)},
          {"lane", record.lane == 0   ? Json("forward")
                   : record.lane == 1 ? Json("backward")
                                      : Json()},
          {"stage", OrNull(record.stage)},
          {"layer", OrNull(record.layer)},
          {"microbatch", OrNull(record.microbatch)},
          {"start_ns", OrNull(part.start, origin)},
          {"start_done_ns", OrNull(part.start_done, origin)},
          {"wait_enter_ns", OrNull(part.wait_enter, origin)},
          {"wait_leave_ns", OrNull(part.wait_leave, origin)},
          {"blocked_ns", part.blocked()},
          {"idle_ns", OrNull(part.idle)},
          {"idle_receiver_ns", OrNull(part.idle_receiver)},
          {"exposed_ns", OrNull(part.exposed)},
          {"stalled_ns", is_split ? Json(part.stalled) : Json()},
          {"hidden_ns", OrNull(part.hidden)},
          {"idle_uncertainty_ns", is_split ? Json(part.idle_uncertainty) : Json()},
          {"cause", OrNull(part.cause)},
          {"bytes_self", record.bytes_self},
          {"row_bytes", record.row_bytes},
          {"under_way", record.under_way},
          {"first_use", (record.head.flags & ExchangeRecord::kFirstUse) != 0},
          {"to", std::move(to)},
          {"from", std::move(from)},
          {"arrived_us", std::move(arrived)}};
}

}  // namespace

void WriteExchangeLines(const TrafficReport& report, const std::function<void(const std::string&)>& write) {
  const JoinedTraffic& traffic = report.traffic;
  const int64_t origin = FirstStart(traffic);
  for (const JoinedExchange& exchange : traffic.exchanges) {
    const std::string& operation = traffic.operations[exchange.operation];
    for (size_t p = 0; p < exchange.parts.size(); ++p) {
      const ExchangePart& part = exchange.parts[p];
      if (!part.recorded) continue;
      if (!report.options.filter.Takes(operation, exchange.lane, part.recorded->record.layer)) continue;
      write(LineOf(traffic, exchange, static_cast<int>(p), origin).dump() + "\n");
    }
  }
  if (report.options.filter.lane < 0 && report.options.filter.operation.empty())
    WriteExpertLines(report.experts, write);
}

}  // namespace unipool
