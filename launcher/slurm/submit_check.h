// What is looked at before a run is handed to Slurm, so that what cannot work is told at once. Every
// finding is a sentence with what was found and what would be right.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "configs/config.pb.h"
#include "configs/job.pb.h"
#include "launcher/run_control/run_state.h"
#include "launcher/slurm/slurm_text.h"

namespace unipool {

struct Findings {
  std::vector<std::string> problems;  // nothing is submitted
  std::vector<std::string> doubts;    // neither, unless --force
  std::vector<std::string> notes;     // said beside
};

// ---- Pure: of what was asked and what is known.

// Values of the options by themselves, options that hide GPUs from their neighbours, texts that no script
// line can hold.
void CheckOptions(const JobConfig& job, const std::string& run_dir, Findings& findings);
// --time and --lead against what a step and a save take; `state` is of a run that is continued.
void CheckTimes(const JobConfig& job, const std::optional<RunState>& state, Findings& findings);
// Whether the time that Slurm leaves a preempted job is enough for a step and a save: as long as these took
// before, or, where that is not known and the partition preempts, as long as the lead.
void CheckPreemption(const Preemption& preemption, int64_t lead_seconds, const std::optional<RunState>& state,
                     Findings& findings);
// Seconds of --lead: what was asked for, or for "auto" 1.2 times the longest step and save of before and a
// minute, 300 without a before, always at most a quarter of the limit. limit_seconds 0: none.
int64_t LeadSeconds(const JobConfig& job, int64_t limit_seconds, const std::optional<RunState>& state);
// Partition, time, nodes, cores, memory and GPUs against what the cluster has. `need_bytes`: memory of a
// node's ranks.
void CheckCluster(const JobConfig& job, const std::vector<PartitionPart>& parts,
                  const std::string& default_partition, double need_bytes, Findings& findings);
// "64G", "2000" (MB) in bytes; nothing for other text.
std::optional<double> ParseSlurmMemory(const std::string& text);

// ---- Of this machine.

// Settings for that many ranks, data, memory.
void CheckRun(const Config& config, const JobConfig& job, Findings& findings);
// Bytes that the ranks of a node need where each gets twice its share of the rows, as early in training.
double MemoryOfNode(const Config& config, const JobConfig& job);
// A folder or file that all nodes of the job must see. `what` names it: "run_dir".
void CheckIsShared(const std::string& what, const std::string& path, const JobConfig& job,
                   Findings& findings);
// run_dir can be written and has room for three checkpoints; the run is not finished, and no other uses it.
void CheckRunDir(const Config& config, Findings& findings);

}  // namespace unipool
