#include "launcher/size_check.h"

#include <algorithm>
#include <cmath>

#include "runtime/errors.h"
#include "runtime/host_memory.h"

namespace unipool {
namespace {

constexpr double kMostNumbers = 9.0e15;      // of a model: below 2^53, so that bytes fit 63 bits many times
constexpr double kMostRows = 2147483647;     // of one microbatch: kernels count rows in 32 bits
constexpr double kMostLogits = 2147483647;   // at once: a product counts its numbers in 32 bits
constexpr double kMostSlots = 1 << 20;       // microbatches x layers of a step: the schedule's table
constexpr double kMostVisible = 1 << 26;     // layers x experts: which layer sees which expert
constexpr double kMostTokensOfRun = 9.0e18;  // below 2^63
constexpr double kMostBytesOfStep = 1.0e18;  // so that sums of a few such arrays are below 2^63

struct Limit {
  const char* field;
  double value, most;
};

double Size(double value) {
  return std::max(value, 0.0);
}

std::vector<Limit> LimitsOf(const Config& config, int world_size) {
  const ModelConfig& model = config.model();
  const MoeConfig& moe = config.moe();
  return {{"model.layers", double(model.layers()), 16384},
          {"model.hidden", double(model.hidden()), 1 << 20},
          {"model.heads", double(model.heads()), 1 << 20},
          {"model.kv_heads", double(model.kv_heads()), 1 << 20},
          {"model.seq_length", double(model.seq_length()), 1 << 24},
          {"model.vocab", double(model.vocab()), 1 << 24},
          {"model.vocab_multiple", double(model.vocab_multiple()), 1 << 24},
          {"moe.experts", double(moe.experts()), 1 << 17},
          {"moe.width", double(moe.width()), 1 << 20},
          {"train.micro_batch", double(config.train().micro_batch()), 1 << 24},
          {"parallel.ranks", double(std::max(config.parallel().ranks(), world_size)), 1 << 16},
          {"parallel.stages", double(config.parallel().stages()), 16384},
          {"parallel.pool_replicas", double(config.parallel().pool_replicas()), 1 << 16}};
}

// Products of sizes that each may be.
std::vector<Limit> ProductsOf(const Config& config, int world_size) {
  const TrainConfig& train = config.train();
  const double hidden = Size(config.model().hidden()), seq = Size(config.model().seq_length());
  const double experts = Size(config.moe().experts()), layers = Size(config.model().layers());
  const double rows = Size(train.micro_batch()) * seq * std::max(1, config.moe().top_k());
  const double widest = std::max({4 * hidden, 4 * Size(config.moe().width()), experts,
                                  Size(config.model().vocab()), Size(config.model().vocab_multiple())});
  const double ranks = std::max(1, world_size);
  const double data = std::max(1, world_size / std::max(1, config.parallel().stages()));
  const double microbatches = Size(train.global_batch()) / std::max(1.0, Size(train.micro_batch()) * data);
  return {
      {"train.micro_batch x model.seq_length x moe.top_k, rows of a microbatch", rows, kMostRows},
      {"train.head_tokens x model.vocab, logits at once",
       Size(train.head_tokens()) * Size(config.model().vocab()), kMostLogits},
      {"the rows of a step (train.micro_batch x model.seq_length x moe.top_k x ranks x model.layers x "
       "microbatches) in bytes",
       4 * rows * widest * ranks * layers * std::max(1.0, microbatches), kMostBytesOfStep},
      {"microbatches of a step and rank (train.global_batch / train.micro_batch / data ranks) x model.layers",
       microbatches * layers, kMostSlots},
      {"model.layers x moe.experts", layers * experts, kMostVisible},
      {"train.steps x train.global_batch x model.seq_length, tokens of the run",
       Size(double(train.steps())) * Size(train.global_batch()) * seq, kMostTokensOfRun}};
}

std::string NumberText(double value) {
  return value < 1e15 ? Format("%.0f", value) : Format("%.3g", value);
}

}  // namespace

std::vector<SizeCost> EstimateCosts(const Config& config, int ranks) {
  const ModelConfig& m = config.model();
  const MoeConfig& moe = config.moe();
  const double hidden = Size(m.hidden()), layers = Size(m.layers()), experts = Size(moe.experts());
  const double multiple = std::max(1, m.vocab_multiple());
  const double vocab = std::ceil(Size(m.vocab()) / multiple) * multiple;
  const double kv_share = 1 + Size(m.kv_heads()) / std::max(1, m.heads());
  const double bytes = 4 * 4;  // weight, gradient and two moments
  const double copies = std::max(1.0, double(ranks) / std::max(1, config.parallel().stages()));
  const double dense_bytes = bytes / 2 * (copies + 1);
  const double tokens = Size(config.train().micro_batch()) * Size(m.seq_length());
  const double columns = 8 * hidden + Size(moe.top_k()) * (2 * hidden + 3 * Size(moe.width())) + experts;
  std::vector<SizeCost> costs = {
      {"moe.experts x moe.width x model.hidden", bytes * 3 * experts * Size(moe.width()) * hidden},
      {"model.vocab x model.hidden", dense_bytes * 2 * vocab * hidden},
      {"model.layers x model.hidden x (model.hidden + moe.experts)",
       dense_bytes * layers * hidden * (2 * kv_share * hidden + experts + 2)},
      {"train.micro_batch x model.seq_length x model.layers", 4 * tokens * layers * columns * copies}};
  std::stable_sort(costs.begin(), costs.end(),
                   [](const SizeCost& a, const SizeCost& b) { return a.bytes > b.bytes; });
  return costs;
}

std::string SizeText(double bytes) {
  if (bytes >= 1e15) return Format("%.3g GB", bytes / 1e9);
  if (bytes >= 1e9) return Format("%.1f GB", bytes / 1e9);
  return Format("%.0f MB", std::ceil(bytes / 1e6));
}

std::string CostText(const std::vector<SizeCost>& costs, double need) {
  std::string text = "need " + SizeText(need) + " (most for ";
  for (size_t i = 0; i < std::min<size_t>(2, costs.size()); ++i) {
    text += (i > 0 ? ", " : "") + costs[i].settings + ": " + SizeText(costs[i].bytes);
  }
  return text + ")";
}

std::vector<std::string> ImpossibleSizes(const Config& config, int world_size) {
  std::vector<std::string> problems;
  const auto check = [&](const std::vector<Limit>& limits) {
    for (const Limit& limit : limits) {
      if (limit.value <= limit.most) continue;
      problems.push_back(Format("%s: is %s; must be at most %s", limit.field, NumberText(limit.value).c_str(),
                                NumberText(limit.most).c_str()));
    }
  };
  check(LimitsOf(config, world_size));
  if (problems.empty()) check(ProductsOf(config, world_size));
  const std::vector<SizeCost> costs = EstimateCosts(config, world_size);
  double need = 0;
  for (const SizeCost& cost : costs) need += cost.bytes;
  if (problems.empty() && need / 16 > kMostNumbers)
    problems.emplace_back("the model: is too large to be counted");
  if (problems.empty()) return problems;
  const MemoryLimit have = HostMemoryLimit();
  problems.back() += "; these settings " + CostText(costs, need);
  if (have.bytes != kNoMemoryLimit)
    problems.back() +=
        Format(" of memory; there are %s (%s)", SizeText(double(have.bytes)).c_str(), have.name.c_str());
  return problems;
}

}  // namespace unipool
