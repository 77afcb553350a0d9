#include "runtime/traffic_join.h"

#include "runtime/errors.h"
#include "runtime/traffic_split.h"

namespace unipool {
namespace {

constexpr ExchangeLabel kLabel{.operation = "start times of exchanges", .step = -1, .slot = -1};

// This rank's start times in the step, by communicator, in the order of its exchanges.
std::vector<std::vector<int64_t>> OwnStarts(const TrafficRecorder& recorder, int64_t offset_ns) {
  std::vector<std::vector<int64_t>> starts(recorder.communicators().size());
  for (const ExchangeRecord& record : recorder.keep().records()) {
    starts[record.communicator].push_back(record.start_ns + offset_ns);
  }
  return starts;
}

// Those of the communicators that have the other rank too.
template <class Visit>
void ForShared(const TrafficRecorder& recorder, int other, Visit visit) {
  for (size_t c = 0; c < recorder.communicators().size(); ++c) {
    const std::vector<int>& members = recorder.communicators()[c].members;
    for (const int member : members) {
      if (member == other) visit(c);
    }
  }
}

}  // namespace

bool JoinStarts(TrafficRecorder& recorder, Communicator& world, const std::vector<int64_t>& offsets_ns) {
  const int me = world.rank(), size = world.size();
  const double lacks = recorder.keep().is_on() && recorder.keep().num_dropped() == 0 ? 0 : 1;
  if (world.AllReduceMax(lacks, kLabel) > 0) return false;
  const auto own = OwnStarts(recorder, offsets_ns[me]);
  std::vector<std::vector<int64_t>> out(size), in(size);
  std::vector<SendBlock> send(size);
  std::vector<RecvBlock> recv(size);
  for (int p = 0; p < size; ++p) {
    if (p == me) continue;
    ForShared(recorder, p, [&](size_t c) { out[p].insert(out[p].end(), own[c].begin(), own[c].end()); });
    in[p].resize(out[p].size());  // members start the same exchanges
    const auto bytes = static_cast<int64_t>(out[p].size() * sizeof(int64_t));
    send[p] = {out[p].data(), bytes};
    recv[p] = {in[p].data(), bytes};
  }
  world.Exchange(send, recv, kLabel);

  // [communicator][rank]: where its times begin in what came from that rank.
  std::vector<std::vector<size_t>> first(own.size(), std::vector<size_t>(size));
  for (int p = 0; p < size; ++p) {
    size_t begin = 0;
    if (p == me) continue;
    ForShared(recorder, p, [&](size_t c) {
      first[c][p] = begin;
      begin += own[c].size();
    });
  }
  std::vector<size_t> done(own.size());
  std::vector<PeerStart> peers;
  for (int64_t i = 0; i < static_cast<int64_t>(recorder.keep().records().size()); ++i) {
    const ExchangeRecord& record = recorder.keep().records()[i];
    const size_t nth = done[record.communicator]++;
    const std::vector<int>& members = recorder.communicators()[record.communicator].members;
    if (record.wait_leave_ns < 0 || (record.head.flags & ExchangeRecord::kOnDevice) != 0) continue;
    peers.clear();
    for (const PeerBytes& peer : recorder.keep().peers(i)) {
      const int rank = members[peer.peer];
      peers.push_back({.peer = rank,
                       .start_ns = in[rank][first[record.communicator][rank] + nth] - offsets_ns[me],
                       .sends = peer.bytes_from > 0});
    }
    recorder.SetSplit(i, SplitWait(record.wait_enter_ns, record.wait_leave_ns, peers));
  }
  return true;
}

}  // namespace unipool
