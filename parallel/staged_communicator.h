// A communicator of device memory over a communicator of host memory: blocks travel through pinned memory, so
// several ranks may share a device. How, and why it cannot lock up: staged_traffic.h.
//
// The host waits for the wire in Wait, as it does with host memory; everything on the device is enqueued.
#pragma once

#include <memory>

#include "parallel/staged_traffic.h"

namespace unipool {

// `traffic` is one per rank, shared by all of its communicators. Nobody else starts exchanges on `host` from
// now on.
std::unique_ptr<Communicator> MakeStagedCommunicator(std::unique_ptr<Communicator> host,
                                                     std::shared_ptr<StagedTraffic> traffic);

// A communicator of the host for exchanges between which exchanges of device memory are under way: the same,
// but Start posts what is ready and Wait posts everything that was started before. `host` must outlive it.
std::unique_ptr<Communicator> MakeHostGate(Communicator& host, std::shared_ptr<StagedTraffic> traffic);

}  // namespace unipool
