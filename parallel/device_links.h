// What carries device memory between ranks, as the mesh asks for it.
#pragma once

#include <memory>

#include "parallel/device_communicator.h"
#include "parallel/transport.h"
#include "runtime/world.h"

namespace unipool {

class DeviceLinks {
 public:
  virtual ~DeviceLinks() = default;
  // A communicator of device memory between the ranks of `host`, on which nobody else starts exchanges from
  // now on. Collective over it. May outlive the links.
  virtual std::unique_ptr<Communicator> Device(std::unique_ptr<Communicator> host) = 0;
  // The communicator for exchanges of host memory while exchanges of device memory are under way. Null:
  // `host` itself serves. `host` must outlive it.
  virtual std::unique_ptr<Communicator> Host(Communicator& host) = 0;
};

struct DeviceLinkOptions {
  TransportKind requested = TransportKind::kAuto;
  std::string device_id;    // a UUID: two ranks of a host have the same one only if they share a device
  std::string device_name;  // for people
  std::chrono::milliseconds timeout{300'000};  // as WorldOptions
};
struct ChosenLinks {
  std::unique_ptr<DeviceLinks> links;
  TransportChoice choice;  // for rank 0 to print
};
// Collective. What the ranks say of their devices decides (transport.h). All ranks get the same choice or the
// same UserError. `world` and `device` must outlive the links and what they made.
ChosenLinks MakeDeviceLinks(const DeviceLinkOptions& options, const World& world,
                            const CommunicationDevice& device);

}  // namespace unipool
