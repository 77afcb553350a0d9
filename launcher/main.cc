#include <fcntl.h>
#include <gflags/gflags.h>
#include <glog/logging.h>

#include <csignal>
#include <cstdio>

#include "launcher/command_line.h"
#include "launcher/config.h"
#include "launcher/help.h"
#include "launcher/reports/terminal.h"
#include "launcher/standard_output.h"
#include "launcher/version.h"
#include "runtime/errors.h"
#include "runtime/problem_list.h"
#include "runtime/watchdog.h"
#include "runtime/world.h"

namespace unipool {
namespace {

int RunCommand(const CommandLine& line) {
  for (const CommandInfo& command : Commands()) {
    if (command.name == line.command) return command.run(line);
  }
  LOG(FATAL) << "a command that is not in the list: " << line.command;
}

void Print(const std::string& text) {
  if (IsPrintingProcess()) PrintResult(text);
}

// "help words COMMAND" is for completion.
std::string HelpFor(const std::vector<std::string>& topics) {
  if (topics.empty() || topics[0] != "words") return HelpText(topics.empty() ? "" : topics[0]);
  std::string text;
  for (const std::string& word : CompletionWords(topics.size() < 2 ? "" : topics[1])) text += word + "\n";
  return text;
}

// A job may be started without standard input, output or error output. A file that is opened later, for
// example metrics.jsonl, would get the missing descriptor and all that is printed. What is opened here
// instead can be neither read nor written, so that printing is the same error as before.
void OccupyStandardDescriptors() {
  for (int descriptor = 0; descriptor <= 2; ++descriptor) {
    if (fcntl(descriptor, F_GETFD) < 0) open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY);
  }
}

int Main(int argc, char** argv) {
  try {
    const CommandLine line = ParseCommandLine({argv + 1, argv + argc});
    if (line.command == "help" || line.command == "version") {
      Print(line.command == "help" ? HelpFor(line.topics) : VersionText());
      return 0;
    }
    if (line.print_config) {
      Print(ResolvedConfigText(LoadConfig(line)));
      return 0;
    }
    return RunCommand(line);
  } catch (const OutputError& error) {  // the other processes of a job go their way
    PrintErrorLine(TerminalText(DescribeProblems({PackProblems(error)})));
    return kUserErrorExitCode;
  } catch (const UserError& error) {
    if (!JoinsMpi()) {
      PrintErrorLine(TerminalText(DescribeProblems({PackProblems(error)})));
      return kUserErrorExitCode;
    }
    // All processes of a job get here with the same error; the world prints it once and ends them together.
    return RunWorld(WorldOptions{}, [&](World&) { throw error; });
  } catch (const std::exception& error) {
    return RunWorld(WorldOptions{}, [&](World&) { throw AsUserError(error); });
  }
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) {
  unipool::OccupyStandardDescriptors();
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error of the write, reported as such
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = google::GLOG_WARNING;
  google::InitGoogleLogging(argv[0]);
  return unipool::Main(argc, argv);
}
