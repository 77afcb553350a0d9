// Which transport carries device memory between ranks. A pure function of what all ranks say. A transport is
// what a run chooses (parallel.transport in its config). What then moves the bytes is a DeviceCommunicator,
// which device_links.h makes. Host memory always travels by the world's own communicator
// (runtime/communicator.h).
//
// To add a transport:
//   1. configs/config.proto, Transport: its name, and what it needs.
//   2. Here TransportKind, and RankFacts where ranks must say more. In transport.cc NameOf, ChooseTransport
//      (when and why a request for it is refused) and Auto (when AUTO takes it).
//   3. models/settings.cc, TransportKindOf.
//   4. parallel/NAME_communicator.h and .cc: a DeviceCommunicator that writes Start, Wait and Abort.
//      parallel/CMakeLists.txt, if it needs a vendor's header. A row of parallel/README.md.
//   5. parallel/device_links.cc: a DeviceLinks that makes it, MakeDeviceLinks, and GatherFacts where ranks
//      say more.
//   6. tests/parallel/transport_test.cc, each choice and refusal.
//      tests/parallel/device/NAME_communicator_test.cc, and a row of tests/parallel/README.md for units that
//      it tests under another name.
//   7. tools/gpu/check_layouts.py, CheckRanks: the layouts of each transport on a GPU.
// NameOf, ChooseTransport, TransportKindOf and MakeDeviceLinks are switches without default, so the compiler
// asks for them. It does not ask for Auto and GatherFacts. launcher/validate_config.cc needs no change: with
// device: CPU it refuses every transport but AUTO.
#pragma once

#include <string>
#include <vector>

namespace unipool {

enum class TransportKind {
  kAuto,     // let ChooseTransport choose
  kNccl,     // from GPU to GPU; one rank per GPU
  kMpi,      // through pinned host memory and MPI; ranks may share a GPU
  kThreads,  // through pinned host memory, between threads of one process; ranks may share a GPU
};
const char* NameOf(TransportKind kind);  // as in a config: "NCCL"

struct RankFacts {
  std::string host;
  std::string device;        // two ranks of one host say the same only if they share a device
  std::string device_name;   // for people
  std::string nccl_problem;  // why NCCL's library cannot be used on the rank's host; empty: it can be used
};
struct TransportFacts {
  bool is_mpi = false;           // ranks are processes of an MPI job, otherwise threads of one process
  std::vector<RankFacts> ranks;  // of the whole job, in order
};

struct TransportChoice {
  TransportKind kind = TransportKind::kThreads;  // never kAuto
  std::string why;  // one line, "transport: MPI through pinned memory, because ..."
};

// AUTO is NCCL where every rank has a device of its own and the library can be used on all ranks. Otherwise
// AUTO stages through pinned memory: MPI or THREADS, as the ranks are. With one rank it stages too, since
// nothing travels and NCCL is not needed. A request that cannot be met is a UserError with its reason and a
// remedy.
TransportChoice ChooseTransport(TransportKind requested, const TransportFacts& facts);

}  // namespace unipool
