#include <gflags/gflags.h>
#include <glog/logging.h>

#include <csignal>
#include <cstdio>

#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/tokenize.h"
#include "runtime/errors.h"
#include "runtime/world.h"

namespace unipool {
namespace {

int RunCommand(const CommandLine& line) {
  if (line.command == "train") return TrainCommand(line);
  if (line.command == "eval") return EvalCommand(line);
  if (line.command == "generate") return GenerateCommand(line);
  if (line.command == "info") return InfoCommand(line);
  if (line.command == "tokenize") return RunTokenize();
  LOG(FATAL) << "command without an entry point: " << line.command;
}

void Print(const std::string& text) {
  if (IsPrintingProcess()) std::fputs(text.c_str(), stdout);
}

int Main(int argc, char** argv) {
  try {
    const CommandLine line = ParseCommandLine({argv + 1, argv + argc});
    if (line.command == "help") return Print(HelpText()), 0;
    if (line.print_config) return Print(ResolvedConfigText(LoadConfig(line))), 0;
    return RunCommand(line);
  } catch (const UserError& error) {
    // All processes of a job get here with the same error; the world prints it once and ends them together.
    return RunWorld(WorldOptions{}, [&](World&) { throw error; });
  }
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is an error of the write, reported as such
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = google::GLOG_WARNING;
  google::InitGoogleLogging(argv[0]);
  return unipool::Main(argc, argv);
}
