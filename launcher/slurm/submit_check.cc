#include "launcher/slurm/submit_check.h"

#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>

#include "launcher/config.h"
#include "launcher/data/data_tokenizer.h"
#include "launcher/nearest_name.h"
#include "launcher/reports/readable_number.h"
#include "launcher/run_control/run_holder.h"
#include "launcher/slurm/shell_words.h"
#include "launcher/trainer.h"
#include "models/memory_plan.h"
#include "models/parameter_count.h"
#include "models/settings.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

constexpr double kMargin = 1.2;
constexpr int64_t kUnknownLead = 300, kSignalIsEarly = 60;  // Slurm looks at the time once a minute
constexpr double kEarlyImbalance = 2;
constexpr int kCheckpointsOfRoom = 3;

double Longest(const std::optional<Quantiles>& quantiles) {
  return quantiles ? quantiles->max : 0;
}

double StepAndSave(const std::optional<RunState>& state) {
  return state ? kMargin * (Longest(state->step_seconds) + Longest(state->save_seconds)) : 0;
}

void CheckChoice(const std::string& flag, const std::string& value, const std::vector<std::string>& choices,
                 Findings& findings) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return;
  findings.problems.push_back("--" + flag + ": is \"" + value + "\"; may be " + JoinNames(choices));
}

void CheckAtLeast(const std::string& flag, int value, int least, Findings& findings) {
  if (value < least)
    findings.problems.push_back(Format("--%s: is %d; must be at least %d", flag, value, least));
}

// Options that bind each rank to its own GPU.
void CheckGpuOptions(const JobConfig& job, Findings& findings) {
  for (const std::string& option : job.sbatch()) {
    if (std::count(option.begin(), option.end(), '\n') > 0) continue;  // told elsewhere
    for (const std::string& word : SplitShellWords(option, "--sbatch")) {
      const std::string name = word.substr(0, word.find('='));
      if (name == "--gpus-per-task" || name == "--gpu-bind") {
        findings.problems.push_back(
            "--sbatch: " + name +
            " hides from each rank the GPUs of the others, so that no two can talk directly; use "
            "--gpus_per_node: all "
            "ranks of a node see all its GPUs, and rank i uses GPU i modulo their number");
      }
    }
  }
}

std::string KindOf(const std::string& path, long type) {
  static const std::map<long, const char*> kinds = {
      {0x6969, "NFS"},        {0x0BD00BD0, "Lustre"}, {0x47504653, "GPFS"},  {0x19830326, "BeeGFS"},
      {0x00c36400, "CephFS"}, {0xaad7aaea, "PanFS"},  {0xff534d42L, "CIFS"}, {0x65735546, "FUSE"},
      {0x01021997, "9p"},     {0x01021994, "tmpfs"},  {0x858458f6L, "ramfs"}};
  const auto found = kinds.find(type & 0xffffffffL);
  if (found != kinds.end()) return found->second;
  for (const char* local : {"/tmp", "/var/tmp", "/dev/shm", "/run"}) {
    if (path == local || path.rfind(std::string(local) + "/", 0) == 0) return "local";
  }
  return "";
}

// The path itself, or the nearest folder above it that is there.
fs::path Nearest(const std::string& path) {
  std::error_code ignored;
  fs::path at = fs::absolute(path, ignored);
  while (!fs::exists(at, ignored) && at.has_relative_path()) at = at.parent_path();
  return at;
}

}  // namespace

void CheckOptions(const JobConfig& job, const std::string& run_dir, Findings& findings) {
  CheckAtLeast("nodes", job.nodes(), 1, findings);
  CheckAtLeast("ranks_per_node", job.ranks_per_node(), 1, findings);
  CheckAtLeast("links", job.links(), 1, findings);
  CheckAtLeast("gpus_per_node", job.gpus_per_node(), 0, findings);
  CheckAtLeast("cpus_per_rank", job.cpus_per_rank(), 0, findings);
  CheckAtLeast("max_restarts", job.max_restarts(), 0, findings);
  CheckAtLeast("max_failures", job.max_failures(), 1, findings);
  CheckAtLeast("max_nodes_excluded", job.max_nodes_excluded(), 0, findings);
  CheckAtLeast("spare_nodes", job.spare_nodes(), 0, findings);
  CheckChoice("launcher", job.launcher(), {"auto", "srun", "mpirun"}, findings);
  CheckChoice("chain", job.chain(), {"requeue", "dependency", "none"}, findings);
  CheckChoice("signal", job.signal(), {"USR2", "USR1", "TERM"}, findings);
  const bool has_index = run_dir.find("{array}") != std::string::npos;
  if (!job.array().empty() && !has_index) {
    findings.problems.push_back("--array: its tasks would all train in " + run_dir +
                                "; put {array} into run_dir, for example run_dir=runs/sweep_{array}");
  }
  if (job.array().empty() && has_index)
    findings.problems.push_back("run_dir: has {array}, and there is no --array");
  if (HasControlCharacters(run_dir))
    findings.problems.push_back("run_dir: has a line break or another control character");
  CheckGpuOptions(job, findings);
  for (int i = 0; i < JobConfig::descriptor()->field_count(); ++i) {
    const auto* field = JobConfig::descriptor()->field(i);
    if (field->type() != google::protobuf::FieldDescriptor::TYPE_STRING) continue;
    const auto* reflection = job.GetReflection();
    const int count = field->is_repeated() ? reflection->FieldSize(job, field) : 1;
    for (int k = 0; k < count; ++k) {
      const std::string value = field->is_repeated() ? reflection->GetRepeatedString(job, field, k)
                                                     : reflection->GetString(job, field);
      if (field->name() != "setup_line" && HasControlCharacters(value))
        findings.problems.push_back("--" + field->name() + ": has a line break or another control character");
    }
  }
}

int64_t LeadSeconds(const JobConfig& job, int64_t limit_seconds, const std::optional<RunState>& state) {
  if (job.lead() != "auto") return std::atoll(job.lead().c_str());
  int64_t lead = kUnknownLead;
  if (StepAndSave(state) > 0) lead = kSignalIsEarly + static_cast<int64_t>(std::ceil(StepAndSave(state)));
  if (limit_seconds > 0) lead = std::min(lead, limit_seconds / 4);
  return std::max<int64_t>(lead, 1);
}

void CheckTimes(const JobConfig& job, const std::optional<RunState>& state, Findings& findings) {
  const bool is_auto = job.lead() == "auto";
  if (!is_auto && (job.lead().empty() || job.lead().size() > 6 ||
                   job.lead().find_first_not_of("0123456789") != std::string::npos)) {
    findings.problems.push_back("--lead: is \"" + job.lead() + "\"; may be auto or a number of seconds, 300");
    return;
  }
  int64_t limit = 0;
  if (job.time().empty()) {
    findings.notes.push_back(
        "--time: is not set; the partition's default holds, and without a limit Slurm does not say when it "
        "ends");
  } else if (const auto seconds = ParseSlurmTime(job.time()); seconds && *seconds > 0) {
    limit = *seconds;
  } else {
    findings.problems.push_back("--time: is \"" + job.time() +
                                "\"; may be minutes (90), 2:00:00, 1-12 (a day and 12 hours) or 1-12:30:00");
    return;
  }
  const double needed = StepAndSave(state);
  const int64_t lead = LeadSeconds(job, limit, state);
  if (limit > 0 && lead * 2 > limit) {
    findings.problems.push_back(
        Format("--lead: is %d s, more than half of --time (%s); make it at most %d, or give more time", lead,
               SlurmTimeText(limit), limit / 2));
  }
  if (static_cast<double>(lead) < needed) {
    const auto least = static_cast<int64_t>(std::ceil(needed));
    if (is_auto) {
      findings.problems.push_back(Format(
          "--time: is %s, too short: a step and a save of this run take up to %.3g s; make it at least %s",
          SlurmTimeText(limit), needed, SlurmTimeText((4 * least + 59) / 60 * 60)));
    } else {
      findings.problems.push_back(
          Format("--lead: is %d s; a step and a save of this run take up to %.3g s; make it at least %d",
                 lead, needed, least));
    }
  }
}

void CheckPreemption(const Preemption& preemption, int64_t lead_seconds, const std::optional<RunState>& state,
                     Findings& findings) {
  const auto have = static_cast<double>(preemption.grace_seconds + preemption.kill_wait_seconds);
  const std::string time =
      Format("a job whose nodes Slurm takes away has %d s to save (GraceTime %d, KillWait %d)",
             preemption.grace_seconds + preemption.kill_wait_seconds, preemption.grace_seconds,
             preemption.kill_wait_seconds);
  const std::string remedy =
      "; the work since the last save would be done again: set train.save_minutes to what may be lost";
  if (StepAndSave(state) > have) {
    findings.notes.push_back(
        Format("%s; a step and a save of this run take up to %.3g s%s", time, StepAndSave(state), remedy));
  } else if (StepAndSave(state) == 0 && preemption.is_possible && static_cast<double>(lead_seconds) > have) {
    findings.notes.push_back(Format("%s, less than the lead of %d s%s", time, lead_seconds, remedy));
  }
}

std::optional<double> ParseSlurmMemory(const std::string& text) {
  size_t used = 0;
  double number = 0;
  try {
    number = std::stod(text, &used);
  } catch (const std::exception&) {
    return std::nullopt;
  }
  std::string unit = text.substr(used);
  if (unit.size() > 1 && (unit.back() == 'B' || unit.back() == 'b')) unit.pop_back();
  if (unit.size() > 1) return std::nullopt;
  const size_t power = unit.empty() ? 2 : std::string("?KMGT").find(static_cast<char>(std::toupper(unit[0])));
  if (power == std::string::npos || power == 0) return std::nullopt;
  return number * std::pow(1024.0, static_cast<double>(power));
}

void CheckCluster(const JobConfig& job, const std::vector<PartitionPart>& parts,
                  const std::string& default_partition, double need_bytes, Findings& findings) {
  const auto add = [&](const std::string& problem) { findings.problems.push_back(problem); };
  std::vector<std::string> names;
  for (const PartitionPart& part : parts) {
    if (std::find(names.begin(), names.end(), part.name) == names.end()) names.push_back(part.name);
  }
  const std::string wanted = job.partition().empty() ? default_partition : job.partition();
  if (wanted.find(',') != std::string::npos) return;  // any of several: Slurm will choose
  PartitionPart most{.name = wanted, .limit_seconds = 0};
  bool is_there = false;
  for (const PartitionPart& part : parts) {
    if (part.name != wanted) continue;
    is_there = true;
    most.limit_seconds = part.limit_seconds;
    most.nodes += part.nodes;
    most.cpus = std::max(most.cpus, part.cpus);
    most.memory_mb = std::max(most.memory_mb, part.memory_mb);
    most.gpus = std::max(most.gpus, part.gpus);
  }
  if (!is_there) {
    if (wanted.empty())
      return add("--partition: is not set, and the cluster has no default; one of " + JoinNames(names));
    const std::string nearest = DidYouMean(wanted, names);
    return add("--partition: there is no " + wanted +
               (nearest.empty() ? "; one of " + JoinNames(names) : nearest));
  }
  const std::string of = " of partition " + wanted;
  const auto limit = ParseSlurmTime(job.time());
  if (limit && most.limit_seconds && *limit > *most.limit_seconds) {
    add(Format("--time: is %s; the limit%s is %s", SlurmTimeText(*limit), of,
               SlurmTimeText(*most.limit_seconds)));
  }
  if (job.nodes() + job.spare_nodes() > most.nodes) {
    const std::string spare = job.spare_nodes() > 0 ? Format(" and %d spare", job.spare_nodes()) : "";
    add(Format("--nodes: is %d%s; there are %d%s", job.nodes(), spare, most.nodes, of));
  }
  const int cpus = job.ranks_per_node() * std::max(1, job.cpus_per_rank());
  if (cpus > most.cpus) {
    add(Format("--ranks_per_node: %d ranks of %d cores need %d cores of a node; a node%s has %d",
               job.ranks_per_node(), std::max(1, job.cpus_per_rank()), cpus, of, most.cpus));
  }
  if (job.gpus_per_node() > most.gpus)
    add(Format("--gpus_per_node: is %d; a node%s has %d", job.gpus_per_node(), of, most.gpus));
  const double have = static_cast<double>(most.memory_mb) * 1024 * 1024;
  double may_use = have;
  if (!job.mem().empty()) {
    const auto mem = ParseSlurmMemory(job.mem());
    if (!mem) return add("--mem: is \"" + job.mem() + "\"; may be 64G or a number of MB");
    if (*mem > have) add(Format("--mem: is %s; a node%s has %dM", job.mem(), of, most.memory_mb));
    if (*mem > 0) may_use = *mem;
  }
  if (need_bytes > may_use) {
    add(
        Format("memory: the %d ranks of a node need %s where one gets twice its share of the rows, as early "
               "in training; "
               "they may use %s; give %s, more --nodes or smaller settings",
               job.ranks_per_node(), FormatBytes(static_cast<int64_t>(need_bytes)),
               FormatBytes(static_cast<int64_t>(may_use)),
               Format("--mem %dM", static_cast<int64_t>(need_bytes / 1024 / 1024) + 1)));
  }
}

void CheckRun(const Config& config, const JobConfig& job, Findings& findings) {
  const int ranks = job.nodes() * job.ranks_per_node();
  try {
    ValidateConfig(config, ranks);
  } catch (const UserError& error) {
    for (const std::string& problem : error.problems())
      findings.problems.push_back(
          Format("%s (for %d nodes x %d ranks)", problem, job.nodes(), job.ranks_per_node()));
  }
  try {
    OpenDataset(DatasetOptionsOf(config), Split::kTrain);
    TokenizerOfData(config);
    if (config.train().eval_every() > 0) OpenDataset(DatasetOptionsOf(config), Split::kValid);
  } catch (const UserError& error) {
    findings.problems.insert(findings.problems.end(), error.problems().begin(), error.problems().end());
  }
  const bool is_cuda = config.device() == DeviceType::CUDA;
  if (is_cuda && job.gpus_per_node() == 0) {
    findings.problems.push_back(
        Format("--gpus_per_node: is 0, and device is CUDA; make it %d, one a rank", job.ranks_per_node()));
  } else if (is_cuda && job.gpus_per_node() < job.ranks_per_node() &&
             config.parallel().transport() == Transport::AUTO) {
    findings.problems.push_back(Format(
        "--gpus_per_node: is %d for %d ranks of a node, so ranks would share a GPU; make it %d, or set "
        "parallel.transport=MPI if that is meant",
        job.gpus_per_node(), job.ranks_per_node(), job.ranks_per_node()));
  }
  if (!config.parallel().emulate().empty())
    findings.problems.push_back("parallel.emulate: a cluster is emulated in one process, not by a job");
}

double MemoryOfNode(const Config& config, const JobConfig& job) {
  if (DeviceOf(config) != Device::kCpu) return 0;
  const MeshShape shape = MeshShapeOf(config.parallel(), job.nodes() * job.ranks_per_node());
  double most = 0;
  for (int node = 0; node < job.nodes(); ++node) {
    double sum = 0;
    for (int i = 0; i < job.ranks_per_node(); ++i)
      sum += static_cast<double>(
          PlanMemory(config, shape, node * job.ranks_per_node() + i, kEarlyImbalance).total());
    most = std::max(most, sum);
  }
  return most;
}

void CheckIsShared(const std::string& what, const std::string& path, const JobConfig& job,
                   Findings& findings) {
  if (job.nodes() < 2) return;
  const fs::path at = Nearest(path);
  struct statfs info {};
  if (statfs(at.c_str(), &info) != 0) return;
  const std::string kind = KindOf(at.string(), static_cast<long>(info.f_type));
  const std::string shared = "; put it on a file system that all nodes share";
  if (kind == "tmpfs" || kind == "ramfs") {
    findings.problems.push_back(what + ": " + path + " is in this node's memory (" + kind + ")" + shared);
  } else if (kind == "local") {
    findings.doubts.push_back(what + ": " + path + " is in a folder that each node has for itself" + shared);
  } else if (kind.empty()) {
    findings.notes.push_back(what + ": " + path + " is on a file system of a kind (" +
                             Format("%x", static_cast<uint32_t>(info.f_type)) +
                             ") that is not known to be shared; all nodes must see it");
  }
}

void CheckRunDir(const Config& config, Findings& findings) {
  const std::string& run_dir = config.run_dir();
  std::error_code ignored;
  const fs::path at = Nearest(run_dir);
  if (!fs::is_directory(at, ignored)) {
    findings.problems.push_back("run_dir: " + at.string() + " is no folder");
    return;
  }
  if (access(at.c_str(), W_OK | X_OK) != 0) {
    findings.problems.push_back("run_dir: cannot write to " + at.string() + ": " + std::strerror(errno));
    return;
  }
  // Weights and two moments.
  const double bytes = 12.0 * static_cast<double>(CountParameters(config).total());
  const fs::space_info space = fs::space(at, ignored);
  if (!ignored && static_cast<double>(space.available) < kCheckpointsOfRoom * bytes) {
    findings.doubts.push_back(Format("run_dir: %s has %s free; three checkpoints take %s", at.string(),
                                     FormatBytes(static_cast<int64_t>(space.available)),
                                     FormatBytes(static_cast<int64_t>(kCheckpointsOfRoom * bytes))));
  }
  const std::optional<RunState> state = ReadRunState(run_dir);
  if (state && state->end.status == "finished" && state->end.step >= config.train().steps()) {
    findings.problems.push_back(
        Format("run_dir: the run in %s has done its %d steps; raise train.steps to go on, or "
               "choose another run_dir",
               run_dir, config.train().steps()));
  }
  if (const std::optional<RunHolder> holder = HolderOf(run_dir)) {
    findings.problems.push_back("run_dir: another run is using " + run_dir + " (" + Describe(*holder) +
                                "); wait for its end, or stop it: unipool stop " + run_dir);
  }
}

}  // namespace unipool
