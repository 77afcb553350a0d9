#include "launcher/slurm/submit_script.h"

#include "launcher/nearest_name.h"
#include "launcher/slurm/shell_words.h"
#include "launcher/submit_template_text.h"  // made of submit_template.sh by launcher/CMakeLists.txt
#include "runtime/errors.h"

namespace unipool {
namespace {

constexpr const char* kArray = "{array}";
constexpr int kFallbackSeconds = 365 * 86400;  // where no limit was asked for

// As one word of the script; {array} becomes the index of the array's task.
std::string ScriptWord(const std::string& text) {
  return WithArrayIndex(ShellWord(text), "'\"$SLURM_ARRAY_TASK_ID\"'");  // braces are always in quotes
}

std::string ScriptWords(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + ScriptWord(word);
  return text;
}

std::string Launch(const ScriptInput& input, int nodes) {
  const JobConfig& job = input.job;
  const int ranks = nodes * job.ranks_per_node();
  if (input.launcher == "mpirun") {
    return Format(
        "mpirun -np %d --map-by ppr:%d:node --bind-to none --mca orte_abort_on_non_zero_status 0 --mca "
        "odls_base_sigkill_timeout 5",
        ranks, job.ranks_per_node());
  }
  std::string text = Format("srun --mpi=pmix --nodes=%d --ntasks=%d --ntasks-per-node=%d", nodes, ranks,
                            job.ranks_per_node());
  if (job.cpus_per_rank() > 0) text += Format(" --cpus-per-task=%d", job.cpus_per_rank());
  return text + " --wait=60 --kill-on-bad-exit=1 --unbuffered --cpu-bind=none --export=ALL";
}

// The node test, and what the launcher is told of the nodes that it has picked.
std::string NodeTest(const ScriptInput& input) {
  const JobConfig& job = input.job;
  if (job.spare_nodes() == 0 && !job.node_check()) return "# There is no test of the nodes: --node_check";
  std::string text =
      "# The node test: a node that computes or talks much slower than the others is left out by later "
      "starts.\n";
  if (job.spare_nodes() == 0) return text + "run \"${launch[@]}\" \"${program[@]}\" check_nodes \"$run_dir\"";
  text += "# With --spare_nodes it picks as many good nodes as train, and the others stay idle.\n";
  const std::string option = input.launcher == "mpirun" ? Format("--host \"${picked//,/:%d,}:%d\"",
                                                                 job.ranks_per_node(), job.ranks_per_node())
                                                        : "--nodelist=\"$picked\"";
  return text + "run " + Launch(input, job.nodes() + job.spare_nodes()) +
         Format(" \"${program[@]}\" check_nodes \"$run_dir\" --spare_nodes=%d\n", job.spare_nodes()) +
         "picked=$(\"${program[@]}\" ledger \"$run_dir\" --picked)\n"
         "if [[ $picked ]]; then launch+=(" +
         option + "); fi";
}

std::string Environment(const ScriptInput& input) {
  std::string text =
      "# More ranks than cores: a rank that waits must let others compute. srun does not set this by "
      "itself.\n"
      "[[ " +
      std::to_string(input.job.ranks_per_node()) +
      " -le $(env -u OMP_NUM_THREADS nproc) ]] || export OMPI_MCA_mpi_yield_when_idle=1";
  if (input.launcher == "mpirun") {
    text +=
        "\n# PMIx 4.2 can wait for ever in the lock of its shared memory when ranks end at once: do "
        "without.\n"
        "export PMIX_MCA_gds=\"${PMIX_MCA_gds:-hash}\"";
  }
  if (!input.job.interface().empty())
    text += "\nexport NCCL_SOCKET_IFNAME=" + ShellWord(input.job.interface());
  return text;
}

// A comment's text: whatever it holds, it ends with its line.
std::string InComment(std::string text) {
  for (char& c : text) {
    if (HasControlCharacters({c})) c = ' ';
  }
  return text;
}

}  // namespace

const char* BuiltInTemplate() {
  return kSubmitTemplate;
}

std::string WithArrayIndex(std::string text, const std::string& index) {
  for (size_t at = text.find(kArray); at != std::string::npos; at = text.find(kArray, at + index.size()))
    text.replace(at, std::string(kArray).size(), index);
  return text;
}

std::string SharedRunDir(const std::string& run_dir) {
  return WithArrayIndex(run_dir, "array");
}

std::string SbatchLines(const ScriptInput& input) {
  const JobConfig& job = input.job;
  std::string lines;
  const auto add = [&](const std::string& name, const std::string& value) {
    lines += (lines.empty() ? "" : "\n") + ("#SBATCH --" + name) + (value.empty() ? "" : "=" + value);
  };
  const auto add_text = [&](const std::string& name, const std::string& value) {
    if (!value.empty()) add(name, SbatchWord(value));
  };
  std::string run_dir = SharedRunDir(input.run_dir);
  std::string name = run_dir;
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  add_text("job-name", job.job_name().empty() ? name.substr(name.rfind('/') + 1) : job.job_name());
  add("nodes", std::to_string(job.nodes() + job.spare_nodes()));
  add("ntasks-per-node", std::to_string(job.ranks_per_node()));
  if (job.cpus_per_rank() > 0) add("cpus-per-task", std::to_string(job.cpus_per_rank()));
  if (job.gpus_per_node() > 0) add("gpus-per-node", std::to_string(job.gpus_per_node()));
  add_text("time", job.time());
  add_text("partition", job.partition());
  add_text("account", job.account());
  add_text("qos", job.qos());
  add_text("mem", job.mem());
  add_text("constraint", job.constraint());
  add_text("nodelist", job.nodelist());
  add_text("exclude", job.exclude());
  add_text("reservation", job.reservation());
  if (job.exclusive()) add("exclusive", "");
  add_text("dependency", job.dependency());
  add_text("array", job.array());
  add_text("mail-user", job.mail_user());
  if (!job.mail_user().empty()) add("mail-type", "END,FAIL,REQUEUE");
  add_text("comment", job.comment());
  add("chdir", SbatchWord(input.folder));
  add("output",
      SbatchWord(SbatchPattern(run_dir + "/logs/") + (job.array().empty() ? "%j" : "%A_%a") + ".out"));
  add("open-mode", "append");
  add(job.chain() == "requeue" ? "requeue" : "no-requeue", "");
  if (input.time_seconds > 0) add("signal", Format("B:%s@%d", job.signal().c_str(), input.lead_seconds));
  for (const std::string& option : job.sbatch()) {
    for (const std::string& word : SplitShellWords(option, "--sbatch")) {
      const size_t equals = word.find('=');
      if (word.rfind("--", 0) == 0 && equals != std::string::npos) {
        lines += "\n#SBATCH " + word.substr(0, equals + 1) + SbatchWord(word.substr(equals + 1));
      } else if (word.rfind('-', 0) == 0) {
        lines += "\n#SBATCH " + word;
      } else {
        lines += " " + SbatchWord(word);
      }
    }
  }
  return lines;
}

std::map<std::string, std::string> ScriptValues(const ScriptInput& input) {
  const JobConfig& job = input.job;
  std::vector<std::string> program = SplitShellWords(job.container(), "--container");
  program.push_back(input.program);
  return {
      {"run_dir_text", InComment(input.run_dir)},
      {"folder_text", InComment(input.folder)},
      {"version", input.version},
      {"command_text", InComment(ShellWords(input.command))},
      {"sbatch_options", SbatchLines(input)},
      {"program", ShellWords(program)},
      {"config", ShellWord(input.config)},
      {"run_dir", ScriptWord(input.run_dir)},
      {"settings", ScriptWords(input.settings)},
      {"max_restarts", std::to_string(job.max_restarts())},
      {"max_failures", std::to_string(job.max_failures())},
      {"max_nodes_excluded", std::to_string(job.max_nodes_excluded())},
      {"exclude", job.exclude().empty() ? "" : ShellWord(job.exclude())},
      {"chain", ShellWord(job.chain())},
      {"setup", input.setup.empty() ? "# (none)" : input.setup},
      {"threads", std::to_string(std::max(1, job.cpus_per_rank()))},
      {"environment", Environment(input)},
      {"time_seconds", std::to_string(input.time_seconds > 0 ? input.time_seconds : kFallbackSeconds)},
      {"launch", Launch(input, job.nodes())},
      {"launcher_reason_text", InComment(input.launcher_reason)},
      {"signal", job.signal()},
      {"node_test", NodeTest(input)},
  };
}

std::string FillTemplate(const std::string& text, const std::string& name,
                         const std::map<std::string, std::string>& values) {
  std::vector<std::string> known;
  for (const auto& [key, value] : values) known.push_back(key);
  Problems problems;
  std::string result;
  size_t at = 0;
  for (size_t open = text.find("{{"); open != std::string::npos; open = text.find("{{", at)) {
    result += text.substr(at, open - at);
    const size_t close = text.find("}}", open);
    const size_t line_end = text.find('\n', open);
    if (close == std::string::npos || close > line_end) {
      problems.Add(name +
                   ": a placeholder {{ is not closed in its line: " + text.substr(open, line_end - open));
      at = open + 2;
      continue;
    }
    const std::string key = text.substr(open + 2, close - open - 2);
    const auto found = values.find(key);
    if (found == values.end()) {
      const std::string nearest = DidYouMean(key, known);
      problems.Add(name + ": unknown placeholder {{" + key + "}}" +
                   (nearest.empty() ? "; known are " + JoinNames(known) : nearest));
    } else {
      result += found->second;
    }
    at = close + 2;
  }
  problems.ThrowIfAny();
  return result + text.substr(at);
}

}  // namespace unipool
