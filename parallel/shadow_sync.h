// Keeps shadows (shadow_placement.h) what they are: the weights of an expert come from its owner to its
// shadows, and the gradients of shadows go back to the owner and are added there. Knows rows of numbers, and
// nothing of what they are.
//
// Both ways go in rounds: in a round each rank sends at most one expert to each other rank.
#pragma once

#include <span>
#include <vector>

#include "parallel/expert_placement.h"
#include "runtime/buffer.h"
#include "runtime/communicator.h"
#include "runtime/stream.h"

namespace unipool {

class ShadowSync {
 public:
  // Most memory of a rank for gradients that have come and are not added yet.
  static constexpr int64_t kStagingBytes = int64_t{16} << 20;

  // All must outlive it. `memory` counts the memory of the stream's device. The arrays that are handed to it
  // are [local places, ...] each and on that device: row p belongs to the rank's p-th place. REQUIRES: all
  // ranks hand over arrays of the same row sizes.
  ShadowSync(Communicator& pool, const ExpertPlacement& placement, Stream& stream, MemoryMeter& memory);

  // Weights have changed: the next StartWeights sends them.
  void WeightsChanged() { is_stale_ = true; }
  void PlacementChanged();  // experts have moved, or shadows are of others now
  // Begins to fill the rows of shadows from the rows of their owners. Nothing after the first call, until
  // something has changed. Collective. The arrays stay as they are until WaitWeights.
  void StartWeights(std::span<const Tensor> arrays, int64_t step);
  void WaitWeights();  // from here on shadows may be read; nothing if nothing is under way

  // Adds the shadows' rows to their owner's: its own first, then shadows by round, in a round by rank. Where
  // there are no shadows it does nothing. Collective, and the host waits.
  void AddGradients(std::span<const Tensor> arrays, int64_t step);

  int64_t bytes_sent() const { return bytes_sent_; }

 private:
  // An exchange of weights: by rank, the local place that goes there, that is filled from there; -1: none.
  struct Round {
    std::vector<int> to, from;
  };
  void AddColumns(const Tensor& array, const Round& round, int64_t begin, int64_t end, int64_t step);
  Communicator::Ticket Start(const ExchangeLabel& label);

  Communicator& pool_;
  const ExpertPlacement& placement_;
  Stream& stream_;
  Buffer staging_;
  bool is_stale_ = true;
  std::vector<Round> rounds_;
  std::vector<Communicator::Ticket> under_way_;
  std::vector<SendBlock> send_;  // one per rank
  std::vector<RecvBlock> recv_;
  int64_t bytes_sent_ = 0;
};

}  // namespace unipool
