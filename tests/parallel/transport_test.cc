#include "parallel/transport.h"

#include <gmock/gmock.h>

#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Ranks by their devices: "h0:a" is device a of host h0; "!" behind it: NCCL's library is missing there.
TransportFacts Facts(bool is_mpi, const std::vector<std::string>& ranks) {
  TransportFacts facts{.is_mpi = is_mpi, .ranks = {}};
  for (const std::string& text : ranks) {
    const size_t colon = text.find(':'), mark = text.find('!');
    facts.ranks.push_back(
        {.host = text.substr(0, colon),
         .device = text.substr(colon + 1, mark - colon - 1),
         .device_name = "GPU X",
         .nccl_problem = mark == std::string::npos ? "" : "libnccl.so.2 cannot be opened (gone)"});
  }
  return facts;
}

struct Case {
  bool is_mpi;
  std::vector<std::string> ranks;
  TransportKind automatic;
  std::string why;
};

TEST(Transport, AutoTakesNcclWhereItCanAndSaysWhy) {
  const Case cases[] = {
      {true, {"h:a", "h:b"}, TransportKind::kNccl, "each of the 2 ranks has a GPU of its own"},
      {true, {"h:a", "h:b", "h:c"}, TransportKind::kNccl, "each of the 3 ranks"},
      {false,
       {"h:a", "h:b"},
       TransportKind::kThreads,
       "memory that one thread grows can wait for an exchange"},
      {true, {"h:a", "g:a"}, TransportKind::kNccl, "each of the 2 ranks"},  // numbers, on two hosts
      {true, {"h:a", "h:b", "h:a"}, TransportKind::kMpi, "ranks 0 and 2 share GPU X (a) of host h"},
      {false, {"h:a", "h:a"}, TransportKind::kThreads, "ranks 0 and 1 share GPU X (a) of host h"},
      {true, {"h:a", "h:b!"}, TransportKind::kMpi, "on rank 1 (host h) libnccl.so.2 cannot be opened (gone)"},
      {false, {"h:a!", "h:b!"}, TransportKind::kThreads, "on rank 0 (host h) libnccl.so.2"},
      {false, {"h:a"}, TransportKind::kThreads, "a single rank has nobody to send to"},
      {true, {"h:a!"}, TransportKind::kMpi, "a single rank"},
  };
  for (const Case& c : cases) {
    const TransportChoice choice = ChooseTransport(TransportKind::kAuto, Facts(c.is_mpi, c.ranks));
    EXPECT_EQ(NameOf(choice.kind), std::string(NameOf(c.automatic))) << c.why;
    EXPECT_THAT(choice.why, AllOf(HasSubstr(std::string("transport: ") + NameOf(c.automatic)),
                                  HasSubstr(", because "), HasSubstr(c.why)));
    EXPECT_EQ(choice.why.find('\n'), std::string::npos);
  }
}

TEST(Transport, WhatIsAskedForIsTaken) {
  EXPECT_EQ(ChooseTransport(TransportKind::kMpi, Facts(true, {"h:a", "h:b"})).kind, TransportKind::kMpi);
  EXPECT_EQ(ChooseTransport(TransportKind::kThreads, Facts(false, {"h:a"})).kind, TransportKind::kThreads);
  EXPECT_EQ(ChooseTransport(TransportKind::kNccl, Facts(true, {"h:a"})).kind, TransportKind::kNccl);
  EXPECT_EQ(ChooseTransport(TransportKind::kNccl, Facts(false, {"h:a", "h:b"})).kind, TransportKind::kNccl);
}

void ExpectRefusal(TransportKind requested, const TransportFacts& facts,
                   const std::vector<std::string>& words) {
  try {
    ChooseTransport(requested, facts);
    ADD_FAILURE() << "taken: " << NameOf(requested);
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr(Format("parallel.transport is %s, but ", NameOf(requested))));
    for (const std::string& text : words) EXPECT_THAT(error.what(), HasSubstr(text));
  }
}

TEST(Transport, WhatCannotBeIsRefusedWithARemedy) {
  ExpectRefusal(TransportKind::kNccl, Facts(true, {"h:a", "h:a"}),
                {"ranks 0 and 1 share GPU X (a) of host h", "at most one rank per GPU", "AUTO or MPI"});
  ExpectRefusal(TransportKind::kNccl, Facts(false, {"h:a", "h:b!"}),
                {"on rank 1 (host h) libnccl.so.2 cannot be opened", "install it there", "AUTO or THREADS"});
  ExpectRefusal(TransportKind::kMpi, Facts(false, {"h:a", "h:b"}), {"threads of one process", "mpirun"});
  ExpectRefusal(TransportKind::kThreads, Facts(true, {"h:a", "h:b"}), {"processes of an MPI job", "MPI"});
}

}  // namespace
}  // namespace unipool
