#include <filesystem>
#include <set>

#include "launcher/commands.h"
#include "launcher/reports/run_comparison.h"
#include "launcher/reports/terminal.h"
#include "launcher/standard_output.h"
#include "runtime/errors.h"

namespace unipool {

int CompareCommand(const CommandLine& command_line) {
  std::vector<ComparedRun> runs;
  Problems problems;
  std::vector<std::string> skipped;
  std::set<std::string> seen;
  for (const std::string& path : command_line.inputs) {
    try {
      std::optional<ComparedRun> run = ReadComparedRun(path);
      if (run)
        runs.push_back(std::move(*run));
      else
        skipped.push_back(path + ": has done no step yet");
      if (!seen.insert((std::filesystem::path(path) / ".").lexically_normal().string()).second)
        problems.Add(path + ": is named twice");
    } catch (const UserError& error) {
      for (const std::string& problem : error.problems()) problems.Add(problem);
    }
  }
  if (runs.size() < 2) {
    for (const std::string& why : skipped) problems.Add(why);
  }
  problems.ThrowIfAny();
  for (const std::string& why : skipped) TellNote(why);
  for (const ComparedRun& run : runs) TellNote(run.left_out);
  const Comparison comparison = Compare(runs);
  if (!IsPrintingProcess()) return 0;
  PrintResult(command_line.json ? ComparisonJson(comparison).dump() + "\n"
                                : TerminalText(ComparisonText(comparison, ShowsUtf8())));
  return 0;
}

}  // namespace unipool
