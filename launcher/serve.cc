#include <gflags/gflags.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/inference.h"
#include "launcher/model_tokenizer.h"
#include "launcher/serve/completion.h"
#include "launcher/serve/http_server.h"
#include "launcher/serve/job_queue.h"
#include "launcher/standard_output.h"
#include "launcher/world_options.h"
#include "runtime/watchdog.h"

DEFINE_int32(port, 8000, "serve: the TCP port to listen on; 0: any that is free, which is told");
DEFINE_string(
    host, "127.0.0.1",
    "serve: the address to listen on; others than this machine reach only one that is not 127.0.0.1, "
    "and nobody is asked for a password");

namespace unipool {

namespace {

constexpr size_t kMostWaitingJobs = 16;
constexpr int kTokensAtOnce = 2048;

volatile std::sig_atomic_t stop_signal = 0;

// While this lives SIGINT and SIGTERM are noted, and a second one ends the process at once.
class StopSignals {
 public:
  StopSignals() {
    for (const int signal : {SIGINT, SIGTERM}) {
      struct sigaction action {};
      action.sa_handler = [](int caught) { stop_signal = caught; };
      action.sa_flags = static_cast<int>(SA_RESETHAND);
      sigaction(signal, &action, nullptr);
    }
  }
};

void CheckFlags() {
  Problems problems;
  if (FLAGS_port < 0 || FLAGS_port > 65535)
    problems.Add(Format("--port=%d: must be 0 (any that is free) to 65535", FLAGS_port));
  if (FLAGS_host.empty()) problems.Add("--host: is empty; 127.0.0.1 is this machine alone");
  problems.ThrowIfAny();
}

std::string ModelsBody(const Completer& completer) {
  const nlohmann::json model{{"id", completer.name()},
                             {"object", "model"},
                             {"created", 0},
                             {"owned_by", "unipool"},
                             {"max_model_len", completer.limits().seq_length}};
  const nlohmann::json list{{"object", "list"}, {"data", {model}}};
  return list.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// Waits for a signal, then lets all end. Work that takes longer than a moment is given up: nothing of a
// server is kept.
void EndOnSignal(JobQueue& queue) {
  while (stop_signal == 0 && !queue.is_stopped()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  queue.Stop();
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  std::_Exit(0);
}

void Serve(Completer& completer) {
  JobQueue queue(kMostWaitingJobs);
  HttpServer server(
      {.host = FLAGS_host, .port = FLAGS_port},
      {.completions =
           [&](const std::string& body) {
             const CompletionRequest request =
                 ParseCompletionRequest(body, completer.limits(), completer.tokenizer());
             return queue.Run([&] { return completer.Answer(request, [&] { return queue.is_stopped(); }); });
           },
       .models = [&] { return ModelsBody(completer); }});
  const StopSignals signals;
  server.Start();
  PrintResult(Format("%s answers on http://%s:%d/v1/completions; Ctrl-C ends it\n", completer.name(),
                     FLAGS_host, server.port()));
  std::thread([&queue] { EndOnSignal(queue); }).detach();
  queue.Work();
  server.Stop();
}

}  // namespace

int ServeCommand(const CommandLine& command_line) {
  CheckFlags();
  Config config = LoadConfig(command_line);
  if (config.model().seq_length() > 0) {  // several short prompts share a microbatch
    const int sequences = std::max(kTokensAtOnce / config.model().seq_length(), 1);
    config.mutable_train()->set_micro_batch(sequences);
  }
  RunAlone(config);
  return RunWorld(WorldOptionsOf(config), [&](World& world) {
    const std::string checkpoint = FindWeights(command_line, config, world);
    const std::shared_ptr<const Tokenizer> tokenizer = TokenizerOfModel(checkpoint, config);
    CheckTokenizerOfModel(checkpoint, *tokenizer, config);
    TrainingEngine engine(config, world, {.mode = EngineMode::kEvaluate});
    LoadForInference(checkpoint, config, world, engine);
    Completer completer(engine, *world.communicator, *tokenizer, checkpoint);
    completer.SelfTest();
    Serve(completer);
  });
}

}  // namespace unipool
