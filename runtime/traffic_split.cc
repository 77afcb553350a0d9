#include "runtime/traffic_split.h"

#include <algorithm>

namespace unipool {

WaitSplit SplitWait(int64_t wait_enter_ns, int64_t wait_leave_ns, std::span<const PeerStart> peers) {
  WaitSplit split;
  int64_t senders = wait_enter_ns, all = wait_enter_ns;  // when the last one had started
  for (const PeerStart& peer : peers) {
    if (peer.start_ns < 0) continue;
    if (peer.sends && peer.start_ns > senders) {
      senders = peer.start_ns;
      split.sender = peer.peer;
    }
    if (!peer.sends && peer.start_ns > all) {
      all = peer.start_ns;
      split.receiver = peer.peer;
    }
  }
  senders = std::min(senders, wait_leave_ns);
  all = std::clamp(all, senders, wait_leave_ns);
  split.idle_ns = senders - wait_enter_ns;
  split.idle_receiver_ns = all - senders;
  split.exposed_ns = wait_leave_ns - all;
  if (split.idle_ns == 0) split.sender = -1;
  if (split.idle_receiver_ns == 0) split.receiver = -1;
  return split;
}

}  // namespace unipool
