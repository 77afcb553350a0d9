#include <fcntl.h>
#include <gflags/gflags.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/home_path.h"
#include "launcher/nearest_name.h"
#include "launcher/slurm/child_process.h"
#include "launcher/slurm/job_options.h"
#include "launcher/slurm/shell_words.h"
#include "launcher/slurm/slurm.h"
#include "launcher/slurm/start_ledger.h"
#include "launcher/slurm/submit_check.h"
#include "launcher/slurm/submit_script.h"
#include "launcher/version.h"
#include "runtime/errors.h"
#include "runtime/tensor_file.h"
#include "runtime/watchdog.h"

// Of the job: each is a field of configs/job.proto, whose comment says more, and whose default holds.
DEFINE_int32(nodes, 1, "submit: nodes of the job");
DEFINE_int32(ranks_per_node, 1, "submit: ranks on each node");
DEFINE_string(time, "", "submit: time limit of one start, as for sbatch: 2:00:00, 1-12, 90");
DEFINE_string(partition, "", "submit: as for sbatch");
DEFINE_string(account, "", "submit: as for sbatch");
DEFINE_string(qos, "", "submit: as for sbatch");
DEFINE_int32(gpus_per_node, 0, "submit: GPUs of each node; all its ranks see all of them");
DEFINE_int32(cpus_per_rank, 0, "submit: cores and OpenMP threads of each rank");
DEFINE_string(mem, "", "submit: memory of each node, 64G");
DEFINE_string(constraint, "", "submit: as for sbatch");
DEFINE_string(nodelist, "", "submit: as for sbatch");
DEFINE_string(exclude, "", "submit: as for sbatch");
DEFINE_string(reservation, "", "submit: as for sbatch");
DEFINE_bool(exclusive, false, "submit: as for sbatch");
DEFINE_string(dependency, "", "submit: as for sbatch");
DEFINE_string(array, "",
              "submit: a run for each index, as for sbatch; {array} in run_dir and settings becomes it");
DEFINE_string(mail_user, "", "submit: as for sbatch");
DEFINE_string(comment, "", "submit: as for sbatch");
DEFINE_string(job_name, "", "submit: as for sbatch; default: the last part of run_dir");
DEFINE_string(sbatch, "", "submit: any other options of sbatch");
DEFINE_string(launcher, "auto", "submit: what starts the ranks: srun, mpirun or auto, which says its choice");
DEFINE_string(container, "", "submit: words before the program, \"apptainer exec image.sif\"");
DEFINE_string(setup, "", "submit: file with shell lines for the script: modules, paths");
DEFINE_string(interface, "", "submit: NCCL_SOCKET_IFNAME; \"=eth0\" is this one, \"eth\" all that begin so");
DEFINE_string(template, "", "submit: file with {{placeholders}} in place of the built-in one");
DEFINE_string(lead, "auto",
              "submit: seconds before the time limit at which the run is asked to save and stop");
DEFINE_string(signal, "USR2", "submit: with which signal it is asked");
DEFINE_int32(max_restarts, 50, "submit: starts after the first, then it gives up");
DEFINE_int32(max_failures, 3, "submit: failed starts in a row, then it gives up");
DEFINE_int32(max_nodes_excluded, 4,
             "submit: nodes that are left out because watchdog or --node_check named them");
DEFINE_string(chain, "requeue", "submit: how it goes on: requeue, dependency (several jobs) or none");
DEFINE_int32(links, 4, "submit: jobs of a dependency chain");
DEFINE_bool(node_check, false, "submit: test each node for some seconds before each start");
DEFINE_int32(spare_nodes, 0,
             "submit: nodes beyond --nodes; the node test picks the good ones, and the others stay idle");
// Of the command.
DEFINE_string(site, "",
              "submit: the site's defaults; default: ~/.config/unipool/cluster.txtpb where there is one");
DEFINE_bool(dry_run, false, "submit: print the script and submit nothing");
DEFINE_bool(print_template, false, "submit: print the built-in template and stop");
DEFINE_bool(parsable, false, "submit: print the job's id alone");
DEFINE_bool(wait, false, "submit: end when the job has ended, with its exit code");
DEFINE_bool(force, false, "submit: submit in spite of doubts");

namespace unipool {
namespace {

namespace fs = std::filesystem;

std::string Absolute(const std::string& path) {
  return fs::absolute(path).lexically_normal().string();
}

void Note(const std::string& text) {
  PrintErrorLine("note: " + text);
}

JobConfig ReadOptions() {
  JobConfig job;
  const std::string site = SiteFile(FLAGS_site);
  if (!site.empty()) {
    LoadText(site, job);
    Note("defaults of " + site);
  }
  TakeFlags(job);
  return job;
}

std::string SetupLines(const JobConfig& job) {
  std::string text;
  for (const std::string& line : job.setup_line()) text += (text.empty() ? "" : "\n") + line;
  if (job.setup().empty()) return text;
  std::string file = ReadTextFile(ExpandHome(job.setup()));
  while (!file.empty() && file.back() == '\n') file.pop_back();
  return text + (text.empty() ? "" : "\n") + file;
}

// The settings that are checked: those of an array's first task, in a run_dir that still has its {array}.
std::vector<std::string> OfFirstTask(std::vector<std::string> settings, const std::string& array) {
  const std::string first = array.substr(0, array.find_first_not_of("0123456789"));
  for (std::string& setting : settings) {
    if (!array.empty() && setting.rfind("run_dir=", 0) != 0) setting = WithArrayIndex(setting, first);
  }
  return settings;
}

// What starts the ranks, and why.
void ChooseLauncher(const JobConfig& job, ScriptInput& input, Findings& findings) {
  if (job.launcher() != "auto") {
    input.launcher = job.launcher();
    input.launcher_reason = job.launcher() + ", as --launcher says.";
    return;
  }
  const std::vector<std::string> kinds = AskMpiKinds();
  for (const std::string& kind : kinds) {
    if (kind != "pmix") continue;
    input.launcher = "srun";
    input.launcher_reason = "srun, since this Slurm speaks pmix with MPI.";
    return;
  }
  input.launcher = "mpirun";
  input.launcher_reason = kinds.empty()
                              ? "mpirun, since srun was not there to ask whether it speaks pmix."
                              : "mpirun, since this Slurm does not speak pmix (" + JoinNames(kinds) + ").";
  if (!FindProgram("mpirun") && job.setup().empty() && job.setup_line().empty())
    findings.problems.push_back(
        kinds.empty() ? "--launcher: neither srun nor mpirun is in PATH; load one of them in --setup"
                      : "--launcher: Slurm does not speak pmix here, and there is no mpirun in PATH; load it "
                        "in --setup");
}

// The jobs of earlier submissions that wait or run.
void CheckQueue(const std::string& run_dir, Findings& findings) {
  std::vector<std::string> jobs;
  for (const Submission& submission : ReadLedger(run_dir).submissions)
    jobs.insert(jobs.end(), submission.jobs.begin(), submission.jobs.end());
  if (jobs.empty()) return;
  const auto queue = AskQueue(jobs);
  if (!queue)
    return findings.notes.push_back("squeue does not answer: whether the run is queued already is not known");
  for (const QueuedJob& job : *queue) {
    findings.problems.push_back(
        Format("run_dir: job %s of %s is in the queue already (%s %s); see unipool status %s, or end it: "
               "unipool stop %s",
               job.id, run_dir, job.state, job.nodes.empty() ? job.reason : job.nodes, run_dir, run_dir));
  }
}

void CheckSlurm(const Config& config, const JobConfig& job, bool is_valid,
                const std::optional<RunState>& state, Findings& findings) {
  if (!FLAGS_dry_run && !FindProgram("sbatch")) {
    findings.problems.push_back(
        "sbatch: is not in PATH; submit on a machine of the cluster (--dry_run shows the script anywhere)");
  }
  const auto parts = AskPartitions();
  if (!parts)
    return findings.notes.push_back("sinfo does not answer: partition, limits and nodes are not checked");
  const std::string standard = AskDefaultPartition();
  CheckCluster(job, *parts, standard, is_valid ? MemoryOfNode(config, job) : 0, findings);
  const std::string partition = job.partition().empty() ? standard : job.partition();
  if (const auto preemption = AskPreemption(partition)) {
    const int64_t lead = LeadSeconds(job, ParseSlurmTime(job.time()).value_or(0), state);
    CheckPreemption(*preemption, lead, state, findings);
  }
}

std::string ThisProgram() {
  return fs::read_symlink("/proc/self/exe").string();
}

// As typed, but for flags that change nothing of the script.
std::vector<std::string> CommandWords() {
  std::ifstream file("/proc/self/cmdline");
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');) {
    const std::string name = word.substr(0, word.find('='));
    bool is_of_the_script = true;  // a dry run shows the very script that would be submitted
    for (const char* flag : {"dry_run", "parsable", "wait"})
      is_of_the_script =
          is_of_the_script && name != std::string("--") + flag && name != std::string("-") + flag;
    if (is_of_the_script) words.push_back(word);
  }
  return words;
}

// Its file name in RUN_DIR/submit: the first number that is free.
std::string NextScript(const std::string& folder) {
  for (int i = 1;; ++i) {
    const std::string name = Format("%03d.sbatch", i);
    if (!fs::exists(fs::path(folder) / name)) return name;
  }
}

// Two submissions of one run at once would both find it free.
class SubmitLock {
 public:
  explicit SubmitLock(const std::string& folder)
      : fd_(open((folder + "/lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666)) {
    if (fd_ >= 0 && flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      close(fd_);
      throw UserError("run_dir: another unipool submit is at work in " + folder);
    }
  }
  ~SubmitLock() {
    if (fd_ >= 0) close(fd_);
  }
  SubmitLock(const SubmitLock&) = delete;
  SubmitLock& operator=(const SubmitLock&) = delete;

 private:
  int fd_;
};

// The jobs' ids: one, or a chain's links.
std::vector<std::string> SendJobs(const JobConfig& job, const std::string& script) {
  const int links = job.chain() == "dependency" ? job.links() : 1;
  std::vector<std::string> jobs;
  for (int i = 0; i < links; ++i) {
    std::vector<std::string> options;
    if (i > 0) options.push_back("--dependency=afterany:" + jobs.back());
    jobs.push_back(Submit(script, options));
  }
  return jobs;
}

// Ends when the job has: sbatch's own --wait would keep the id from the ledger until then.
int WaitForEnd(const std::vector<std::string>& jobs) {
  for (;;) {
    const auto queue = AskQueue(jobs);
    if (queue && queue->empty()) break;
    sleep(2);
  }
  return AskJobState(jobs.back()) == "COMPLETED" ? 0 : 1;
}

ScriptInput MakeInput(const CommandLine& line, const std::string& run_dir, const JobConfig& job,
                      const std::optional<RunState>& state) {
  ScriptInput input{.job = job,
                    .program = ThisProgram(),
                    .config = Absolute(line.config_path),
                    .run_dir = run_dir,
                    .folder = fs::current_path().string(),
                    .command = CommandWords(),
                    .version = ProgramVersion(),
                    .setup = SetupLines(job)};
  for (const std::string& setting : line.overrides) {
    if (setting.rfind("run_dir=", 0) != 0) input.settings.push_back(setting);
  }
  input.time_seconds = ParseSlurmTime(job.time()).value_or(0);
  input.lead_seconds = LeadSeconds(job, input.time_seconds, state);
  return input;
}

std::string MakeScript(const ScriptInput& input) {
  const std::string& path = input.job.template_();
  const std::string text = path.empty() ? BuiltInTemplate() : ReadTextFile(ExpandHome(path));
  return FillTemplate(text, path.empty() ? "the built-in template" : path, ScriptValues(input));
}

void Tell(const Findings& findings, bool with_doubts) {
  for (const std::string& note : findings.notes) Note(note);
  Problems problems;
  for (const std::string& problem : findings.problems) problems.Add(problem);
  for (const std::string& doubt : findings.doubts) {
    if (with_doubts)
      problems.Add(doubt + " (--force submits all the same)");
    else
      Note(doubt);
  }
  problems.ThrowIfAny();
}

}  // namespace

int SubmitCommand(const CommandLine& command_line) {
  if (FLAGS_print_template) {
    std::fputs(BuiltInTemplate(), stdout);
    return 0;
  }
  if (command_line.config_path.empty())
    throw UserError(
        "submit: the configuration file is missing, for example: unipool submit configs/demo.txtpb");
  const JobConfig job = ReadOptions();
  Config config = LoadConfig(command_line.config_path, OfFirstTask(command_line.overrides, job.array()));
  Findings findings;
  CheckOptions(job, config.run_dir(), findings);
  const std::string run_dir = Absolute(config.run_dir());  // of an array: of each task
  config.set_run_dir(SharedRunDir(run_dir));
  const std::optional<RunState> state = ReadRunState(config.run_dir());
  CheckTimes(job, state, findings);
  const bool is_valid_so_far = findings.problems.empty();
  if (job.nodes() >= 1 && job.ranks_per_node() >= 1) CheckRun(config, job, findings);
  const bool is_valid = is_valid_so_far && findings.problems.empty();
  CheckIsShared("run_dir", config.run_dir(), job, findings);
  CheckIsShared("the program", ThisProgram(), job, findings);
  CheckRunDir(config, findings);
  CheckSlurm(config, job, is_valid, state, findings);
  CheckQueue(config.run_dir(), findings);
  ScriptInput input = MakeInput(command_line, run_dir, job, state);
  ChooseLauncher(job, input, findings);
  Tell(findings, !FLAGS_force);
  const std::string script = MakeScript(input);
  Note("launcher: " + input.launcher_reason);
  if (FLAGS_dry_run) {
    std::fputs(script.c_str(), stdout);
    return 0;
  }
  const std::string folder = SubmitFolder(config.run_dir());
  fs::create_directories(folder);
  fs::create_directories(config.run_dir() + "/logs");
  const SubmitLock lock(folder);
  Submission submission{.script = NextScript(folder), .name = job.job_name(), .chain = job.chain()};
  const std::string path = folder + "/" + submission.script;
  WriteTextFile(path, script);
  try {
    submission.jobs = SendJobs(job, path);
  } catch (...) {
    fs::remove(path);
    throw;
  }
  NoteSubmission(config.run_dir(), submission);
  if (FLAGS_parsable) {
    std::printf("%s\n", submission.jobs.front().c_str());
  } else {
    std::printf("submitted %s as job %s; see unipool status %s, log %s/logs\n", path.c_str(),
                JoinNames(submission.jobs).c_str(), config.run_dir().c_str(), config.run_dir().c_str());
  }
  std::fflush(stdout);
  return FLAGS_wait ? WaitForEnd(submission.jobs) : 0;
}

}  // namespace unipool
