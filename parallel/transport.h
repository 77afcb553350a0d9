// Which transport carries device memory between ranks. A pure function of what all ranks say.
#pragma once

#include <string>
#include <vector>

namespace unipool {

enum class TransportKind {
  kAuto,
  kNccl,     // from GPU to GPU; one rank per GPU
  kMpi,      // through pinned host memory and MPI; ranks may share a GPU
  kThreads,  // through pinned host memory, between ranks that are threads of one process; they may share a
             // GPU
};
const char* NameOf(TransportKind kind);  // as in a config: "NCCL"

struct RankFacts {
  std::string host;
  std::string device;        // equal on a host only for the same device
  std::string device_name;   // for people
  std::string nccl_problem;  // why NCCL's library cannot be used there, a clause; empty: it can
};
struct TransportFacts {
  bool is_mpi = false;           // ranks are processes of an MPI job, otherwise threads of one process
  std::vector<RankFacts> ranks;  // of the whole job, in order
};

struct TransportChoice {
  TransportKind kind = TransportKind::kThreads;  // never kAuto
  std::string why;  // one line, "transport: MPI through pinned memory, because ..."
};

// AUTO is NCCL where every rank has a device of its own and the library can be used on all ranks; otherwise,
// and with one rank, where nothing travels and NCCL is not needed, staging through MPI or THREADS. A request
// that cannot be met is a UserError with its reason and remedy.
TransportChoice ChooseTransport(TransportKind requested, const TransportFacts& facts);

}  // namespace unipool
