// A job in which something goes wrong on rank 1 (of at least 3): failing_rank MODE THREADS. The modes are in
// main. It does a few exchanges first and waits in a named one afterwards; the watchdog's time is one second.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/world.h"

using namespace unipool;

namespace {

constexpr int kSlowFileMicroseconds = 3'500'000;

[[noreturn]] void SpinForEver() {
  for (volatile int64_t i = 0;;) i = i + 1;
}

// Rank 0 waits for rank 2, which waits for rank 1, which does not come: only rank 1 is to blame.
void WaitInAChain(Communicator& all) {
  if (all.rank() == 1) SpinForEver();
  if (all.rank() == 2) usleep(200'000);  // so that rank 0 is the first to lose patience
  char byte = 0;
  std::vector<SendBlock> send(all.size());
  std::vector<RecvBlock> recv(all.size());
  if (all.rank() == 2) recv[1] = {&byte, 1};
  all.Exchange(send, recv, {.operation = "first link", .step = 7, .slot = 1});
  recv[1] = {};
  if (all.rank() == 2) send[0] = {&byte, 1};
  if (all.rank() == 0) recv[2] = {&byte, 1};
  all.Exchange(send, recv, {.operation = "second link", .step = 7, .slot = 2});
}

// Blocks so large that MPI must attend to them on both sides, while the progress thread calls MPI too.
void ExchangeManyTimes(Communicator& all) {
  constexpr int64_t kCount = 1 << 18;
  std::vector<int32_t> out(kCount * all.size()), in(kCount * all.size());
  std::vector<SendBlock> send;
  std::vector<RecvBlock> recv;
  for (int p = 0; p < all.size(); ++p) {
    send.push_back({out.data() + kCount * p, kCount * 4});
    recv.push_back({in.data() + kCount * p, kCount * 4});
  }
  for (int round = 0; round < 20; ++round) {
    std::fill(out.begin(), out.end(), 100 * round + all.rank());
    const Communicator::Ticket ticket = all.Start(send, recv, {.operation = "progress", .step = round});
    usleep(5'000);
    all.Wait(ticket);
    for (int64_t i = 0; i < kCount * all.size(); ++i) CHECK_EQ(in[i], 100 * round + i / kCount);
  }
}

void Run(World& world, const std::string& mode) {
  Communicator& all = *world.communicator;
  for (int step = 0; step < 3; ++step) all.Barrier({.operation = "warm up", .step = step, .slot = -1});
  const bool me = world.rank() == 1;
  if (mode == "user_error_all") throw UserError("field model.heads is 5: it must divide model.hidden, 64");
  if (me) {
    if (mode == "user_error_alone") throw UserError("cannot open shard-1.bin: copy it to this host");
    if (mode == "not_saved") throw UserError("model.safetensors: no space", kNotSavedExitCode);
    if (mode == "kill") raise(SIGKILL);
    if (mode == "stop") raise(SIGSTOP);
    if (mode == "spin") SpinForEver();
    if (mode == "check") CHECK_EQ(2 * 2, 5) << "on rank 1";
    if (mode == "leave") return;
    if (mode == "exception") throw std::runtime_error("an unexpected thing");
  }
  if (mode == "slow_files" || mode == "endless_files") {
    // Longer than the watchdog's second; another rank computes a little more after it, as after reading.
    RunTogether(
        all, [&] { usleep(me ? kSlowFileMicroseconds : 0); }, "slow file");
    FileWork(all, "nothing");
    usleep(me ? 600'000 : 0);
  }
  if (mode == "steps") {  // for somebody who suspends the job
    for (int step = 0; step < 400; ++step) {
      usleep(10'000);
      all.Barrier({.operation = "step", .step = step});
    }
  }
  if (mode == "late") {
    if (me) SpinForEver();
    return;
  }
  if (mode == "chain") WaitInAChain(all);
  if (mode == "progress") ExchangeManyTimes(all);
  if (mode == "sizes") {
    std::vector<char> bytes(100);
    std::vector<SendBlock> send(world.size(), {bytes.data(), 1});
    std::vector<RecvBlock> recv(world.size());
    std::vector<char> in(100 * world.size());
    for (int p = 0; p < world.size(); ++p) recv[p] = {in.data() + 100 * p, 1};
    if (me) send[2].bytes = 17;
    if (world.rank() == 2) recv[1].bytes = 23;
    all.Exchange(send, recv, {.operation = "disagreement", .step = 5, .slot = 6});
  }
  all.Barrier({.operation = "combine forward", .step = 7, .slot = 3});
}

}  // namespace

int main(int argc, char** argv) {
  CHECK_EQ(argc, 3) << "failing_rank MODE THREADS";
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(argv[0]);
  const std::string mode = argv[1];
  WorldOptions options{.num_threads = std::atoi(argv[2]),
                       .timeout = std::chrono::milliseconds(1000),
                       .progress_thread = mode == "progress"};
  if (mode == "endless_files") options.file_timeout = std::chrono::milliseconds(1500);
  options.on_end = [](const JobEnd& end) {
    std::string suspects;
    for (const std::string& host : end.suspects) suspects += " " + host;
    std::printf("recorded: %d, %zu letters, suspects%s\n", end.exit_code, end.reason.size(),
                suspects.c_str());
    std::fflush(stdout);
  };
  return RunWorld(options, [&](World& world) { Run(world, mode); });
}
