#include "models/load_balance.h"

#include <algorithm>
#include <cstring>

#include "kernels/host_values.h"
#include "kernels/reduce.h"

namespace unipool {

namespace {
constexpr int kNumSums = 3;  // pool loss, its value at balance, zero tokens
}

LoadBalance::LoadBalance(const ModelSpec& spec, const BalanceOptions& options, const Mesh& mesh, DType dtype,
                         Stream& stream, MemoryMeter& memory)
    : spec_(spec),
      options_(options),
      mesh_(mesh),
      stream_(stream),
      groups_(spec.num_balance_groups),
      aux_values_(spec.experts) {
  const int64_t layers = spec.layers, experts = spec.experts;
  for (int l = 0; l < layers; ++l) {
    Group& group = groups_[spec.balance_group[l]];
    ++group.layers;
    group.experts = std::max(group.experts, spec.num_visible(l));
  }
  const int64_t num_typed = layers * experts + GroupSize() + experts;
  typed_ = Buffer::Allocate(memory, MemoryKind::kScratch, num_typed * SizeOf(dtype));
  const Tensor typed = typed_.View(dtype, {num_typed});
  visible_ = typed.Rows(0, layers * experts).Reshape({layers, experts});
  bias_ = typed.Rows(layers * experts, GroupSize()).Reshape({spec.num_balance_groups, experts});
  aux_ = typed.Rows(layers * experts + GroupSize(), experts);
  for (int l = 0; l < layers; ++l) {
    const std::vector<double> row(spec.visible[l].begin(), spec.visible[l].end());
    SetValues(stream, row, visible(l));
  }
  importance_buffer_ = Buffer::Allocate(memory, MemoryKind::kScratch, layers * experts * 8);
  importance_ = importance_buffer_.View(DType::kF64, {layers, experts});
  host_bias_buffer_ =
      Buffer::Allocate(host_memory_, MemoryKind::kScratch, std::max<int64_t>(1, GroupSize()) * SizeOf(dtype));
  host_bias_ = host_bias_buffer_.View(dtype, {spec.num_balance_groups, experts});
  SendBias();
  const int64_t share_rows = options.scope == BalanceScope::RANK ? mesh.shape().data_ranks() : 1;
  const int64_t num_state = share_rows * GroupSize() + 1;
  state_buffer_ = Buffer::Allocate(host_memory_, MemoryKind::kScratch, num_state * 8);
  const Tensor state = state_buffer_.View(DType::kF64, {num_state});
  state_shares_ = state.Rows(0, share_rows * GroupSize()).Reshape({share_rows, GroupSize()});
  state_step_ = state.Rows(num_state - 1, 1);
  state_step_.as<double>()[0] = -1;
  step_sums_.assign(layers * experts + kNumSums, 0);
  step_counts_.assign(layers * experts, 0);
  microbatch_counts_.assign(GroupSize(), 0);
  group_counts_.assign(GroupSize(), 0);
  shares_.assign(GroupSize(), 0);
  if (options.balance == Balance::POOL_LOSS && options.scope != BalanceScope::STEP) {
    Communicator& world = mesh.world();
    const int color = options.scope == BalanceScope::RANK ? mesh.data_rank() : 0;
    reduction_ = std::make_unique<PoolBalance>(world.Split(color, world.rank()), GroupSize(),
                                               static_cast<int>(options.microbatches_in_flight) + 2);
  }
}

Tensor LoadBalance::bias(int layer) const {
  if (options_.balance != Balance::BIAS) return {};
  return bias_.Rows(spec_.balance_group[layer], 1).Reshape({spec_.experts});
}

Tensor LoadBalance::importance(int layer) const {
  return importance_.Rows(layer, 1).Reshape({spec_.experts});
}

void LoadBalance::BeginStep(int64_t step) {
  step_ = step;
  seconds_ = 0;
  std::fill(step_sums_.begin(), step_sums_.end(), 0.0);
  std::fill(microbatch_counts_.begin(), microbatch_counts_.end(), 0.0);  // a validation may have counted
  Fill(stream_, importance_, 0);
}

void LoadBalance::AddLayer(int layer, const Tensor& counts, int64_t zero_tokens) {
  double* step_counts = step_sums_.data() + layer * spec_.experts;
  double* group_counts = microbatch_counts_.data() + spec_.balance_group[layer] * spec_.experts;
  for (int64_t i = 0; i < spec_.experts; ++i) {
    const double count = static_cast<double>(counts.as<int64_t>()[i]);
    step_counts[i] += count;
    group_counts[i] += count;
  }
  step_sums_[spec_.layers * spec_.experts + 2] += static_cast<double>(zero_tokens);
}

void LoadBalance::EndMicrobatch(int64_t microbatch) {
  const int64_t number = step_ * options_.microbatches_per_rank + microbatch;
  if (reduction_) Timed([&] { reduction_->Start(number, microbatch_counts_); });
  std::fill(microbatch_counts_.begin(), microbatch_counts_.end(), 0.0);
}

void LoadBalance::CountsToShares(const double* counts) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    const double* row = counts + g * spec_.experts;
    double total = 0;
    for (int64_t i = 0; i < spec_.experts; ++i) total += row[i];
    for (int64_t i = 0; i < spec_.experts; ++i)
      shares_[g * spec_.experts + i] = total > 0 ? row[i] / total : 0;
  }
}

// Brings the shares of the microbatch before this one into force.
void LoadBalance::RefreshShares(int64_t microbatch) {
  if (!reduction_) return;
  const int64_t number = step_ * options_.microbatches_per_rank + microbatch - 1;
  if (number < 0 || number == shares_number_ || microbatch == 0) return;
  Timed([&] { CountsToShares(reduction_->Sum(number).data()); });
  shares_number_ = number;
}

Tensor LoadBalance::AuxGradient(int layer, int64_t microbatch, const Tensor& counts,
                                const Tensor& score_sum) {
  const bool is_layer_loss = options_.balance == Balance::LAYER_LOSS;
  RefreshShares(microbatch);
  std::fill(aux_values_.begin(), aux_values_.end(), 0.0);
  if (is_layer_loss || (options_.balance == Balance::POOL_LOSS && shares_number_ >= 0)) {
    FillAux(layer, counts, score_sum);
  }
  SetValues(stream_, aux_values_, aux_);
  return aux_;
}

void LoadBalance::FillAux(int layer, const Tensor& counts, const Tensor& score_sum) {
  const Group& group = groups_[spec_.balance_group[layer]];
  const bool is_layer_loss = options_.balance == Balance::LAYER_LOSS;
  // Score sums cover this microbatch's T tokens of one layer; P is their mean over T, the group's layers
  // (pool loss) and all microbatches of the step.
  const int64_t layers = is_layer_loss ? 1 : group.layers;
  const double samples = static_cast<double>(layers * options_.tokens_per_microbatch *
                                             mesh_.shape().data_ranks() * options_.microbatches_per_rank);
  const double scale = options_.coeff * static_cast<double>(group.experts) / samples;
  const double choices = static_cast<double>(options_.tokens_per_microbatch * spec_.top_k);
  const double* shares = shares_.data() + spec_.balance_group[layer] * spec_.experts;
  double loss = 0;
  for (int64_t i = 0; i < spec_.experts; ++i) {
    const double share = is_layer_loss ? static_cast<double>(counts.as<int64_t>()[i]) / choices : shares[i];
    aux_values_[i] = scale * share;
    loss += scale * share * score_sum.as<double>()[i];
  }
  double scores = 0;
  for (int64_t i = 0; i < spec_.experts; ++i) scores += score_sum.as<double>()[i];
  double* sums = step_sums_.data() + spec_.layers * spec_.experts;
  sums[0] += loss;
  sums[1] += options_.coeff * scores / samples;  // the loss if every share were 1 / experts
}

void LoadBalance::CountGroups() {
  std::fill(group_counts_.begin(), group_counts_.end(), 0.0);
  for (int l = 0; l < spec_.layers; ++l) {
    for (int64_t i = 0; i < spec_.experts; ++i) {
      group_counts_[spec_.balance_group[l] * spec_.experts + i] += step_counts_[l * spec_.experts + i];
    }
  }
}

LoadReport LoadBalance::EndStep(std::span<double> extra) {
  const size_t fixed = spec_.layers * spec_.experts + kNumSums;
  step_sums_.resize(fixed);
  step_sums_.insert(step_sums_.end(), extra.begin(), extra.end());
  Tensor sums(step_sums_.data(), DType::kF64, {static_cast<int64_t>(step_sums_.size())});
  Timed([&] { mesh_.world().AllReduceSum(sums, {.operation = "step statistics", .step = step_}); });
  std::copy(step_sums_.begin() + fixed, step_sums_.end(), extra.begin());
  std::copy_n(step_sums_.begin(), step_counts_.size(), step_counts_.begin());

  CountGroups();
  LoadReport report = MakeReport();
  if (options_.balance == Balance::BIAS) UpdateBias();
  shares_number_ = LastNumberOf(step_);
  if (reduction_) {
    Timed([&] { CountsToShares(reduction_->Sum(shares_number_).data()); });
  } else {
    CountsToShares(group_counts_.data());
  }
  report.seconds = seconds_;
  return report;
}

LoadReport LoadBalance::MakeReport() const {
  LoadReport report;
  const double* sums = step_sums_.data() + spec_.layers * spec_.experts;
  report.pool_loss = sums[0];
  report.pool_loss_at_balance = sums[1];
  const double token_layers =
      static_cast<double>(spec_.layers * options_.tokens_per_microbatch * mesh_.shape().data_ranks() *
                          options_.microbatches_per_rank);
  report.zero_score_share = sums[2] / token_layers;
  if (options_.balance == Balance::POOL_LOSS && shares_number_ >= 0) {
    report.shares_age = LastNumberOf(step_) - shares_number_;
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    const double* row = group_counts_.data() + g * spec_.experts;
    double total = 0, largest = 0;
    for (int64_t i = 0; i < spec_.experts; ++i) {
      total += row[i];
      largest = std::max(largest, row[i]);
    }
    const double mean = total / static_cast<double>(groups_[g].experts);
    if (mean > 0) report.max_violation = std::max(report.max_violation, largest / mean - 1);
  }
  for (int64_t i = 0; i < spec_.experts; ++i) report.dead_experts += IsDead(i);
  return report;
}

bool LoadBalance::IsDead(int64_t expert) const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (group_counts_[g * spec_.experts + expert] > 0) return false;
  }
  return true;
}

void LoadBalance::UpdateBias() {
  DispatchFloat(host_bias_.dtype, [&]<class T>() {
    for (int l = 0; l < spec_.layers; ++l) {
      const int g = spec_.balance_group[l];
      if (l > 0 && spec_.balance_group[l - 1] == g) continue;  // once per group
      const double* row = group_counts_.data() + g * spec_.experts;
      double total = 0;
      for (int64_t i = 0; i < spec_.experts; ++i) total += row[i];
      const double mean = total / static_cast<double>(groups_[g].experts);
      for (int64_t i = 0; i < spec_.experts; ++i) {
        if (spec_.visible[l][i] == 0) continue;
        const double sign = row[i] < mean ? 1 : row[i] > mean ? -1 : 0;
        host_bias_.as<T>()[g * spec_.experts + i] += static_cast<T>(options_.coeff * sign);
      }
    }
  });
  SendBias();
}

void LoadBalance::SendBias() {
  if (options_.balance != Balance::BIAS) return;
  bias_values_.resize(GroupSize());
  DispatchFloat(host_bias_.dtype,
                [&]<class T>() { std::copy_n(host_bias_.as<T>(), GroupSize(), bias_values_.begin()); });
  SetValues(stream_, bias_values_, bias_.Reshape({GroupSize()}));
}

void LoadBalance::CollectState() {
  const int64_t row = options_.scope == BalanceScope::RANK ? mesh_.data_rank() : 0;
  std::memset(state_shares_.data, 0, state_shares_.bytes());
  // Stages of one data rank hold the same shares: one of them contributes.
  if (options_.scope != BalanceScope::RANK || mesh_.position().stage == 0) {
    std::copy(shares_.begin(), shares_.end(), state_shares_.as<double>() + row * GroupSize());
  }
  if (options_.scope == BalanceScope::RANK)
    mesh_.world().AllReduceSum(state_shares_, {.operation = "balance state", .step = step_});
  state_step_.as<double>()[0] = static_cast<double>(shares_number_ < 0 ? -1 : step_);
}

std::vector<DiskTensor> LoadBalance::State() const {
  if (options_.balance != Balance::POOL_LOSS) return {};
  const int64_t rows = state_shares_.dim(0);
  const std::string name = options_.scope == BalanceScope::RANK
                               ? Format("balance.shares_of_%d_ranks", static_cast<int>(rows))
                           : options_.scope == BalanceScope::STEP ? "balance.step_shares"
                                                                  : "balance.microbatch_shares";
  return {{.name = name, .shape = {rows, GroupSize()}, .value = state_shares_, .optional = true},
          {.name = name + ".step", .shape = {1}, .value = state_step_, .optional = true}};
}

void LoadBalance::StateLoaded() {
  const int64_t row = options_.scope == BalanceScope::RANK ? mesh_.data_rank() : 0;
  const double* loaded = state_shares_.as<double>() + row * GroupSize();
  std::copy(loaded, loaded + GroupSize(), shares_.begin());
  const auto step = static_cast<int64_t>(state_step_.as<double>()[0]);
  shares_number_ = LastNumberOf(step);
  step_ = std::max<int64_t>(step, 0);
}

std::vector<DiskTensor> LoadBalance::BiasTensors(Range layers) const {
  std::vector<DiskTensor> list;
  if (options_.balance != Balance::BIAS) return list;
  for (int64_t l = layers.begin; l < layers.end; ++l) {
    list.push_back({.name = "model.layers." + std::to_string(l) + ".mlp.router.bias",
                    .shape = {spec_.experts},
                    .value = host_bias_.Rows(spec_.balance_group[l], 1).Reshape({spec_.experts}),
                    .optional = true});
  }
  return list;
}

}  // namespace unipool
