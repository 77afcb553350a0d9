#include "runtime/clock_probe.h"

#include <fstream>

namespace unipool {
namespace {

// One number from rank to rank; all others send nothing.
int64_t Send(Communicator& communicator, int from, int to, int64_t number) {
  std::vector<SendBlock> send(communicator.size());
  std::vector<RecvBlock> recv(communicator.size());
  int64_t received = 0;
  if (communicator.rank() == from) send[to] = {&number, sizeof(number)};
  if (communicator.rank() == to) recv[from] = {&received, sizeof(received)};
  communicator.Exchange(send, recv, {.operation = "compare clocks"});
  return received;
}

}  // namespace

ClockComparison CompareClocks(Communicator& communicator, int other, int num_probes,
                              const std::function<int64_t()>& now_ns) {
  ClockComparison best{.num_probes = num_probes};
  for (int i = 0; i < num_probes; ++i) {
    const int64_t sent = now_ns();
    Send(communicator, 0, other, 0);
    const int64_t reflected = Send(communicator, other, 0, communicator.rank() == other ? now_ns() : 0);
    if (communicator.rank() != 0) continue;
    const int64_t back = now_ns(), half = (back - sent + 1) / 2;
    if (i > 0 && half >= best.uncertainty_ns) continue;
    best.own_ns = reflected;
    best.uncertainty_ns = half;
    best.offset_ns = sent + (back - sent) / 2 - reflected;
  }
  const int64_t own = Send(communicator, 0, other, best.own_ns);
  const int64_t offset = Send(communicator, 0, other, best.offset_ns);
  const int64_t uncertainty = Send(communicator, 0, other, best.uncertainty_ns);
  if (communicator.rank() == other) {
    best.own_ns = own;
    best.offset_ns = offset;
    best.uncertainty_ns = uncertainty;
  }
  return best;
}

std::string BootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string text;
  std::getline(file, text);
  return text;
}

}  // namespace unipool
