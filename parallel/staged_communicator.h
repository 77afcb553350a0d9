// A communicator of device memory over a communicator of host memory. Blocks travel through pinned memory, so
// several ranks may share a device. How, and why ranks cannot lock up: staged_traffic.h.
//
// The host waits for the wire in Wait, as it does with host memory. Everything on the device is enqueued.
#pragma once

#include <memory>

#include "parallel/staged_traffic.h"

namespace unipool {

// A rank has one `traffic`, which all of its communicators share. Nobody else starts exchanges on `host` from
// now on.
std::unique_ptr<Communicator> MakeStagedCommunicator(std::unique_ptr<Communicator> host,
                                                     std::shared_ptr<StagedTraffic> traffic);

// A communicator of host memory for a rank that also has staged exchanges of device memory under way. It does
// what `host` does. In addition Start posts the staged exchanges that are ready, and Wait posts all staged
// exchanges that were started before. `host` must outlive it.
std::unique_ptr<Communicator> MakeHostGate(Communicator& host, std::shared_ptr<StagedTraffic> traffic);

}  // namespace unipool
