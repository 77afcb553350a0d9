// Walks whole schedules with both lanes in flight. Every number that travels says where it comes from, so the
// batches and the returned rows are compared bit for bit with what all ranks can compute on their own.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "parallel/token_dispatcher.h"
#include "runtime/random.h"
#include "tests/parallel/planned_rows.h"
#include "tests/world_test.h"

namespace unipool::dispatch_walk {

inline constexpr int kRowSize = 6, kKeptColumns = 2, kTopK = 2, kMaxTokens = 9;

enum class Choices { kRandom, kOneExpert, kNobody, kOnlyRankZero };

struct Case {
  MeshShape shape;
  int num_experts = 0;
  std::vector<int> layers;
  int num_microbatches = 1;
  Choices choices = Choices::kRandom;
  bool forward_only = false;
  int pieces_alone = 1;
};

// A random number that every rank knows: of one choice (source rank in the pool, microbatch, layer, token * K
// + k).
inline uint64_t Draw(uint64_t seed, int source, int microbatch, int layer, int choice) {
  return RandomBits(seed, ((source * 64 + microbatch) * 64 + layer) * 1024 + choice);
}

// What a source routes in one (microbatch, layer).
struct Routing {
  std::vector<int32_t> experts;  // [T, K]
  std::vector<uint8_t> sent;     // [T, K]
};

inline Routing Route(const Case& c, uint64_t seed, int source, LaneWork work) {
  const int tokens =
      c.choices == Choices::kNobody ? 0 : Draw(seed, source, work.microbatch, work.layer, 1000) % kMaxTokens;
  Routing routing;
  for (int choice = 0; choice < tokens * kTopK; ++choice) {
    const uint64_t bits = Draw(seed, source, work.microbatch, work.layer, choice);
    routing.experts.push_back(c.choices == Choices::kOneExpert ? c.num_experts - 1 : bits % c.num_experts);
    routing.sent.push_back(c.choices == Choices::kOnlyRankZero ? source == 0 : (bits >> 32) % 5 != 0);
  }
  return routing;
}

// The numbers of one row: column 0..4 say its origin, column 5 is random.
inline std::array<float, kRowSize> Origin(uint64_t seed, int source, LaneWork work, int choice, int expert) {
  const uint64_t bits = Draw(seed + 1, source, work.microbatch, work.layer, choice);
  return {float(source), float(work.microbatch), float(work.layer),
          float(choice), float(expert),          float(bits % 17) - 8};
}

inline float Answer(Lane lane, int expert, float x) {
  return (lane == Lane::kForward ? 2 : 3) * x + expert;
}

class Walk {
 public:
  Walk(World& world, const Case& c, const ExpertPlacement& placement, uint64_t seed)
      : case_(c),
        placement_(placement),
        seed_(seed),
        mesh_(*world.communicator, c.shape),
        schedule_(c.layers, c.num_microbatches, c.forward_only),
        stream_(*world.memory),
        dispatcher_(mesh_, placement, schedule_,
                    {.row_size = kRowSize,
                     .max_rows = kMaxTokens * kTopK,
                     .kept_columns = kKeptColumns,
                     .pieces_alone = c.pieces_alone},
                    stream_, *world.memory) {}

  void Run() {
    for (int time = 0; time < schedule_.num_times(); ++time) {
      for (int index = 0; index < schedule_.slots_per_time(); ++index)
        RunSlot({.time = time, .index = index});
    }
    Finish(Lane::kForward);
    Finish(Lane::kBackward);
    ExpectAdjoint();
    EXPECT_EQ(dispatcher_.bytes_sent(), expected_bytes_);
    int fewest_experts = placement_.num_places();
    for (int rank = 0; rank < placement_.num_ranks(); ++rank)
      fewest_experts = std::min(fewest_experts, placement_.num_local(rank));
    const bool comes_in_pieces = case_.pieces_alone > 1 && placement_.num_ranks() > 1 && fewest_experts > 1;
    EXPECT_EQ(slots_in_pieces_ > 0, comes_in_pieces);
  }

 private:
  // A combine under way in a lane.
  struct Pending {
    LaneWork work;
    bool under_way = false;
    std::vector<float> returned;
  };

  int pool_rank() const { return mesh_.pool().rank(); }
  int stage() const { return mesh_.position().stage; }
  struct Routed {
    DispatchHandle handle;
    std::vector<int32_t> row_of;
  };
  Routed& RoutedOf(LaneWork work) {
    routed_.resize(size_t(case_.num_microbatches) * 8);
    return routed_[work.microbatch * 8 + work.layer];
  }

  void RunSlot(SlotId slot) {
    Dispatch(Lane::kForward, slot);
    Dispatch(Lane::kBackward, slot);
    Serve(Lane::kForward, slot);
    Serve(Lane::kBackward, slot);
  }

  void Dispatch(Lane lane, SlotId slot) {
    Finish(lane);
    if (!schedule_.AnyWork(lane, slot)) return;
    const LaneWork work = schedule_.Work(lane, stage(), slot);
    const bool forward = lane == Lane::kForward;
    if (work.idle()) {
      if (forward) dispatcher_.StartCounts(slot, nullptr);
      dispatcher_.StartDispatch(lane, slot, nullptr, {});
      return;
    }
    Routed& routed = RoutedOf(work);
    DispatchHandle& handle = routed.handle;
    const Routing routing = Route(case_, seed_, pool_rank(), work);
    if (forward) {
      routed.row_of = PlanRows(routing.experts, routing.sent, kTopK, placement_, handle.plan).row_of;
      dispatcher_.StartCounts(slot, &handle);
      CountBytes(handle);
    }
    const Tensor rows = dispatcher_.SendRows(lane, slot, handle);
    ASSERT_EQ(rows.rows(), handle.plan.num_rows);
    for (size_t choice = 0; choice < routing.experts.size(); ++choice) {
      if (!routing.sent[choice]) continue;
      const auto origin = Origin(seed_, pool_rank(), work, choice, routing.experts[choice]);
      std::copy(origin.begin(), origin.end(), rows.as<float>() + routed.row_of[choice] * kRowSize);
    }
    Pending& pending = pending_[int(lane)];
    pending.returned.assign(handle.plan.num_rows * kRowSize, std::nanf(""));
    dispatcher_.StartDispatch(lane, slot, &handle,
                              Tensor(pending.returned.data(), DType::kF32, {handle.plan.num_rows, kRowSize}));
  }

  // Each row crosses once in each of the four exchanges; the owner sends the answers.
  void CountBytes(const DispatchHandle& handle) {
    const auto& offsets = handle.plan.rank_offsets;
    const int64_t own = offsets[pool_rank() + 1] - offsets[pool_rank()];
    expected_bytes_ += (handle.plan.num_rows - own) * kRowSize * 4 * (case_.forward_only ? 1 : 2);
    expected_bytes_ += (placement_.num_places() - placement_.num_local(pool_rank())) * 4;  // counts
  }

  // Where a choice's row goes: of the expert's rows each copy has a run, by their order.
  int PlaceOf(const Routing& routing, size_t choice) const {
    const int expert = routing.experts[choice];
    int64_t all = 0, before = 0;
    for (size_t other = 0; other < routing.experts.size(); ++other) {
      const bool is_same = routing.sent[other] && routing.experts[other] == expert;
      all += is_same;
      before += is_same && other < choice;
    }
    const std::vector<int> places = placement_.places_of(expert);
    if (places.size() == 1) return places[0];
    int64_t units = 0;
    for (const int place : places) {
      units += placement_.shares(0)[place];
      if (before < (all * units + expert * 83 % kShareUnits) / kShareUnits) return place;
    }
    ADD_FAILURE() << "choice " << choice << " goes nowhere";
    return -1;
  }

  // The rows that this rank's experts must find in the slot, in expert-major order.
  std::vector<std::array<float, kRowSize>> ExpectedBatch(Lane lane, SlotId slot,
                                                         std::vector<int64_t>& offsets) {
    std::vector<std::array<float, kRowSize>> rows;
    offsets = {0};
    for (int place = placement_.first_of(pool_rank()); place < placement_.first_of(pool_rank() + 1);
         ++place) {
      const int expert = placement_.send_order()[place];
      for (int source = 0; source < mesh_.pool().size(); ++source) {
        const LaneWork work = schedule_.Work(lane, mesh_.StageOfPoolRank(source), slot);
        if (work.idle()) continue;
        const Routing routing = Route(case_, seed_, source, work);
        for (size_t choice = 0; choice < routing.experts.size(); ++choice) {
          if (routing.experts[choice] != expert || !routing.sent[choice]) continue;
          if (PlaceOf(routing, choice) != place) continue;
          rows.push_back(Origin(seed_, source, work, choice, expert));
          if (source != pool_rank()) expected_bytes_ += kRowSize * 4;  // the answer
        }
      }
      offsets.push_back(rows.size());
    }
    return rows;
  }

  // The first `count` rows, which have come.
  void ExpectRows(const Tensor& tensor, const std::vector<std::array<float, kRowSize>>& expected,
                  int64_t count, const char* what) {
    ASSERT_EQ(tensor.rows(), int64_t(expected.size())) << what;
    for (int64_t row = 0; row < count; ++row) {
      for (int column = 0; column < kRowSize; ++column) {
        ASSERT_EQ(tensor.as<float>()[row * kRowSize + column], expected[row][column])
            << what << " row " << row << " column " << column;
      }
    }
  }

  void Serve(Lane lane, SlotId slot) {
    if (!schedule_.AnyWork(lane, slot)) return;
    std::vector<int64_t> offsets;
    const auto expected = ExpectedBatch(lane, slot, offsets);
    const int num_pieces = dispatcher_.NumPieces(lane, slot);
    int64_t next = 0;
    for (int piece = 0; piece < num_pieces; ++piece) {
      const OwnerBatch batch = dispatcher_.WaitDispatch(lane, slot, piece);
      ASSERT_EQ(std::vector<int64_t>(batch.expert_offsets.begin(), batch.expert_offsets.end()), offsets);
      ASSERT_EQ(batch.piece_rows().begin, next);
      next = batch.piece_rows().end;
      ServePiece(lane, slot, batch, expected);
      if (testing::Test::HasFatalFailure()) return;
      dispatcher_.StartCombine(lane, slot, piece);
    }
    ASSERT_EQ(next, int64_t(expected.size()));
    rows_served_ += next;
    slots_in_pieces_ += num_pieces > 1;
    Pending& pending = pending_[int(lane)];
    pending.work = schedule_.Work(lane, stage(), slot);
    pending.under_way = true;
  }

  void ServePiece(Lane lane, SlotId slot, const OwnerBatch& batch,
                  const std::vector<std::array<float, kRowSize>>& expected) {
    const Range piece = batch.piece_rows();
    const Tensor& received = lane == Lane::kForward ? batch.x : batch.dy;
    ExpectRows(received, expected, piece.end, "x of the forward lane, dy of the backward lane");
    if (lane == Lane::kForward) {
      FillKept(slot, batch);
    } else {
      ExpectRows(batch.x, expected, batch.num_rows(), "x");
      ExpectKept(batch);
    }
    const Tensor y = dispatcher_.AnswerRows(lane);
    ASSERT_EQ(y.rows(), batch.num_rows());
    const float* sent = received.as<float>();
    for (int64_t row = piece.begin; row < piece.end; ++row) {
      for (int column = 0; column < kRowSize; ++column) {
        const float x = sent[row * kRowSize + column];
        y.as<float>()[row * kRowSize + column] = Answer(lane, int(expected[row][4]), x);
        adjoint_ += int64_t(x) * int64_t(y.as<float>()[row * kRowSize + column]);
      }
    }
  }

  void FillKept(SlotId slot, const OwnerBatch& batch) {
    const Tensor kept = dispatcher_.KeepRows(slot);
    ASSERT_EQ(kept.empty(), case_.forward_only);
    if (kept.empty()) return;
    ASSERT_EQ(kept.rows(), batch.num_rows());
    for (int64_t row = batch.piece_rows().begin; row < batch.piece_rows().end; ++row) {
      const float* x = batch.x.as<float>() + row * kRowSize;
      kept.as<float>()[row * kKeptColumns] = x[0] * 1000 + x[3];
      kept.as<float>()[row * kKeptColumns + 1] = x[1] * 1000 + x[2] * 100 + x[4];
    }
  }

  void ExpectKept(const OwnerBatch& batch) {
    ASSERT_EQ(batch.kept.rows(), batch.num_rows());
    for (int64_t row = 0; row < batch.num_rows(); ++row) {
      const float* x = batch.x.as<float>() + row * kRowSize;
      ASSERT_EQ(batch.kept.as<float>()[row * kKeptColumns], x[0] * 1000 + x[3]);
      ASSERT_EQ(batch.kept.as<float>()[row * kKeptColumns + 1], x[1] * 1000 + x[2] * 100 + x[4]);
    }
  }

  void Finish(Lane lane) {
    Pending& pending = pending_[int(lane)];
    if (!pending.under_way) return;
    pending.under_way = false;
    dispatcher_.WaitCombine(lane);
    if (pending.work.idle()) return;
    const Routing routing = Route(case_, seed_, pool_rank(), pending.work);
    const std::vector<int32_t>& row_of = RoutedOf(pending.work).row_of;
    for (size_t choice = 0; choice < routing.experts.size(); ++choice) {
      ASSERT_EQ(row_of[choice] < 0, !routing.sent[choice]);
      if (!routing.sent[choice]) continue;
      ++expected_rows_;
      const int expert = routing.experts[choice];
      const auto origin = Origin(seed_, pool_rank(), pending.work, choice, expert);
      for (int column = 0; column < kRowSize; ++column) {
        const float got = pending.returned[row_of[choice] * kRowSize + column];
        ASSERT_EQ(got, Answer(lane, expert, origin[column])) << "choice " << choice << " column " << column;
        adjoint_ -= int64_t(origin[column]) * int64_t(got);
      }
    }
  }

  // <dispatch x, y> == <x, combine y>, exactly, summed over ranks; so is the number of rows.
  void ExpectAdjoint() {
    int64_t sums[] = {adjoint_, rows_served_, expected_rows_};
    mesh_.world().AllReduceSum(Tensor(sums, DType::kI64, {3}), {});
    EXPECT_EQ(sums[0], 0);
    EXPECT_EQ(sums[1], sums[2]);
    EXPECT_EQ(sums[1] == 0, case_.choices == Choices::kNobody);
  }

  const Case& case_;
  const ExpertPlacement& placement_;
  const uint64_t seed_;
  Mesh mesh_;
  SlotSchedule schedule_;
  Stream stream_;
  TokenDispatcher dispatcher_;
  std::vector<Routed> routed_;
  Pending pending_[2];
  int64_t adjoint_ = 0, rows_served_ = 0, expected_rows_ = 0, expected_bytes_ = 0;
  int slots_in_pieces_ = 0;
};

}  // namespace unipool::dispatch_walk
