#include "launcher/plan/wire_probe.h"

#include <algorithm>
#include <cmath>

#include "kernels/gemm.h"
#include "runtime/emulated_communicator.h"
#include "runtime/errors.h"
#include "runtime/stream.h"

namespace unipool {
namespace {

constexpr int kRepeats = 9;
constexpr int64_t kSmallBytes = 8, kLargeBytes = int64_t{4} << 20;
constexpr int64_t kBlocks[] = {int64_t{4} << 10, int64_t{64} << 10, int64_t{1} << 20};
constexpr double kLeastShare = 0.01;

struct Timed {
  double seconds = 0, spread = 0;
};

class WireProbe {
 public:
  WireProbe(const std::vector<int>& node_of_rank, World& world, const std::function<double()>& clock)
      : nodes_(node_of_rank),
        world_(world),
        clock_(clock),
        send_(kLargeBytes),
        receive_(static_cast<int64_t>(world.size()) * std::max(kLargeBytes / 4, kBlocks[2])) {
    receive_.resize(std::max<size_t>(receive_.size(), kLargeBytes));
  }

  using IsPeer = std::function<bool(int rank, int other)>;
  // Median time of the slowest rank of an exchange in which every rank sends so many bytes to each peer.
  Timed Exchange(const IsPeer& is_peer, int64_t bytes) {
    std::vector<double> seconds;
    for (int i = 0; i <= kRepeats; ++i) {
      world_.communicator->Barrier({.operation = "calibrate"});
      const double begin = clock_();
      world_.communicator->Wait(Start(is_peer, bytes));
      const double took = Largest(clock_() - begin);
      if (i > 0) seconds.push_back(took);  // the first makes connections
    }
    std::sort(seconds.begin(), seconds.end());
    const double median = seconds[seconds.size() / 2];
    return {.seconds = median,
            .spread = median > 0 ? (seconds[kRepeats * 8 / 10] - seconds[0]) / 2 / median : 0};
  }

  // One class of wires: pairs alone, then all with all of the class.
  WireConfig Measure(const IsPeer& is_partner, const IsPeer& is_peer, double& spread) {
    WireConfig wire;
    const Timed small = Exchange(is_partner, kSmallBytes), large = Exchange(is_partner, kLargeBytes);
    const double bytes_per_second =
        static_cast<double>(kLargeBytes - kSmallBytes) / std::max(1e-9, large.seconds - small.seconds);
    const double latency = std::max(0.0, small.seconds - kSmallBytes / bytes_per_second);
    wire.set_latency_us(1e6 * latency);
    wire.set_gigabytes_per_second(1e-9 * bytes_per_second);
    spread = std::max(small.spread, large.spread);
    const int peers = MostPeers(is_peer);
    if (peers < 2) return wire;
    for (const int64_t block : kBlocks) {
      const double seconds = Exchange(is_peer, block).seconds;
      const double ideal = peers * static_cast<double>(block) / bytes_per_second;
      ContentionConfig& entry = *wire.add_contention();
      entry.set_peers(peers);
      entry.set_kilobytes(1e-3 * static_cast<double>(block));
      entry.set_share(std::clamp(ideal / std::max(1e-12, seconds - latency), kLeastShare, 1.0));
    }
    return wire;
  }

  // A large exchange is left alone for twice the time that it takes, while ranks compute.
  double Overlap(const IsPeer& is_partner) {
    const double alone = Exchange(is_partner, kLargeBytes).seconds;
    std::vector<double> shares;
    for (int i = 0; i < kRepeats; ++i) {
      world_.communicator->Barrier({.operation = "calibrate"});
      const Communicator::Ticket ticket = Start(is_partner, kLargeBytes);
      ComputeFor(2 * alone);
      const double begin = clock_();
      world_.communicator->Wait(ticket);
      shares.push_back(std::clamp(1 - Largest(clock_() - begin) / alone, 0.0, 1.0));
    }
    std::sort(shares.begin(), shares.end());
    return shares[shares.size() / 2];
  }

 private:
  Communicator::Ticket Start(const IsPeer& is_peer, int64_t bytes) {
    std::vector<SendBlock> send(world_.size());
    std::vector<RecvBlock> receive(world_.size());
    int64_t at = 0;
    for (int other = 0; other < world_.size(); ++other) {
      if (other == world_.rank() || !is_peer(world_.rank(), other)) continue;
      send[other] = {send_.data(), bytes};
      receive[other] = {receive_.data() + at, bytes};
      at += bytes;
    }
    return world_.communicator->Start(send, receive, {.operation = "calibrate"});
  }
  double Largest(double value) {
    return world_.communicator->AllReduceMax(value, {.operation = "calibrate"});
  }
  int MostPeers(const IsPeer& is_peer) {
    int peers = 0;
    for (int other = 0; other < world_.size(); ++other)
      peers += other != world_.rank() && is_peer(world_.rank(), other);
    return static_cast<int>(Largest(peers));
  }
  void ComputeFor(double seconds) {
    if (world_.emulation) return world_.emulation->Work(seconds);
    constexpr int64_t kSize = 96;
    std::vector<float> numbers(3 * kSize * kSize, 0.5F);
    Stream stream(*world_.memory);
    const auto matrix = [&](int i) {
      return Tensor(numbers.data() + i * kSize * kSize, DType::kF32, {kSize, kSize});
    };
    for (const double begin = clock_(); clock_() - begin < seconds;)
      Gemm(stream, Trans::kNo, matrix(0), Trans::kNo, matrix(1), 0, matrix(2));
  }

  const std::vector<int>& nodes_;
  World& world_;
  const std::function<double()>& clock_;
  std::vector<char> send_, receive_;
};

}  // namespace

WiresMeasured MeasureWires(const std::vector<int>& node_of_rank, World& world,
                           const std::function<double()>& clock) {
  const int per_node =
      static_cast<int>(std::count(node_of_rank.begin(), node_of_rank.end(), node_of_rank[0]));
  const int num_nodes = world.size() / per_node;
  const auto is_near = [&](int rank, int other) { return node_of_rank[rank] == node_of_rank[other]; };
  // Ranks 2 i and 2 i + 1 of a node; the same ranks of nodes 2 i and 2 i + 1.
  const auto is_partner_near = [&](int rank, int other) {
    return is_near(rank, other) && (rank % per_node ^ 1) == other % per_node;
  };
  const auto is_partner_far = [&](int rank, int other) {
    return rank % per_node == other % per_node && (node_of_rank[rank] ^ 1) == node_of_rank[other];
  };
  const auto is_far = [&](int rank, int other) { return !is_near(rank, other); };
  WireProbe probe(node_of_rank, world, clock);
  WiresMeasured wires{.has_intra = per_node > 1, .has_inter = num_nodes > 1};
  if (wires.has_intra) wires.intra = probe.Measure(is_partner_near, is_near, wires.intra_spread);
  if (wires.has_inter) wires.inter = probe.Measure(is_partner_far, is_far, wires.inter_spread);
  if (wires.has_inter) {
    wires.overlap = probe.Overlap(is_partner_far);
  } else if (wires.has_intra) {
    wires.overlap = probe.Overlap(is_partner_near);
  }
  return wires;
}

}  // namespace unipool
