#include "launcher/slurm/slurm.h"

#include "launcher/reports/shown_width.h"
#include "launcher/slurm/child_process.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

std::optional<std::string> Ask(const std::vector<std::string>& command) {
  const std::optional<ChildOutcome> outcome = RunChild(command);
  if (!outcome || outcome->exit_code != 0) return std::nullopt;
  return outcome->out;
}

}  // namespace

std::optional<std::vector<PartitionPart>> AskPartitions() {
  const auto text = Ask({"sinfo", "--noheader", "--all", "--format", "%R|%l|%D|%c|%m|%G"});
  if (!text) return std::nullopt;
  return ParsePartitions(*text);
}

std::string AskDefaultPartition() {
  const auto text = Ask({"sinfo", "--noheader", "--format", "%P"});  // "main*" is the default
  if (!text) return "";
  const size_t star = text->find('*');
  if (star == std::string::npos) return "";
  const size_t begin = text->rfind('\n', star) + 1;  // npos + 1 is 0
  return text->substr(begin, star - begin);
}

std::optional<std::vector<QueuedJob>> AskQueue(const std::vector<std::string>& jobs) {
  if (jobs.empty()) return std::vector<QueuedJob>();
  std::string list;
  for (const std::string& job : jobs) list += (list.empty() ? "" : ",") + job;
  const std::string format = "%i|%T|%M|%L|%S|%R|%N|%j";
  const auto outcome = RunChild({"squeue", "--noheader", "--jobs", list, "--format", format});
  if (!outcome) return std::nullopt;
  if (outcome->exit_code == 0) return ParseQueue(outcome->out);
  if (outcome->err.find("Invalid job id") != std::string::npos) return std::vector<QueuedJob>();
  return std::nullopt;
}

std::string AskJobState(const std::string& job) {
  const auto text = Ask({"scontrol", "show", "job", "-o", job});
  return text ? ShownValue(*text, "JobState") : "";
}

std::string AskExcludedNodes(const std::string& job) {
  const auto text = Ask({"scontrol", "show", "job", "-o", job});
  return text ? ShownValue(*text, "ExcNodeList") : "";
}

std::optional<Preemption> AskPreemption(const std::string& partition) {
  const auto config = Ask({"scontrol", "show", "config"});
  if (!config) return std::nullopt;
  const auto shown = partition.empty() ? std::optional<std::string>("")
                                       : Ask({"scontrol", "show", "partition", "-o", partition});
  return ParsePreemption(*config, shown.value_or(""));
}

std::vector<std::string> AskMpiKinds() {
  const auto outcome = RunChild({"srun", "--mpi=list"});
  if (!outcome || outcome->exit_code != 0) return {};
  return ParseMpiKinds(outcome->out + outcome->err);  // which of the two differs between versions
}

std::string Submit(const std::string& script, const std::vector<std::string>& options) {
  std::vector<std::string> command{"sbatch", "--parsable"};
  command.insert(command.end(), options.begin(), options.end());
  command.push_back(script);
  const auto outcome = RunChild(command, 0);
  if (!outcome) throw UserError("sbatch cannot be started");
  if (outcome->exit_code != 0) {
    std::string words = outcome->err;
    while (!words.empty() && words.back() == '\n') words.pop_back();
    throw UserError("sbatch refused " + script + ": " + words);
  }
  const std::string id = outcome->out.substr(0, outcome->out.find_first_of(";\n"));
  if (id.empty() || id.find_first_not_of("0123456789") != std::string::npos) {
    throw UserError("sbatch answers \"" + FirstColumns(id, 80) + "\", which is no number of a job; whether " +
                    script + " waits in the queue, squeue tells");
  }
  return id;
}

}  // namespace unipool
