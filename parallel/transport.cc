#include "parallel/transport.h"

#include "runtime/errors.h"

namespace unipool {
namespace {

// "ranks 0 and 1 share GPU ... of host ..."; empty: every rank has a device of its own.
std::string SharedDevice(const std::vector<RankFacts>& ranks) {
  for (size_t b = 0; b < ranks.size(); ++b) {
    for (size_t a = 0; a < b; ++a) {
      if (ranks[a].host != ranks[b].host || ranks[a].device != ranks[b].device) continue;
      return Format("ranks %d and %d share %s (%s) of host %s, and NCCL needs a GPU per rank", a, b,
                    ranks[b].device_name.c_str(), ranks[b].device.c_str(), ranks[b].host.c_str());
    }
  }
  return "";
}

// "on rank 2 (host n7) ..."; empty: the library can be used on all ranks.
std::string MissingLibrary(const std::vector<RankFacts>& ranks) {
  for (size_t r = 0; r < ranks.size(); ++r) {
    if (ranks[r].nccl_problem.empty()) continue;
    return Format("on rank %d (host %s) %s", r, ranks[r].host.c_str(), ranks[r].nccl_problem.c_str());
  }
  return "";
}

TransportChoice Staging(bool is_mpi, const std::string& why) {
  const TransportKind kind = is_mpi ? TransportKind::kMpi : TransportKind::kThreads;
  return {kind, Format("transport: %s through pinned host memory, because %s", NameOf(kind), why.c_str())};
}

[[noreturn]] void Refuse(TransportKind requested, const std::string& why) {
  throw UserError(Format("parallel.transport is %s, but %s", NameOf(requested), why.c_str()));
}

TransportChoice Auto(const TransportFacts& facts) {
  if (facts.ranks.size() == 1) return Staging(facts.is_mpi, "a single rank has nobody to send to");
  if (const std::string shared = SharedDevice(facts.ranks); !shared.empty()) {
    return Staging(facts.is_mpi, shared);
  }
  if (const std::string missing = MissingLibrary(facts.ranks); !missing.empty()) {
    return Staging(facts.is_mpi, missing);
  }
  if (!facts.is_mpi) {
    return Staging(false,
                   "memory that one thread grows can wait for an exchange that another has begun over NCCL "
                   "(parallel.transport=NCCL asks for it all the same; mpirun has no such limit)");
  }
  return {TransportKind::kNccl,
          Format("transport: NCCL, because each of the %d ranks has a GPU of its own", facts.ranks.size())};
}

}  // namespace

const char* NameOf(TransportKind kind) {
  switch (kind) {
    case TransportKind::kAuto:
      return "AUTO";
    case TransportKind::kNccl:
      return "NCCL";
    case TransportKind::kMpi:
      return "MPI";
    case TransportKind::kThreads:
      return "THREADS";
  }
  return "?";
}

TransportChoice ChooseTransport(TransportKind requested, const TransportFacts& facts) {
  CHECK(!facts.ranks.empty());
  const char* staging = facts.is_mpi ? "MPI" : "THREADS";
  switch (requested) {
    case TransportKind::kAuto:
      return Auto(facts);
    case TransportKind::kNccl:
      if (const std::string shared = SharedDevice(facts.ranks); !shared.empty()) {
        Refuse(requested, Format("%s: start at most one rank per GPU, or set it to AUTO or %s",
                                 shared.c_str(), staging));
      }
      if (const std::string missing = MissingLibrary(facts.ranks); !missing.empty()) {
        Refuse(requested, Format("%s: install it there, or set it to AUTO or %s", missing.c_str(), staging));
      }
      return {requested, "transport: NCCL, as asked"};
    case TransportKind::kMpi:
      if (!facts.is_mpi) {
        Refuse(requested,
               "the ranks are threads of one process: start them with mpirun, or set it to AUTO or THREADS");
      }
      return Staging(true, "the config asks for it");
    case TransportKind::kThreads:
      if (facts.is_mpi) {
        Refuse(
            requested,
            "the ranks are processes of an MPI job: set it to AUTO or MPI, or start without mpirun and with "
            "parallel.ranks");
      }
      return Staging(false, "the config asks for it");
  }
  LOG(FATAL) << static_cast<int>(requested);
}

}  // namespace unipool
