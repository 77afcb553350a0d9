#include "parallel/step_walk.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "parallel/walk_exchanges.h"
#include "parallel/walk_sums.h"
#include "runtime/errors.h"
#include "runtime/range.h"

namespace unipool {
namespace {

constexpr int kNumLanes = 2;

int IndexOf(Lane lane) {
  return static_cast<int>(lane);
}

class Walk {
 public:
  Walk(const StepPlan& plan, const RoutedRows& rows, const WalkOptions& options)
      : plan_(plan),
        rows_(rows),
        options_(options),
        walked_(RanksToWalk(plan.mesh, options.ranks)),
        ranks_(walked_.ranks.size()),
        work_(ranks_.size()),
        states_(ranks_.size()),
        exchanges_(plan, rows, options.detail, walked_, ranks_),
        counts_(static_cast<int>(ranks_.size())) {}

  StepTimes Run() {
    const SlotSchedule& schedule = plan_.schedule;
    for (int time = 0; time < schedule.num_times(); ++time) {
      exchanges_.WaitBoundary(Lane::kForward);
      for (int index = 0; index < schedule.slots_per_time(); ++index) RunSlot({.time = time, .index = index});
      EndForwardTime(time);
      if (plan_.lanes == LaneOrder::kSequential) EndBackwardTime(time);
      ForEach([&](int i) { WeightGradients(i, 0); });
      RunSpreadHead(time);
      if (options_.keeps_times) ForEach([&](int i) { ends_.push_back(ranks_[i].now); });
    }
    ForEach([&](int i) { WeightGradients(i, 1); });
    if (plan_.lanes == LaneOrder::kInterleaved) EndBackwardTime(schedule.num_times() - 1);
    StepTimes times{.slot_seconds = Latest()};
    if (options_.has_end) RunEnd();
    times.seconds = Latest();
    times.ranks = walked_.ranks;
    times.work = std::move(work_);
    times.pieces = std::move(pieces_);
    times.ends = std::move(ends_);
    const double weight = plan_.mesh.world() / static_cast<double>(size());
    for (const WalkedRank& rank : ranks_) {
      for (const WireKind kind : {kIntraNode, kInterNode}) times.bytes[kind] += weight * rank.bytes[kind];
    }
    times.walked = std::move(ranks_);
    return times;
  }

 private:
  struct Pending {
    bool under_way = false, has_work = false;
    double rows = 0;  // that the microbatch sent
  };
  struct State {
    Pending pending[kNumLanes];
    double weight_rows = 0;
    bool weights[2] = {false, false};
  };
  // Exchanges of a lane that are under way, and the rows that they carry.
  struct LanePiece {
    WalkExchange dispatch, combine;
    const SlotRows* rows = nullptr;
  };
  using LanePieces = std::vector<LanePiece>;

  int size() const { return static_cast<int>(walked_.ranks.size()); }
  int stage(int i) const { return walked_.at[i].stage; }
  template <class Body>
  void ForEach(Body body) {
    for (int i = 0; i < size(); ++i) body(i);
  }
  double Latest() const {
    double latest = 0;
    for (const WalkedRank& rank : ranks_) latest = std::max(latest, rank.now);
    return latest;
  }
  LaneWork Work(Lane lane, int i, SlotId slot) const { return plan_.schedule.Work(lane, stage(i), slot); }
  void Do(int i, WorkKind kind, double amount, const WorkPart& part = {}) {
    const double seconds = plan_.times.Seconds(kind, amount, part);
    if (options_.keeps_pieces && seconds > 0)
      pieces_.push_back({.walked = i, .kind = kind, .begin = ranks_[i].now, .seconds = seconds});
    ranks_[i].now += seconds;
    ranks_[i].compute += seconds;
    work_[i][static_cast<int>(kind)] += seconds;
  }
  // Work of the rank's experts, or of one of `pieces` parts of them.
  void Experts(int i, WorkKind kind, double rows, size_t pieces, WorkPart part = {}) {
    const double experts = plan_.experts_of[walked_.pool_rank[i]] / static_cast<double>(pieces);
    if (experts > 0) part.experts = experts * rows_.UsedExperts(rows / experts);
    Do(i, kind, rows, part);
  }
  // Between the order of the wire and that of the experts. A rank alone has rows in one order.
  void Copy(int i, double rows) {
    if (plan_.mesh.pool() > 1) Do(i, WorkKind::kRows, rows);
  }

  // The pieces of the lane's slot, with their rows.
  LanePieces& Open(Lane lane, SlotId slot);
  static double Sent(const LanePieces& pieces, int i) {
    return std::accumulate(pieces.begin(), pieces.end(), 0.0,
                           [i](double sum, const LanePiece& piece) { return sum + piece.rows->sent[i]; });
  }
  static double Received(const LanePieces& pieces, int i) {
    return std::accumulate(pieces.begin(), pieces.end(), 0.0,
                           [i](double sum, const LanePiece& piece) { return sum + piece.rows->received[i]; });
  }

  // ---- the executor's steps
  void RunSlot(SlotId slot);
  void ForwardDense(SlotId slot);
  void BackwardDense(SlotId slot);
  void ForwardExperts(SlotId slot);
  void BackwardExperts(SlotId slot);
  void Head(Lane lane, SlotId slot);
  void RunSpreadHead(int time);
  void FinishForward(int i);
  void FinishBackward(int i);
  void WeightGradients(int i, int part);
  void SendHidden(int time);
  void EndForwardTime(int time);
  void EndBackwardTime(int time);
  void RunEnd();

  const StepPlan& plan_;
  const RoutedRows& rows_;
  const WalkOptions options_;
  const WalkedRanks walked_;
  std::vector<WalkedRank> ranks_;
  std::vector<WorkSeconds> work_;
  std::vector<WalkedPiece> pieces_;
  std::vector<double> ends_;
  std::vector<State> states_;
  WalkExchanges exchanges_;
  LanePieces lanes_[kNumLanes];
  WalkExchange counts_;
};

void Walk::RunSlot(SlotId slot) {
  ForwardDense(slot);
  Head(Lane::kForward, slot);
  if (plan_.lanes == LaneOrder::kSequential) {
    ForwardExperts(slot);
    Head(Lane::kBackward, slot);
    exchanges_.WaitHead();
    ForEach([&](int i) { FinishForward(i); });
    BackwardDense(slot);
    BackwardExperts(slot);
    ForEach([&](int i) { FinishBackward(i); });
    return;
  }
  BackwardDense(slot);
  Head(Lane::kBackward, slot);
  ForwardExperts(slot);
  BackwardExperts(slot);
}

Walk::LanePieces& Walk::Open(Lane lane, SlotId slot) {
  LanePieces& pieces = lanes_[IndexOf(lane)];
  const int count = exchanges_.NumPieces(lane, slot);
  pieces.resize(count, LanePiece{.dispatch = WalkExchange(size()), .combine = WalkExchange(size())});
  for (int p = 0; p < count; ++p) {
    pieces[p].dispatch.Reset();
    pieces[p].combine.Reset();
    pieces[p].rows = &exchanges_.RowsOf(lane, slot, {.index = p, .count = count});
  }
  return pieces;
}

void Walk::ForwardDense(SlotId slot) {
  ForEach([&](int i) { FinishForward(i); });
  if (!plan_.schedule.AnyWork(Lane::kForward, slot)) return;
  LanePieces& pieces = Open(Lane::kForward, slot);
  const SlotRows& counts = exchanges_.CountsOf(slot);
  counts_.Reset();
  ForEach([&](int i) {
    const bool has_work = !Work(Lane::kForward, i, slot).idle();
    if (has_work) Do(i, WorkKind::kDenseForward, plan_.tokens);
    exchanges_.StartCounts(counts, i, counts_);
    if (has_work) Do(i, WorkKind::kRows, Sent(pieces, i));
  });
  ForEach([&](int i) {
    exchanges_.WaitRows(i, counts_);
    for (LanePiece& piece : pieces) exchanges_.StartRows(*piece.rows, Way::kToOwners, i, piece.dispatch);
  });
}

void Walk::BackwardDense(SlotId slot) {
  const bool ends_time = slot.index == 0 && slot.time > 0 && plan_.lanes == LaneOrder::kInterleaved;
  if (ends_time) exchanges_.OpenBoundary(Lane::kBackward, slot.time - 1);
  ForEach([&](int i) {
    if (slot.index > 0 || plan_.mesh.stages == 1) WeightGradients(i, 1);
    if (ends_time) {
      FinishBackward(i);
      exchanges_.StartBoundary(Lane::kBackward, slot.time - 1, i);
    }
    FinishBackward(i);
    WeightGradients(i, 1);
  });
  if (slot.index == 0) {
    exchanges_.WaitBoundary(Lane::kBackward);
    exchanges_.WaitHead();
  }
  if (!plan_.schedule.AnyWork(Lane::kBackward, slot)) return;
  LanePieces& pieces = Open(Lane::kBackward, slot);
  ForEach([&](int i) {
    if (!Work(Lane::kBackward, i, slot).idle()) Do(i, WorkKind::kRows, Sent(pieces, i));
    for (LanePiece& piece : pieces) exchanges_.StartRows(*piece.rows, Way::kToOwners, i, piece.dispatch);
  });
}

void Walk::ForwardExperts(SlotId slot) {
  if (!plan_.schedule.AnyWork(Lane::kForward, slot)) return;
  LanePieces& pieces = lanes_[IndexOf(Lane::kForward)];
  ForEach([&](int i) {
    for (LanePiece& piece : pieces) {
      exchanges_.WaitRows(i, piece.dispatch);
      Copy(i, piece.rows->received[i]);
      Experts(i, WorkKind::kExpertsForward, piece.rows->received[i], pieces.size());
      Copy(i, piece.rows->received[i]);
      exchanges_.StartRows(*piece.rows, Way::kToSources, i, piece.combine);
    }
    states_[i].pending[IndexOf(Lane::kForward)] = {
        .under_way = true, .has_work = !Work(Lane::kForward, i, slot).idle(), .rows = Sent(pieces, i)};
  });
}

void Walk::BackwardExperts(SlotId slot) {
  if (!plan_.schedule.AnyWork(Lane::kBackward, slot)) return;
  LanePieces& pieces = lanes_[IndexOf(Lane::kBackward)];
  const bool is_last = slot.index + 1 == plan_.schedule.slots_per_time();
  const bool is_interleaved = plan_.lanes == LaneOrder::kInterleaved;
  const bool joins = plan_.mesh.span == PoolSpan::kReplica && plan_.schedule.JoinsForwardSlots(slot);
  // Hidden states go ahead of the last combine.
  ForEach([&](int i) {
    if (joins) Copy(i, Received(pieces, i) * (1 + plan_.kept_rows));
    for (LanePiece& piece : pieces) {
      exchanges_.WaitRows(i, piece.dispatch);
      Copy(i, piece.rows->received[i]);
      Experts(i, WorkKind::kExpertsInput, piece.rows->received[i], pieces.size());
      if (&piece == &pieces.back()) continue;
      Copy(i, piece.rows->received[i]);
      exchanges_.StartRows(*piece.rows, Way::kToSources, i, piece.combine);
    }
  });
  if (is_last && is_interleaved) SendHidden(slot.time);
  ForEach([&](int i) {
    Copy(i, pieces.back().rows->received[i]);
    exchanges_.StartRows(*pieces.back().rows, Way::kToSources, i, pieces.back().combine);
    State& state = states_[i];
    state.pending[IndexOf(Lane::kBackward)] = {
        .under_way = true, .has_work = !Work(Lane::kBackward, i, slot).idle(), .rows = Sent(pieces, i)};
    state.weight_rows = Received(pieces, i);
    state.weights[0] = state.weights[1] = true;
    if (!is_last || !is_interleaved) WeightGradients(i, 0);
    if (!is_interleaved) WeightGradients(i, 1);
  });
}

void Walk::Head(Lane lane, SlotId slot) {
  const HeadWork head = plan_.schedule.Head(lane, slot);
  if (head.begin == head.end) return;
  const double tokens = plan_.tokens / (plan_.schedule.forward_only() ? 3 : 1);
  ForEach([&](int i) {
    if (stage(i) + 1 < plan_.schedule.num_stages()) return;
    for (int part = head.begin; part < head.end; ++part) {
      Do(i, WorkKind::kHead, tokens,
         {.begin = part, .end = part + 1, .num_parts = plan_.schedule.num_head_parts()});
    }
  });
}

void Walk::RunSpreadHead(int time) {
  if (plan_.schedule.SpreadHead(time) < 0) return;
  exchanges_.WaitHead();
  ForEach([&](int i) {
    const double own = plan_.HeadTokens(stage(i));
    Do(i, WorkKind::kHead, own, {.share = 1 - plan_.HeadRest(own)});
  });
  if (plan_.schedule.forward_only()) return;
  exchanges_.OpenHead();
  ForEach([&](int i) {
    exchanges_.StartHead(Way::kToSources, i);
    const double own = plan_.HeadTokens(stage(i));
    Do(i, WorkKind::kHead, own, {.share = plan_.HeadRest(own)});
  });
}

void Walk::FinishForward(int i) {
  Pending& pending = states_[i].pending[IndexOf(Lane::kForward)];
  if (!pending.under_way) return;
  pending.under_way = false;
  for (LanePiece& piece : lanes_[IndexOf(Lane::kForward)]) exchanges_.WaitRows(i, piece.combine);
  if (pending.has_work) Do(i, WorkKind::kRows, pending.rows);
}

void Walk::FinishBackward(int i) {
  Pending& pending = states_[i].pending[IndexOf(Lane::kBackward)];
  if (!pending.under_way) return;
  pending.under_way = false;
  for (LanePiece& piece : lanes_[IndexOf(Lane::kBackward)]) exchanges_.WaitRows(i, piece.combine);
  if (!pending.has_work) return;
  Do(i, WorkKind::kRows, pending.rows);
  Do(i, WorkKind::kDenseBackward, plan_.tokens);
}

void Walk::WeightGradients(int i, int part) {
  State& state = states_[i];
  if (!std::exchange(state.weights[part], false)) return;
  Experts(i, WorkKind::kExpertsWeights, state.weight_rows, 1,
          {.begin = part, .end = part + 1, .num_parts = 2});
}

void Walk::SendHidden(int time) {
  if (exchanges_.boundary_under_way(Lane::kForward)) return;
  exchanges_.OpenBoundary(Lane::kForward, time);
  ForEach([&](int i) {
    if (stage(i) + 1 < plan_.schedule.num_stages()) FinishForward(i);
    exchanges_.StartBoundary(Lane::kForward, time, i);
  });
}

void Walk::EndForwardTime(int time) {
  SendHidden(time);
  ForEach([&](int i) { FinishForward(i); });
  Head(Lane::kForward, {.time = time, .index = plan_.schedule.slots_per_time()});
  if (plan_.schedule.SpreadHead(time) < 0) return;
  exchanges_.OpenHead();
  ForEach([&](int i) { exchanges_.StartHead(Way::kToOwners, i); });
}

void Walk::EndBackwardTime(int time) {
  exchanges_.OpenBoundary(Lane::kBackward, time);
  ForEach([&](int i) {
    FinishBackward(i);
    exchanges_.StartBoundary(Lane::kBackward, time, i);
  });
}

// Sums of gradients and of the step's numbers, the update, the parameters that it changed.
void Walk::RunEnd() {
  const StepEnd& end = plan_.end;
  const MeshShape& mesh = plan_.mesh;
  const WalkDetail detail = options_.ranks == WalkRanks::kAll ? options_.detail : WalkDetail::kTotals;
  WalkSums sums(mesh, plan_.cluster, walked_, detail, ranks_);
  const auto stages = sums.MakeGroups([](const MeshPosition& at) { return at.stage; });
  const auto copies = sums.MakeGroups([&](const MeshPosition& at) {
    return mesh.span == PoolSpan::kReplica ? at.stage * mesh.data + at.data : at.data;
  });
  const auto all = sums.MakeGroups([](const MeshPosition&) { return 0; });
  const auto dense = [&](int i) { return end.dense_elements[stage(i)]; };
  sums.ReduceScatter(stages, dense, end.element_bytes, end.round_bytes);
  const auto head = [&](int) { return end.head_elements; };
  sums.ReduceScatter(all, head, end.element_bytes, end.round_bytes);
  if (mesh.world() > mesh.pool()) {
    for (const std::vector<int64_t>* array : {&end.gate_up_elements, &end.down_elements}) {
      const auto experts = [&](int i) { return (*array)[walked_.pool_rank[i]]; };
      sums.ReduceScatter(copies, experts, end.element_bytes, end.round_bytes);
      sums.AllGather(copies, experts, end.element_bytes, kAllAtOnce);
    }
  }
  const auto numbers = [&](int) { return end.step_numbers; };
  sums.ReduceScatter(all, numbers, 8, kHostSumRoundBytes);
  sums.AllGather(all, numbers, 8, kAllAtOnce);
  sums.AllGather(stages, dense, end.element_bytes, kAllAtOnce);
  sums.AllGather(all, head, end.element_bytes, kAllAtOnce);
  ForEach([&](int i) {
    const int data_rank = walked_.at[i].replica * mesh.data + walked_.at[i].data;
    const int64_t experts =
        end.gate_up_elements[walked_.pool_rank[i]] + end.down_elements[walked_.pool_rank[i]];
    const int64_t own = EvenPartition(dense(i), mesh.data_ranks(), data_rank).size() +
                        EvenPartition(end.head_elements, mesh.world(), walked_.ranks[i]).size();
    Do(i, WorkKind::kOptimizer, static_cast<double>(own + experts));
  });
}

}  // namespace

StepTimes WalkStep(const StepPlan& plan, const RoutedRows& rows, const WalkOptions& options) {
  CHECK(options.ranks != WalkRanks::kOnePerStage || options.detail == WalkDetail::kTotals);
  return Walk(plan, rows, options).Run();
}

}  // namespace unipool
