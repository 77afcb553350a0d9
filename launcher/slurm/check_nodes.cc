#include <gflags/gflags.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "kernels/gemm.h"
#include "launcher/commands.h"
#include "launcher/nearest_name.h"
#include "launcher/slurm/node_check.h"
#include "launcher/slurm/slurm_text.h"
#include "launcher/slurm/start_ledger.h"
#include "runtime/errors.h"
#include "runtime/world.h"

DECLARE_int32(spare_nodes);

namespace unipool {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr int64_t kGemmSize = 256, kMemoryBytes = int64_t{64} << 20, kExchangeBytes = int64_t{4} << 20;
constexpr int64_t kPieceBytes = int64_t{4} << 20;  // of a copy, timed by itself
constexpr int kTries = 5;
constexpr double kGemmSeconds = 1.5;
constexpr double kFactor = 3;  // between good nodes of a kind there is much less

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// The best of several tries: what else runs on a node makes some of them slow.
double GemmGflops() {
  const auto size = static_cast<size_t>(kGemmSize * kGemmSize);
  const std::vector<float> a(size, 0.5F), b(size, 0.25F);
  std::vector<float> c(size);
  double best = 1e9;
  for (const auto start = Clock::now(); SecondsSince(start) < kGemmSeconds;) {
    const auto begin = Clock::now();
    GemmStrided<float>(Trans::kNo, Trans::kNo, {kGemmSize, kGemmSize, kGemmSize}, 1, a.data(), kGemmSize,
                       b.data(), kGemmSize, 0, c.data(), kGemmSize);
    best = std::min(best, SecondsSince(begin));
  }
  return 2e-9 * static_cast<double>(kGemmSize * kGemmSize * kGemmSize) / best;
}

// Writes a pattern, copies it and reads the copy.
double MemoryGbps(std::string& fault) {
  std::vector<uint64_t> from(kMemoryBytes / 8), to(from.size());
  double best = 1e9;
  for (uint64_t round = 0; round < kTries; ++round) {
    for (size_t i = 0; i < from.size(); ++i) from[i] = (i + round) * 0x9e3779b97f4a7c15ULL;
    for (int64_t piece = 0; piece < kMemoryBytes; piece += kPieceBytes) {
      const auto begin = Clock::now();
      std::memcpy(to.data() + piece / 8, from.data() + piece / 8, kPieceBytes);
      best = std::min(best, SecondsSince(begin));
    }
    for (size_t i = 0; i < to.size(); ++i) {
      if (to[i] != (i + round) * 0x9e3779b97f4a7c15ULL) fault = "memory holds other values than were written";
    }
  }
  return 1e-9 * static_cast<double>(kPieceBytes) / best;
}

// The partner of `node` in a round of a tournament in which all meet once; -1: it rests. Rounds: n - 1, or
// n where n is odd.
int PartnerOf(int node, int round, int nodes) {
  const int places = nodes + nodes % 2, others = places - 1;
  int partner = 0;
  if (node == places - 1) {
    for (partner = 0; partner < others && 2 * partner % others != round; ++partner) {
    }
  } else {
    partner = ((round - node) % others + others) % others;
    if (partner == node) partner = places - 1;
  }
  return partner < nodes ? partner : -1;
}

// Seconds of an exchange with each node, by the first rank of each node.
std::vector<double> ExchangeSeconds(World& world, const std::vector<int>& first_ranks, int own_node) {
  const auto nodes = static_cast<int>(first_ranks.size());
  std::vector<double> seconds(nodes, 0);
  std::vector<char> out(kExchangeBytes, 1), in(kExchangeBytes);
  for (int round = 0; round < nodes - 1 + nodes % 2; ++round) {
    const int partner = own_node < 0 ? -1 : PartnerOf(own_node, round, nodes);
    for (int i = 0; i < kTries; ++i) {
      std::vector<SendBlock> send(world.size());
      std::vector<RecvBlock> receive(world.size());
      if (partner >= 0) {
        send[first_ranks[partner]] = {out.data(), kExchangeBytes};
        receive[first_ranks[partner]] = {in.data(), kExchangeBytes};
      }
      world.communicator->Barrier({.operation = "begin of a node test"});
      const auto begin = Clock::now();
      world.communicator->Exchange(send, receive, {.operation = "node test"});
      if (partner >= 0 && (i == 0 || SecondsSince(begin) < seconds[partner]))
        seconds[partner] = SecondsSince(begin);
    }
  }
  return seconds;
}

std::vector<NodeFigures> Measure(World& world) {
  std::vector<int> first_ranks;
  std::vector<std::string> hosts;
  int own_node = -1;
  for (int rank = 0; rank < world.size(); ++rank) {
    if (std::find(hosts.begin(), hosts.end(), world.hosts[rank]) != hosts.end()) continue;
    if (rank == world.rank()) own_node = static_cast<int>(hosts.size());
    hosts.push_back(world.hosts[rank]);
    first_ranks.push_back(rank);
  }
  std::string fault;
  Json own = {{"gemm", GemmGflops()}, {"memory", MemoryGbps(fault)}};
  own["fault"] = fault;
  own["exchange"] = ExchangeSeconds(world, first_ranks, own_node);
  const auto texts = world.communicator->AllGatherText(own.dump(), {.operation = "gather figures of nodes"});
  std::vector<NodeFigures> nodes(hosts.size());
  for (size_t i = 0; i < hosts.size(); ++i) {
    NodeFigures& node = nodes[i];
    node = {.host = hosts[i], .gemm_gflops = 1e30, .memory_gbps = 1e30};
    for (int rank = 0; rank < world.size(); ++rank) {
      if (world.hosts[rank] != hosts[i]) continue;
      const Json json = Json::parse(texts[rank]);
      node.gemm_gflops = std::min(node.gemm_gflops, json["gemm"].get<double>());
      node.memory_gbps = std::min(node.memory_gbps, json["memory"].get<double>());
      if (rank == first_ranks[i]) node.exchange_seconds = json["exchange"].get<std::vector<double>>();
      if (node.fault.empty()) node.fault = json["fault"].get<std::string>();
    }
  }
  return nodes;
}

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

void Tell(const std::vector<NodeFigures>& nodes) {
  for (const NodeFigures& node : nodes) {
    std::string times;
    for (const double seconds : node.exchange_seconds) {
      if (seconds > 0) times += Format(" %.3g", 1e3 * seconds);
    }
    std::printf("node %s: %.3g GFLOP/s and %.3g GB/s a rank, %d MiB with each other node in ms:%s\n",
                node.host.c_str(), node.gemm_gflops, node.memory_gbps, static_cast<int>(kExchangeBytes >> 20),
                times.c_str());
  }
}

}  // namespace

int CheckNodesCommand(const CommandLine& command_line) {
  const LedgerStart start{.job = Variable("SLURM_JOB_ID"),
                          .restart = std::atoi(Variable("SLURM_RESTART_COUNT").c_str()),
                          .nodes = Variable("SLURM_JOB_NODELIST")};
  return RunWorld(WorldOptions{}, [&](World& world) {
    const std::vector<NodeFigures> nodes = Measure(world);
    if (world.rank() == 0) Tell(nodes);
    const NodeChoice choice = ChooseNodes(nodes, FindSlowNodes(nodes, kFactor), FLAGS_spare_nodes);
    const bool notes = world.rank() == 0 && !start.job.empty();
    RunTogether(*world.communicator, [&] {
      if (!notes || (choice.is_enough && FLAGS_spare_nodes == 0)) return;
      if (!choice.is_enough)
        return NoteBadNodes(command_line.config_path, start,
                            {.nodes = choice.slow_hosts, .reason = choice.reason});
      NotePicked(command_line.config_path, start,
                 {.nodes = NodesOfHosts(start.nodes, choice.hosts),
                  .spare = NodesOfHosts(start.nodes, choice.spare_hosts),
                  .reason = choice.reason});
    });
    if (!choice.is_enough) throw UserError("the node test failed: " + choice.reason, kStuckExitCode);
    if (world.rank() == 0 && FLAGS_spare_nodes > 0)
      std::printf("spare, idle: %s%s\n", JoinNames(choice.spare_hosts).c_str(),
                  choice.reason.empty() ? "" : (" (" + choice.reason + ")").c_str());
  });
}

}  // namespace unipool
