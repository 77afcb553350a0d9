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

  // Gradients of shadows go back, in pieces of columns. StartGradients sends the first, for as many as memory
  // is left. FinishGradients adds them and sends the rest: to an owner's rows, in which its own are, those of
  // its shadows by round, in a round by rank. Between the two rows stay as they are. Where there are no
  // shadows both do nothing. Both collective; the host waits in the second.
  void StartGradients(std::span<const Tensor> arrays, int64_t step);
  void FinishGradients();
  // Local places whose gradients travel, or are added to.
  const std::vector<int>& places_in_use() const { return places_in_use_; }

  int64_t bytes_sent() const { return bytes_sent_; }

 private:
  // An exchange of weights: by rank, the local place that goes there, that is filled from there; -1: none.
  struct Round {
    std::vector<int> to, from;
  };
  // Columns of the rows of an array that travel in a round.
  struct Piece {
    const Round* round = nullptr;
    Tensor array;
    int64_t begin = 0, end = 0;  // bytes of a row
    Communicator::Ticket ticket = 0;
  };
  // Of one step. Pieces are started and added in order.
  struct Gradients {
    std::vector<Piece> pieces;
    size_t started = 0, added = 0;
    size_t most_under_way = 1;
    int64_t slot_bytes = 0;  // of staging memory, for what comes in a piece; piece p has slot p modulo most
    int64_t step = 0;
  };
  void StartPieces();
  void StartPiece(Piece& piece, char* staged);
  void AddPiece(const Piece& piece, const char* staged);
  char* StagedOf(size_t piece) const;
  Communicator::Ticket Start(const ExchangeLabel& label);

  Communicator& pool_;
  const ExpertPlacement& placement_;
  Stream& stream_;
  Buffer staging_;
  bool is_stale_ = true;
  std::vector<Round> rounds_;
  int most_come_ = 0;  // experts that come to a rank in a round, at most; the same on all ranks
  std::vector<int> places_in_use_;
  Gradients gradients_;
  std::vector<Communicator::Ticket> under_way_;
  std::vector<SendBlock> send_;  // one per rank
  std::vector<RecvBlock> recv_;
  int64_t bytes_sent_ = 0;
};

}  // namespace unipool
