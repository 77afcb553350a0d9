// What Slurm's commands write and read, as values. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace unipool {

// Seconds of a time limit in any of Slurm's forms: MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS. Nothing
// for other text, and for "UNLIMITED" or "infinite".
std::optional<int64_t> ParseSlurmTime(const std::string& text);
std::string SlurmTimeText(int64_t seconds);  // "1-02:03:04", "2:03:04"

// "n[0-2,7],m5" as n0 n1 n2 n7 m5; "n[08-10]" keeps the width. What is no list of names is returned whole.
std::vector<std::string> ExpandNodeList(const std::string& list);

// The nodes of a list on which these hosts are, by Slurm's names: a host's name may have a domain behind.
std::vector<std::string> NodesOfHosts(const std::string& list, const std::vector<std::string>& hosts);

// A line of `sinfo --noheader --format "%R|%l|%D|%c|%m|%G"`: nodes of one kind in one partition.
struct PartitionPart {
  std::string name;
  std::optional<int64_t> limit_seconds;  // nothing: unlimited
  int nodes = 0, cpus = 0;               // nodes, cores of each
  int64_t memory_mb = 0;                 // of each
  int gpus = 0;                          // of each
};
std::vector<PartitionPart> ParsePartitions(const std::string& sinfo);

// What happens to a job whose nodes another job gets.
struct Preemption {
  bool is_possible = false;
  int64_t grace_seconds = 0;      // the partition's: from TERM on
  int64_t kill_wait_seconds = 0;  // from there to KILL
};
// Of `scontrol show config` and `scontrol show partition`; nothing where the former has no KillWait.
std::optional<Preemption> ParsePreemption(const std::string& config, const std::string& partition);

// A line of `squeue --noheader --format "%i|%T|%M|%L|%S|%R|%N|%j"`.
struct QueuedJob {
  std::string id, state, elapsed, left, start, reason, nodes, name;
};
std::vector<QueuedJob> ParseQueue(const std::string& squeue);

// The value of NAME=VALUE in what `scontrol show` writes, up to the next blank; "" where it is missing or
// (null).
std::string ShownValue(const std::string& text, const std::string& name);

// "a,b,c"
std::string JoinNodes(const std::vector<std::string>& nodes);

// The kinds that `srun --mpi=list` names: pmix, pmi2.
std::vector<std::string> ParseMpiKinds(const std::string& text);

}  // namespace unipool
