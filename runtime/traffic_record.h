// What is recorded of the exchanges between ranks, as it lies in the files of a run's folder traffic/. The
// layout is fixed: little endian, natural alignment, no padding, every record a multiple of 8 bytes.
//
// The file of a rank, traffic/rank-NNNNN.bin, holds them; traffic_file.h reads and writes it. What rank 0
// knows of all ranks lies beside it: TRAFFIC.md.
//
// Times are nanoseconds of the rank's own clock, raw: CLOCK_MONOTONIC of its host, or virtual time where a
// cluster is emulated. Nothing is corrected in the file. ClockRecord tells how clocks differ. Bytes are those
// that the exchange was given. A time or a number that is not known is -1, and never a guess.
//
// Ranks are joined by (name of the communicator, its members, sequence): all ranks start the exchanges of a
// communicator in the same order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace unipool {

inline constexpr int kTrafficFormat = 2;  // of files; a reader refuses another

enum class TrafficKind : uint16_t { kExchange = 1, kName = 2, kStep = 3, kClock = 4 };

struct TrafficHead {
  uint32_t bytes = 0;  // of the record, with all that follows the fixed part
  TrafficKind kind{};
  uint16_t flags = 0;
  uint32_t check = 0;  // CheckOf the record, with 0 here
  uint32_t reserved = 0;
};

// One exchange on one rank, followed by num_peers PeerBytes.
struct ExchangeRecord {
  // Bits of head.flags.
  static constexpr uint16_t kFirstUse = 1;  // the first of the communicator: it may make connections
  static constexpr uint16_t kOnDevice = 2;  // host times are those of giving the exchange to the device

  TrafficHead head{.bytes = 0, .kind = TrafficKind::kExchange};
  int64_t step = -1;      // 0 = the first; -1: outside of steps (start, validation, checkpoints)
  int64_t sequence = -1;  // of the communicator, from 0 at its creation
  int32_t communicator = -1, operation = -1;  // indices of the tables of NameRecord
  // Of the slot schedule (parallel/slot_schedule.h), -1 where there is none. lane: 0 forward, 1 backward.
  // layer (of the model) and microbatch are those of the rank's own work in the slot. A rank that only serves
  // others there has -1.
  int32_t slot_time = -1, slot_index = -1, lane = -1, stage = -1, layer = -1, microbatch = -1;
  int32_t under_way = 0;   // exchanges of this communicator that were under way when Start was entered
  int32_t cause = -1;      // world rank that idle_ns or idle_receiver_ns is owed to
  int64_t bytes_self = 0;  // the rank's own block, which is on no wire and in no PeerBytes
  // Start entered and left, Wait entered and left. In between the rank was outside the transport, unless
  // another exchange's intervals say otherwise.
  int64_t start_ns = -1, start_done_ns = -1, wait_enter_ns = -1, wait_leave_ns = -1;
  // Known at once where ranks are threads. blocked = wait_leave_ns - wait_enter_ns =
  // idle_ns + idle_receiver_ns + exposed.
  int64_t idle_ns = -1;           // until the last peer that sends to this rank had started
  int64_t idle_receiver_ns = -1;  // then until the last peer that this rank sends to had started
  int64_t wire_ns = -1;           // what the exchange takes alone; emulated clusters only
  // On the device's clock: the exchange, and how long it kept the compute queue waiting.
  int64_t device_begin_ns = -1, device_end_ns = -1, device_blocked_begin_ns = -1, device_blocked_end_ns = -1;
  int32_t num_peers = 0;
  uint32_t row_bytes = 0;       // of dispatch and combine: rows = bytes / row_bytes; 0: the bytes are no rows
  uint32_t dropped_before = 0;  // exchanges of the step before this one that found no room
  uint32_t reserved = 0;
};

// A peer with bytes in at least one direction, in order of rank.
struct PeerBytes {
  int32_t peer = 0;         // rank in the communicator
  int32_t arrived_us = -1;  // after start_ns, when its last byte was seen to have come (arrival_times.h)
  int64_t bytes_to = 0, bytes_from = 0;
};

// An entry of a table, followed by `length` bytes of text and zeros up to a multiple of 8. It comes before
// the first record that uses it. Text of a communicator: JSON, CommunicatorName has the keys.
struct NameRecord {
  static constexpr int32_t kOperation = 0, kCommunicator = 1;
  TrafficHead head{.bytes = 0, .kind = TrafficKind::kName};
  int32_t table = 0, index = 0;
  int32_t length = 0, reserved = 0;
};

// A recorded step, after its exchanges. Compute = end - begin - the blocked times of its exchanges.
struct StepRecord {
  TrafficHead head{.bytes = 0, .kind = TrafficKind::kStep};
  int64_t step = -1, begin_ns = -1, end_ns = -1;
  int64_t num_exchanges = 0, num_dropped = 0;  // recorded, and those that found no room
  // A moment at which the device and the host were seen together: device time, host time, half the host time
  // that the look took.
  int64_t anchor_device_ns = -1, anchor_host_ns = -1, anchor_uncertainty_ns = -1;
  // Of the rank's thread in the step (runtime/thread_cpu.h). Older files end before these.
  int64_t cpu_ns = -1, queued_ns = -1, pushed_off = -1;
  static constexpr uint32_t kFewestBytes = 80;
};

// A comparison of this rank's clock with that of world rank `reference`, from the quickest of num_probes
// round trips. reference's clock = own clock + offset_ns, to +- uncertainty_ns.
struct ClockRecord {
  TrafficHead head{.bytes = 0, .kind = TrafficKind::kClock};
  int64_t own_ns = -1;  // when, by the own clock
  int64_t offset_ns = 0;
  int64_t uncertainty_ns = 0;  // half the quickest round trip
  int32_t reference = 0, num_probes = 0;
};

static_assert(sizeof(TrafficHead) == 16 && sizeof(ExchangeRecord) == 184 && sizeof(PeerBytes) == 24);
static_assert(sizeof(NameRecord) == 32 && sizeof(StepRecord) == 104 && sizeof(ClockRecord) == 48);

// Text of NameRecord for a communicator, as {"name":..., "members":[...], "on_device":..., "carrier":...}.
struct CommunicatorName {
  std::string name;          // "world", "pool", "stage", "pipeline", "replicas", "host pool", "device world"
  std::vector<int> members;  // world ranks, by rank in the communicator
  bool on_device = false;
  std::string carrier;  // "threads", "MPI", "NCCL", "staged", "emulated"
};

// The first line of a rank's file is this as one JSON object, in this order, and a newline.
struct TrafficHeader {
  int format = kTrafficFormat;
  std::string program_version;
  std::string run_id;  // the same on all ranks of one start
  int rank = 0, world = 1;
  std::string host, boot_id;  // ranks of one boot_id share a clock
  std::string clock;          // "monotonic" or "virtual"
  int slots_per_time = 0;     // of the slot schedule
  // Why the records end early; "": they do not. Its text in the file is filled up with blanks to
  // kProblemRoom bytes, so that it can be written into the file when the disk is full.
  std::string problem;
  static constexpr int kProblemRoom = 240;
};

}  // namespace unipool
