// When blocks come through ports that they share, as on a switched network: each port carries so much each
// way, and its blocks get equal parts of what others leave them (max-min fairness). It knows nothing of the
// report.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace unipool {

// MB/s by rank; links [from][to], empty: as much as their ports carry.
struct SharedPorts {
  std::vector<double> out, in;
  std::vector<std::vector<double>> links = {};
};

class PortTimes {
 public:
  // bytes [from][to]; start_ns: when each rank begins. A block goes when both have begun.
  PortTimes(const SharedPorts& ports, const std::vector<std::vector<int64_t>>& bytes,
            const std::vector<int64_t>& start_ns)
      : ports_(ports), arrivals_(bytes.size(), std::vector<double>(bytes.size(), 0)) {
    for (size_t from = 0; from < bytes.size(); ++from) {
      for (size_t to = 0; to < bytes.size(); ++to) {
        if (from == to || bytes[from][to] == 0) continue;
        flows_.push_back({.from = from,
                          .to = to,
                          .left = static_cast<double>(bytes[from][to]),
                          .begin = static_cast<double>(std::max(start_ns[from], start_ns[to]))});
      }
    }
    double now = 0;
    while (Advance(now)) {
    }
  }
  // ns, [from][to]
  const std::vector<std::vector<double>>& arrivals() const { return arrivals_; }

 private:
  struct Flow {
    size_t from, to;
    double left, begin;
    double rate = 0;  // bytes/ns
    bool is_fixed = false;
  };

  // To the next begin or end of a block. False: all have come.
  bool Advance(double& now) {
    if (flows_.empty()) return false;
    double next = std::numeric_limits<double>::infinity();
    std::vector<Flow*> active;
    for (Flow& flow : flows_) {
      if (flow.begin <= now)
        active.push_back(&flow);
      else
        next = std::min(next, flow.begin);
    }
    ShareOut(active);
    for (const Flow* flow : active) next = std::min(next, now + flow->left / flow->rate);
    for (Flow* flow : active) flow->left -= flow->rate * (next - now);
    now = next;
    std::erase_if(flows_, [&](const Flow& flow) {
      if (flow.left > 1e-6) return false;
      arrivals_[flow.from][flow.to] = now;
      return true;
    });
    return true;
  }

  void ShareOut(const std::vector<Flow*>& active) const {
    std::vector<double> out = ports_.out, in = ports_.in;
    for (Flow* flow : active) flow->is_fixed = false;
    for (size_t left = active.size(); left > 0; --left) {
      std::vector<double> num_out(out.size(), 0), num_in(in.size(), 0);
      for (const Flow* flow : active) {
        if (flow->is_fixed) continue;
        ++num_out[flow->from];
        ++num_in[flow->to];
      }
      Flow* least = nullptr;
      double rate = 0;
      for (Flow* flow : active) {
        if (flow->is_fixed) continue;
        double own = std::min(out[flow->from] / num_out[flow->from], in[flow->to] / num_in[flow->to]);
        if (!ports_.links.empty()) own = std::min(own, ports_.links[flow->from][flow->to]);
        if (least && own >= rate) continue;
        least = flow;
        rate = own;
      }
      least->is_fixed = true;
      least->rate = std::max(1e-9, rate * 1e-3);
      out[least->from] -= rate;
      in[least->to] -= rate;
    }
  }

  const SharedPorts& ports_;
  std::vector<Flow> flows_;
  std::vector<std::vector<double>> arrivals_;
};

}  // namespace unipool
