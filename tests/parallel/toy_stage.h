// The toy model cut into stages and sharded experts, with exactly the memory that pipeline_stage.h says is
// needed: whatever is used before it is filled, or after it is free, is NaN or another microbatch's number.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>

#include "parallel/slot_executor.h"
#include "runtime/range.h"
#include "tests/parallel/planned_rows.h"
#include "tests/parallel/toy_model.h"

namespace unipool {

class ToyStage : public PipelineStage, public SpreadHead {
 public:
  static constexpr int D = ToyModel::kColumns, K = ToyModel::kTopK, T = ToyModel::kMaxTokens;

  ToyStage(const Mesh& mesh, const ExpertPlacement& placement, const ToyModel& model,
           const SlotSchedule& schedule)
      : mesh_(mesh), placement_(placement), model_(model), stage_(mesh.position().stage) {
    for (int s = 0; s < stage_; ++s) first_layer_ += schedule.num_layers(s);
    num_layers_ = schedule.num_layers(stage_);
    is_last_ = stage_ + 1 == schedule.num_stages();
    is_spread_ = schedule.head_place() == HeadPlace::kSpread;
    in_flight_.resize(schedule.MaxInFlight(stage_) + 1);
    for (InFlight& m : in_flight_) {
      m.layers.resize(num_layers_);
      for (Layer& layer : m.layers) layer.handle.plan = SendPlan(placement);
    }
    boundary_.inputs.resize(in_flight_.size());
    routing_.experts.reserve(T * K);
    routing_.sent.reserve(T * K);
    for (int m = 0; m < schedule.num_microbatches(); ++m)
      expected_.push_back(RunSerially(model_, SampleOf(m)));
    dense_gradient.assign(num_layers_, 0);
  }

  int SampleOf(int m) const { return m * mesh_.shape().data_ranks() + mesh_.data_rank(); }
  const ToyResult& expected(int m) const { return expected_[m]; }
  int first_layer() const { return first_layer_; }

  Tensor ForwardInput(int m) override { return View(boundary_.inputs[m % boundary_.inputs.size()], m); }
  Tensor ForwardOutput(int m) override { return View(boundary_.output, m); }
  Tensor BackwardInput(int m) override { return View(boundary_.output_gradients[m % 2], m); }
  Tensor BackwardOutput(int m) override { return View(boundary_.input_gradient, m); }

  void BeginForward(int m) override {
    InFlight& state = Of(m);
    for (Layer& layer : state.layers) Poison(layer.y);
    Row& input = boundary_.inputs[m % boundary_.inputs.size()];
    if (stage_ == 0) {
      Poison(input);
      for (int i = 0; i < Size(m); ++i) input[i] = model_.Input(SampleOf(m), i);
    }
    state.input = state.h = input;
  }

  void ForwardRoute(int m, int l) override {
    Layer& layer = Of(m).layers[l];
    const int sample = SampleOf(m), global = first_layer_ + l, choices = model_.Tokens(sample) * K;
    for (int i = 0; i < Size(m); ++i) layer.u[i] = Mod((global + 2) * Of(m).h[i]);
    Poison(Of(m).h);
    routing_.experts.resize(choices);
    routing_.sent.resize(choices);
    for (int choice = 0; choice < choices; ++choice) {
      routing_.experts[choice] = model_.Expert(sample, global, choice);
      routing_.sent[choice] = model_.Weight(sample, global, choice) != 0;
    }
    layer.row_of =
        routing_.planner.Plan(routing_.experts, routing_.sent, K, placement_, layer.handle.plan).row_of;
    layer.is_routed = true;
  }

  void Plan(int m, int l, const ExchangeLabel&) override {
    Layer& layer = Of(m).layers[l];
    mismatches += !layer.is_routed;
    layer.is_routed = false;  // asked for once
  }
  const DispatchHandle& Handle(int m, int l) override { return Of(m).layers[l].handle; }

  void ForwardPermute(int m, int l, const Tensor& rows, DeviceQueue) override {
    const Layer& layer = Of(m).layers[l];
    ForEachSent(m, l, [&](int choice, int row) {
      for (int c = 0; c < D; ++c) rows.as<float>()[row * D + c] = layer.u[choice / K * D + c];
    });
  }

  Tensor ReturnedRows(Lane lane, int m, int l) override {
    Layer& layer = Of(m).layers[l];
    if (lane == Lane::kBackward) Poison(dx_);
    return Tensor(lane == Lane::kForward ? layer.y.data() : dx_.data(), DType::kF32,
                  {layer.handle.plan.num_rows, D});
  }

  void ForwardUnpermute(int m, int l) override {
    Layer& layer = Of(m).layers[l];
    const int global = first_layer_ + l;
    for (int i = 0; i < Size(m); ++i) sums_[i] = layer.u[i] + global + 1;
    ForEachSent(m, l, [&](int choice, int row) {
      const int weight = model_.Weight(SampleOf(m), global, choice);
      for (int c = 0; c < D; ++c) sums_[choice / K * D + c] += weight * layer.y[row * D + c];
    });
    for (int i = 0; i < Size(m); ++i) Of(m).h[i] = Mod(sums_[i]);
    if (l + 1 == num_layers_) boundary_.output = Of(m).h;
  }

  // Each part reads the output and writes the gradient of its share of the numbers.
  void Head(int m, int part, int num_parts) override {
    mismatches += !is_last_ || part != head_.next_part || (part > 0 && m != head_.microbatch);
    head_.next_part = (part + 1) % num_parts;
    head_.microbatch = m;
    if (part == 0) Poison(boundary_.output_gradients[m % 2]);
    const Range share = EvenPartition(Size(m), num_parts, part);
    for (int64_t i = share.begin; i < share.end; ++i) {
      mismatches += boundary_.output[i] != expected_[m].output[i];
      boundary_.output_gradients[m % 2][i] =
          ToyModel::OutputGradient(SampleOf(m), static_cast<int>(i), boundary_.output[i]);
    }
    if (head_.next_part > 0) return;
    ++outputs_compared;
    head_.last_complete = m;
  }

  // A spread head: its rows are the output as it is, and each stage makes the gradient of its share.
  SpreadHead* spread_head() override { return is_spread_ ? this : nullptr; }
  Tensor HeadRows(int m, int share_of) override { return ShareOf(spread_.rows, m, share_of); }
  Tensor HeadGradients(int m, int share_of) override { return ShareOf(spread_.gradients, m, share_of); }
  void BeginHead(int m) override {
    mismatches += !is_last_ || spread_.begun != spread_.ended;
    spread_.begun = m;
    Poison(spread_.gradients);
    spread_.rows = boundary_.output;
  }
  void RunHead(int m) override {
    mismatches += is_last_ && spread_.begun != m;
    spread_.ran = m;
    const Range share = SharePart(m, stage_);
    const Tensor rows = HeadRows(m, stage_), gradients = HeadGradients(m, stage_);
    for (int64_t i = 0; i < rows.size(); ++i) {
      const int at = static_cast<int>(share.begin * D + i);
      mismatches += rows.as<float>()[i] != expected_[m].output[at];
      gradients.as<float>()[i] = ToyModel::OutputGradient(SampleOf(m), at, rows.as<float>()[i]);
    }
    ++shares_compared;
    if (!is_last_) Poison(spread_.rows);
    if (is_last_) ++outputs_compared;
    if (is_last_) spread_.ended = m;  // where the schedule is forward only nothing else comes
  }
  void RunHeadRest(int m) override { mismatches += spread_.ran != m; }
  double HeadRest(int) const override { return 0.25; }
  void EndHead(int m) override {
    mismatches += !is_last_ || spread_.ran != m;
    for (int i = 0; i < Size(m); ++i) {
      mismatches += spread_.rows[i] != boundary_.output[i];  // still there, as promised
      boundary_.output_gradients[m % 2][i] = spread_.gradients[i];
    }
    head_.last_complete = m;
  }

  void EndForward(int m) override {
    for (int i = 0; i < Size(m); ++i) mismatches += boundary_.output[i] != Of(m).h[i];
    ++forwards_ended;
  }

  void BackwardUnpermute(int m, int l, const Tensor& rows) override {
    if (l + 1 == num_layers_) {
      mismatches += is_last_ && head_.last_complete != m;  // every part of it has run
      gradient_ = boundary_.output_gradients[m % 2];
      Poison(boundary_.input_gradient);
    }
    const Layer& layer = Of(m).layers[l];
    ForEachSent(m, l, [&](int choice, int row) {
      const int weight = model_.Weight(SampleOf(m), first_layer_ + l, choice);
      for (int c = 0; c < D; ++c) {
        const float gradient = gradient_[choice / K * D + c];
        rows.as<float>()[row * D + c] = Mod(weight * gradient);
        dense_gradient[l] += int64_t(gradient) * int64_t(layer.y[row * D + c]);
      }
    });
  }

  void BackwardPermute(int m, int l) override {
    for (int i = 0; i < Size(m); ++i) sums_[i] = gradient_[i];
    ForEachSent(m, l, [&](int choice, int row) {
      for (int c = 0; c < D; ++c) sums_[choice / K * D + c] += dx_[row * D + c];
    });
  }

  void BackwardRoute(int m, int l) override {
    for (int i = 0; i < Size(m); ++i) gradient_[i] = Mod((first_layer_ + l + 2) * int64_t(sums_[i]));
  }

  void EndBackward(int m) override {
    for (int i = 0; i < Size(m); ++i) {
      mismatches += ForwardInput(m).as<float>()[i] != Of(m).input[i];  // still there, as promised
      boundary_.input_gradient[i] = gradient_[i];
      if (stage_ == 0) mismatches += gradient_[i] != expected_[m].input_gradient[i];
    }
    ++backwards_ended;
    for (Layer& layer : Of(m).layers) Poison(layer.u);
  }

  int mismatches = 0, outputs_compared = 0, shares_compared = 0, forwards_ended = 0, backwards_ended = 0;
  std::vector<int64_t> dense_gradient;  // per layer of the stage, summed over all microbatches of all runs

 private:
  using Row = std::array<float, T * D>;
  using ChoiceRows = std::array<float, T * K * D>;
  struct Layer {
    DispatchHandle handle;
    std::vector<int32_t> row_of;
    bool is_routed = false;
    Row u;
    ChoiceRows y;
  };
  struct InFlight {
    Row input, h;
    std::vector<Layer> layers;
  };
  InFlight& Of(int m) { return in_flight_[m % in_flight_.size()]; }
  int Size(int m) const { return model_.Tokens(SampleOf(m)) * D; }
  Tensor View(Row& row, int m) const { return Tensor(row.data(), DType::kF32, {Size(m) / D, D}); }
  static float Mod(int64_t x) { return ToyModel::Mod(x); }
  Range SharePart(int m, int share_of) const {
    return EvenPartition(Size(m) / D, mesh_.shape().stages, share_of);
  }
  Tensor ShareOf(Row& row, int m, int share_of) {
    const Range share = SharePart(m, share_of);
    mismatches += !is_last_ && share_of != stage_;
    return Tensor(row.data() + (is_last_ ? share.begin * D : 0), DType::kF32, {share.size(), D});
  }
  template <class Numbers>
  static void Poison(Numbers& numbers) {
    numbers.fill(std::nanf(""));
  }
  template <class Body>
  void ForEachSent(int m, int l, Body body) {
    const std::vector<int32_t>& row_of = Of(m).layers[l].row_of;
    for (size_t choice = 0; choice < row_of.size(); ++choice) {
      if (row_of[choice] >= 0) body(static_cast<int>(choice), row_of[choice]);
    }
  }

  const Mesh& mesh_;
  const ExpertPlacement& placement_;
  const ToyModel model_;
  const int stage_;
  int first_layer_ = 0, num_layers_ = 0;
  bool is_last_ = false, is_spread_ = false;
  struct {
    Row rows, gradients;
    int begun = -1, ran = -1, ended = -1;
  } spread_;
  struct {
    int next_part = 0, microbatch = -1, last_complete = -1;
  } head_;
  std::vector<InFlight> in_flight_;
  struct {  // what enters and leaves the stage
    std::vector<Row> inputs;
    Row output, output_gradients[2], input_gradient;
  } boundary_;
  Row gradient_, sums_;
  ChoiceRows dx_;
  struct {  // of one layer's choices
    RowPlanner planner;
    std::vector<int32_t> experts;
    std::vector<uint8_t> sent;
  } routing_;
  std::vector<ToyResult> expected_;
};

class ToyExperts : public ExpertHost {
 public:
  static constexpr int D = ToyModel::kColumns, kKeptColumns = 2;
  explicit ToyExperts(const std::vector<int>& experts) : gradient(experts.size()), experts_(experts) {}

  void Forward(const OwnerBatch& batch, const Tensor& keep, const Tensor& y) override {
    Multiply(batch, batch.x, y);
    if (keep.empty()) return;
    for (int64_t r = batch.piece_rows().begin; r < batch.piece_rows().end; ++r) {
      for (int c = 0; c < kKeptColumns; ++c) keep.as<float>()[r * kKeptColumns + c] = Kept(batch, r, c);
    }
  }
  void BackwardInput(const OwnerBatch& batch, const Tensor& dx) override {
    for (int64_t r = batch.piece_rows().begin; r < batch.piece_rows().end; ++r) {
      for (int c = 0; c < kKeptColumns; ++c) {
        mismatches += batch.kept.as<float>()[r * kKeptColumns + c] != Kept(batch, r, c);
      }
    }
    Multiply(batch, batch.dy, dx);
  }
  // The first part keeps x, which may be gone when the second, which uses the gradients, runs.
  void BackwardWeights(const OwnerBatch& batch, WeightPart part) override {
    const int64_t size = batch.num_rows() * D;
    if (part == WeightPart::kFirst) {
      first_x_.resize(std::max<size_t>(first_x_.size(), size));
      std::copy_n(batch.x.as<float>(), size, first_x_.begin());
      return;
    }
    for (size_t e = 0; e < experts_.size(); ++e) {
      for (int64_t i = batch.expert_offsets[e] * D; i < batch.expert_offsets[e + 1] * D; ++i) {
        gradient[e] += int64_t(batch.dy.as<float>()[i]) * int64_t(first_x_[i]);
      }
    }
  }

  void FinishWeights(int64_t /*step*/) override {
    gradient_at_finish = gradient;
    if (on_finish) on_finish();
  }

  std::vector<int64_t> gradient, gradient_at_finish;  // [E]
  std::function<void()> on_finish;
  int mismatches = 0;

 private:
  std::vector<float> first_x_;
  static float Kept(const OwnerBatch& batch, int64_t row, int column) {
    const float* x = batch.x.as<float>() + row * D;
    return column == 0 ? x[0] + 2 * x[1] : x[2] + 1;
  }
  void Multiply(const OwnerBatch& batch, const Tensor& from, const Tensor& to) const {
    for (int64_t e = batch.experts.begin; e < batch.experts.end; ++e) {
      for (int64_t i = batch.expert_offsets[e] * D; i < batch.expert_offsets[e + 1] * D; ++i) {
        to.as<float>()[i] = ToyModel::Mod(ToyModel::Factor(experts_[e]) * int64_t(from.as<float>()[i]));
      }
    }
  }
  const std::vector<int>& experts_;
};

}  // namespace unipool
