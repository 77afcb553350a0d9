// What a blocked wait was for. Pure arithmetic on times of one clock.
//
//   wait entered -- idle --> last sender started -- idle (receiver) --> last receiver started
//   -- exposed --> wait left
//
// A rank can get nothing from a peer that has not started to send: a late sender. Where large blocks move
// only once both sides have started, a rank that sends waits for its receivers too: a late receiver. The
// rest was the wire, or a transport in which nobody moved the data. Example: Wait lasted from 10 to 30. The
// sender started at 18 and the receiver at 21. Idle is 8, idle (receiver) 3, exposed 9.
#pragma once

#include <cstdint>
#include <span>

namespace unipool {

// A peer of an exchange with bytes in at least one direction.
struct PeerStart {
  int peer = 0;
  int64_t start_ns = -1;  // when its Start was entered, by the clock of the rank that waited; -1: not known
  bool sends = false;     // bytes to the rank that waited
};

struct WaitSplit {
  int64_t idle_ns = 0, idle_receiver_ns = 0, exposed_ns = 0;  // their sum is the blocked time
  int sender = -1, receiver = -1;  // the peers that the idle times are owed to; -1: no idle time
};

// A peer whose start is not known is held to have started in time.
WaitSplit SplitWait(int64_t wait_enter_ns, int64_t wait_leave_ns, std::span<const PeerStart> peers);

}  // namespace unipool
