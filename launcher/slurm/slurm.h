// Questions and orders to Slurm, through its commands. Each command is started without a shell, with a
// limit of half a minute. Where Slurm does not answer, an answer is missing, which is no error here.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launcher/slurm/slurm_text.h"

namespace unipool {

// Nothing where sinfo is missing or does not answer.
std::optional<std::vector<PartitionPart>> AskPartitions();
// The name of the partition that a job gets which names none; "" where that is not known.
std::string AskDefaultPartition();
// Those of these jobs that wait or run. Nothing where Slurm does not answer; a job that it has forgotten is
// none.
std::optional<std::vector<QueuedJob>> AskQueue(const std::vector<std::string>& jobs);
// Of one job, also for a while after its end: "COMPLETED", "NODE_FAIL", "TIMEOUT", "CANCELLED"; "" where
// not known.
std::string AskJobState(const std::string& job);
std::string AskExcludedNodes(const std::string& job);
// What a partition does to a job whose nodes another job gets. Nothing where not known.
std::optional<Preemption> AskPreemption(const std::string& partition);
// What `srun --mpi` knows; empty where there is no srun.
std::vector<std::string> AskMpiKinds();

// Hands a script to sbatch, with options before it. Returns the job's id. Throws UserError with what sbatch
// says.
std::string Submit(const std::string& script, const std::vector<std::string>& options);

}  // namespace unipool
