// Records what one rank's communicators do: a decorator around any of them, so that threads, MPI, device
// memory and emulated clusters are recorded by one class. It moves no byte, adds none, and changes no result.
//
// Only exchanges between BeginStep and EndStep are recorded. On the path of an exchange it takes no lock,
// allocates nothing, touches no file and waits for nothing: it reads a clock five times and adds numbers up.
// Sums are always kept (TrafficTally). Single records are kept where KeepExchanges has made room.
//
// Idle times are known at once where the communicator tells them (emulated clusters) or where ranks share a
// board (threads). Elsewhere blocked times alone are known, until records of all ranks are joined.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/communicator.h"
#include "runtime/device_times.h"
#include "runtime/traffic_board.h"
#include "runtime/traffic_keep.h"
#include "runtime/traffic_record.h"
#include "runtime/traffic_split.h"
#include "runtime/traffic_tally.h"

namespace unipool {

// A rank's clock. Tests make it wrong: (CLOCK_MONOTONIC + offset_ns) * (1 + drift).
struct TrafficClock {
  int64_t offset_ns = 0;
  double drift = 0;
  int64_t Now() const;
  int64_t Of(int64_t monotonic_ns) const;
};

struct TrafficOptions {
  int rank = 0;
  std::vector<int> node_of_rank{0};     // [world]
  std::string carrier;                  // of host memory, as in CommunicatorName
  std::shared_ptr<TrafficBoard> board;  // of ranks that are threads and real; null otherwise
  TrafficClock clock;
  bool sums_steps = true;  // every step is recorded, and its numbers travel with its statistics
};

// Known once the engine is built.
struct TrafficSizes {
  int layers = 0;          // of the model
  int slots_per_time = 1;  // of the slot schedule
  int num_slots = 0;       // of a step
};

class TrafficRecorder {
 public:
  explicit TrafficRecorder(TrafficOptions options);
  ~TrafficRecorder();
  TrafficRecorder(const TrafficRecorder&) = delete;

  // The same communicator, recorded. The recorder must outlive it. `members`: world ranks, by rank in it.
  // `carrier`: empty: that of the options. What is split from it is not recorded.
  std::unique_ptr<Communicator> Record(std::unique_ptr<Communicator> communicator, const std::string& name,
                                       const std::vector<int>& members, const std::string& carrier = "");
  // Of a communicator of all ranks that somebody else owns.
  std::unique_ptr<Communicator> RecordWorld(Communicator& world, const std::string& name);
  // Finds the members out. Collective over a communicator of host memory.
  std::unique_ptr<Communicator> RecordPart(std::unique_ptr<Communicator> communicator,
                                           const std::string& name);

  // Before the first step.
  void SetSizes(const TrafficSizes& sizes);
  const TrafficSizes& sizes() const { return sizes_; }

  // Between steps: from the next one on single exchanges are kept, so many and with so many peers in all, or
  // none with 0.
  void KeepExchanges(int64_t num_records, int64_t num_peers);
  void BeginStep(int64_t step);
  // Records of the step stay until the next BeginStep. Where single exchanges of device memory are kept, both
  // wait for the device: no exchange does.
  void EndStep();
  // Of the step whose exchanges are kept; what device_..._ns of records count from.
  DeviceAnchor device_anchor() const;

  // Between steps: what the wait of a kept record was for; peers are world ranks. Its first use counts no
  // time.
  void SetSplit(int64_t record, const WaitSplit& split);

  const TrafficOptions& options() const { return options_; }
  int world() const { return static_cast<int>(options_.node_of_rank.size()); }
  const std::vector<CommunicatorName>& communicators() const { return communicators_; }
  TrafficTally& tally() { return tally_; }
  const TrafficTally& tally() const { return tally_; }
  const TrafficKeep& keep() const { return keep_; }
  int64_t most_records() const { return most_records_; }  // exchanges of a step so far, at most
  int64_t most_peers() const { return most_peers_; }      // peers in them, at most
  // [2 * num_slots]: rows that came to this rank's experts in each slot of the step, forward lane first.
  std::span<const int64_t> rows_received() const { return rows_received_; }

 private:
  class Recorded;
  friend class Recorded;

  const TrafficOptions options_;
  TrafficSizes sizes_;
  std::vector<CommunicatorName> communicators_;
  TrafficTally tally_;
  TrafficKeep keep_;
  std::vector<int64_t> rows_received_;
  std::unique_ptr<DeviceTimes> device_times_;       // null: no communicator of device memory
  std::vector<std::pair<int64_t, int64_t>> timed_;  // of the step: index in keep_, number in device_times_
  int64_t step_ = -1;
  int64_t num_records_ = 0, num_peers_ = 0;  // of the step, also where none is kept
  int64_t most_records_ = 0, most_peers_ = 0;
};

}  // namespace unipool
