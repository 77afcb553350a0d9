#include "launcher/traffic_report/port_times.h"

#include <algorithm>
#include <limits>

namespace unipool {
namespace {

// One way of a port.
struct Way {
  double left = 1;  // of what it carries
  int blocks = 0;   // that have no rate yet
  double Share() const { return blocks > 0 ? left / blocks : std::numeric_limits<double>::infinity(); }
};

class Sharing {
 public:
  Sharing(const std::vector<PortBlock>& blocks, int num_ports)
      : blocks_(blocks), num_ports_(num_ports), ends_(blocks.size(), 0), rates_(blocks.size(), 0) {
    for (size_t i = 0; i < blocks.size(); ++i) {
      left_.push_back(blocks[i].bytes);
      waiting_.push_back(i);
    }
    std::sort(waiting_.begin(), waiting_.end(),
              [&](size_t a, size_t b) { return blocks[a].begin > blocks[b].begin; });  // the first one last
    while (!waiting_.empty() || !active_.empty()) Advance();
  }
  const std::vector<double>& ends() const { return ends_; }

 private:
  // To the next begin or end of a block.
  void Advance() {
    if (active_.empty()) now_ = std::max(now_, blocks_[waiting_.back()].begin);
    while (!waiting_.empty() && blocks_[waiting_.back()].begin <= now_) {
      active_.push_back(waiting_.back());
      waiting_.pop_back();
    }
    ShareOut();
    double next = waiting_.empty() ? std::numeric_limits<double>::infinity() : blocks_[waiting_.back()].begin;
    for (const size_t i : active_) next = std::min(next, now_ + left_[i] / rates_[i]);
    for (const size_t i : active_) left_[i] -= rates_[i] * (next - now_);
    now_ = next;
    std::erase_if(active_, [&](size_t i) {
      if (left_[i] > 1e-6 * blocks_[i].bytes) return false;
      ends_[i] = now_;
      return true;
    });
  }

  void ShareOut() {
    std::vector<Way> out(num_ports_), in(num_ports_);
    for (const size_t i : active_) {
      ++out[blocks_[i].from].blocks;
      ++in[blocks_[i].to].blocks;
    }
    std::vector<size_t> open = active_;
    while (!open.empty()) {
      double least = std::numeric_limits<double>::infinity();
      for (const auto* ways : {&out, &in}) {
        for (const Way& way : *ways) least = std::min(least, way.Share());
      }
      std::vector<size_t> fixed;  // those of the narrowest ports
      std::erase_if(open, [&](size_t i) {
        const double share = std::min(out[blocks_[i].from].Share(), in[blocks_[i].to].Share());
        if (share > least * (1 + 1e-9)) return false;
        fixed.push_back(i);
        return true;
      });
      for (const size_t i : fixed) {
        rates_[i] = std::max(1e-9, least);
        for (Way* way : {&out[blocks_[i].from], &in[blocks_[i].to]}) {
          way->left = std::max(0.0, way->left - least);
          --way->blocks;
        }
      }
    }
  }

  const std::vector<PortBlock>& blocks_;
  const int num_ports_;
  std::vector<double> ends_, rates_, left_;
  std::vector<size_t> waiting_, active_;
  double now_ = 0;
};

}  // namespace

std::vector<double> PortTimes(const std::vector<PortBlock>& blocks, int num_ports) {
  return Sharing(blocks, num_ports).ends();
}

}  // namespace unipool
