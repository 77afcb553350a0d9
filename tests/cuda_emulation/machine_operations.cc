// What the lanes of a warp do together, and copies that nobody waits for yet.
#include <cstring>

#include "tests/cuda_emulation/machine.h"

namespace unipool::emulation {

void Machine::Together(unsigned mask, WarpOperation operation, const void* in, void* out,
                       const std::source_location& where) {
  const int self = running_, first = self / kLanes * kLanes;
  if (!(mask >> (self - first) & 1))
    Fail("a warp operation at " + Text(where) + " whose mask lacks the own lane");
  Thread& thread = threads_[self];
  thread.state = State::kAtWarpOperation;
  thread.mask = mask;
  thread.operation = operation;
  thread.in = in;
  thread.out = out;
  thread.where = where;
  FinishWarpOperation(first);
  if (thread.state == State::kAtWarpOperation) GiveWay();
}

// If all lanes that the running thread names have come, does the operation and frees them.
void Machine::FinishWarpOperation(int first) {
  const Thread& self = threads_[running_];
  const void* in[kLanes] = {};
  void* out[kLanes] = {};
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!(self.mask >> lane & 1)) continue;
    if (first + lane >= now_.num_threads) return;  // never comes: CheckStuck says so
    const Thread& peer = threads_[first + lane];
    if (peer.state != State::kAtWarpOperation) return;
    if (peer.mask != self.mask || peer.operation != self.operation ||
        peer.where.line() != self.where.line()) {
      Fail("is " + Waiting(self) + ", but lane " + std::to_string(lane) + " is " + Waiting(peer) +
           (peer.mask != self.mask ? " with another mask" : ""));
    }
    in[lane] = peer.in;
    out[lane] = peer.out;
  }
  self.operation(in, out);
  for (int lane = 0; lane < kLanes; ++lane) {
    if (self.mask >> lane & 1) threads_[first + lane].state = State::kReady;
  }
}

void Machine::CopyAsync(void* to, const void* from, int bytes) {
  if (reinterpret_cast<uintptr_t>(to) % bytes != 0 || reinterpret_cast<uintptr_t>(from) % bytes != 0) {
    Fail("a misaligned access: an asynchronous copy of " + std::to_string(bytes) + " bytes");
  }
  std::memset(to, kPoison, bytes);
  Thread& thread = threads_[running_];
  thread.copies.push_back({to, from, bytes, thread.num_groups});
}

void Machine::CommitCopies() {
  ++threads_[running_].num_groups;
}

void Machine::WaitCopies(int pending_groups) {
  Thread& thread = threads_[running_];
  std::vector<Copy> pending;
  for (const Copy& copy : thread.copies) {
    if (copy.group >= thread.num_groups - pending_groups) {
      pending.push_back(copy);
    } else if (copy.from) {
      std::memcpy(copy.to, copy.from, copy.bytes);
    } else {
      std::memset(copy.to, 0, copy.bytes);
    }
  }
  thread.copies = std::move(pending);
}

}  // namespace unipool::emulation
