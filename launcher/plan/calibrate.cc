#include <gflags/gflags.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <chrono>
#include <ctime>

#include "launcher/cluster.h"
#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/plan/forecast.h"
#include "launcher/plan/shared_cores.h"
#include "launcher/plan/wire_probe.h"
#include "launcher/plan/work_probe.h"
#include "launcher/reports/own_file.h"
#include "launcher/standard_output.h"
#include "launcher/start_check.h"
#include "launcher/version.h"
#include "launcher/world_options.h"
#include "models/settings.h"
#include "runtime/emulated_communicator.h"
#include "runtime/host_cores.h"

DEFINE_string(cluster_out, "", "calibrate: file for the description; default: the standard output");
DEFINE_double(seconds, 60, "calibrate: no larger microbatch is begun after so many seconds");

namespace unipool {
namespace {

const OwnFile kDescription{"cluster that calibrate measured", [](std::string_view begin) {
                             return begin.starts_with("# Measured by `unipool calibrate`");
                           }};

constexpr double kMostNoise = 0.99;  // of ranks that wait for a core steps may lie further apart

std::string Today() {
  const std::time_t now = std::time(nullptr);
  char text[32] = "";
  std::strftime(text, sizeof(text), "%Y-%m-%d", std::gmtime(&now));
  return text;
}

// As many consecutive ranks on each node, which a description can say.
void CheckNodes(const std::vector<int>& nodes) {
  const int per_node = static_cast<int>(std::count(nodes.begin(), nodes.end(), 0));
  for (size_t rank = 0; rank < nodes.size(); ++rank) {
    if (nodes[rank] == static_cast<int>(rank) / per_node) continue;
    throw UserError(
        Format("ranks: rank %d is on node %d; a description needs %d consecutive ranks on every node, as "
               "on the first: start as many on each",
               rank, nodes[rank], per_node));
  }
}

void AddOrigin(ClusterConfig& cluster, const char* field, const std::string& source, double spread) {
  OriginConfig& origin = *cluster.add_origin();
  origin.set_field(field);
  origin.set_tag(Tag::MEASURED);
  origin.set_source(source);
  origin.set_date(Today());
  if (spread > 0) origin.set_spread(spread);
}

ClusterConfig Describe(const Config& config, const std::vector<int>& nodes, const WiresMeasured& wires,
                       const WorkMeasured& work, double cores_per_node, const std::string& source) {
  ClusterConfig cluster;
  const int per_node = static_cast<int>(std::count(nodes.begin(), nodes.end(), 0));
  if (nodes.back() > 0) {
    cluster.set_ranks_per_node(per_node);
    AddOrigin(cluster, "ranks_per_node", source, 0);
  }
  if (wires.has_intra) {
    *cluster.mutable_intra_node() = wires.intra;
    AddOrigin(cluster, "intra_node", source, wires.intra_spread);
  }
  if (wires.has_inter) {
    *cluster.mutable_inter_node() = wires.inter;
    AddOrigin(cluster, "inter_node", source, wires.inter_spread);
  }
  if (wires.has_intra || wires.has_inter) {
    cluster.set_overlap(wires.overlap);
    AddOrigin(cluster, "overlap", source, 0);
  }
  ProcessorConfig& processor = *cluster.mutable_processor();
  for (const WorkConfig& entry : work.work) *processor.add_work() = entry;
  processor.set_hidden(config.model().hidden());
  processor.set_width(config.moe().width());
  processor.set_measured_with(ComputesWith(config));
  AddOrigin(cluster, "processor", source, work.spread);
  if (work.fixed_gigabytes > 0) {
    cluster.mutable_memory()->set_slack(work.memory_slack);
    cluster.mutable_memory()->set_fixed_gigabytes(work.fixed_gigabytes);
    AddOrigin(cluster, "memory", source, 0);
  }
  if (cores_per_node > 0) {
    cluster.set_cores_per_node(cores_per_node);
    AddOrigin(cluster, "cores_per_node", source, 0);
    processor.set_ranks_at_once(per_node);
  }
  cluster.set_noise(std::min(work.noise, kMostNoise));
  AddOrigin(cluster, "noise", source, 0);
  return cluster;
}

std::string TextOf(const ClusterConfig& cluster, int ranks, const std::string& source) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(cluster, &text);
  const std::string shared = SharedCoresText(cluster, ranks);
  return "# Measured by `unipool calibrate` on " + Today() + ": " + source + ".\n" +
         (shared.empty() ? "" : "# Not planned for: " + shared + ".\n") + text;
}

// 0 where shared cores do not matter: an emulated rank has a clock of its own, and one with a GPU works
// there.
double MeasuredCores(const Config& config, const std::vector<int>& nodes, World& world) {
  const std::vector<std::string> machines =
      world.communicator->AllGatherText(MachineOf(world.hosts[world.rank()]), {.operation = "calibrate"});
  const std::vector<std::string> cores =
      world.communicator->AllGatherText(AllowedCores(), {.operation = "calibrate"});
  if (world.emulation || config.device() == DeviceType::CUDA) return 0;
  std::vector<CoreQuota> quotas;
  for (const std::string& text :
       world.communicator->AllGatherText(TextOf(OwnQuota()), {.operation = "calibrate"}))
    quotas.push_back(QuotaOfText(text));
  return CoresPerNode(nodes, machines, cores, quotas);
}

}  // namespace

int CalibrateCommand(const CommandLine& command_line) {
  const Config config = LoadConfig(command_line);
  if (!(FLAGS_seconds > 0)) throw UserError(Format("--seconds=%g: must be more than 0", FLAGS_seconds));
  const WorldOptions options = WorldOptionsOf(config);
  ValidateConfig(config, WorldSize(options));
  return RunWorld(options, [&](World& world) {
    CheckSameSettings(config, world);
    const std::vector<int> nodes = NodesOf(config, world);
    CheckNodes(nodes);
    const std::function<double()> clock = [&]() -> double {
      if (world.emulation) return world.emulation->Now();
      return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    };
    const MeshShape mesh = MeshShapeOf(config.parallel(), world.size());
    const WiresMeasured wires = MeasureWires(nodes, world, clock);
    const WorkMeasured work = MeasureWork(config, mesh.pool(), world, clock, FLAGS_seconds);
    const std::string source =
        Format("%d ranks on %d nodes, rank 0 on %s, %s, %s", world.size(), nodes.back() + 1,
               world.hosts[0].c_str(), command_line.config_path.c_str(), ProgramVersion().c_str());
    const ClusterConfig cluster =
        Describe(config, nodes, wires, work, MeasuredCores(config, nodes, world), source);
    RunTogether(*world.communicator, [&] {
      if (world.rank() != 0) return;
      if (FLAGS_cluster_out.empty()) {
        PrintResult(TextOf(cluster, world.size(), source));
      } else {
        WriteOwnFile(kDescription, FLAGS_cluster_out, TextOf(cluster, world.size(), source));
      }
    });
  });
}

}  // namespace unipool
