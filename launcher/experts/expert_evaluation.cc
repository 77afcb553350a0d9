#include "launcher/experts/expert_evaluation.h"

#include <algorithm>

#include "models/decision_margin.h"
#include "models/routing_probe.h"

namespace unipool {
namespace {

struct Probes : ForwardProbe {
  std::vector<ForwardProbe*> all;
  void Routed(int layer, const Router::Saved& router, int64_t tokens) override {
    for (ForwardProbe* probe : all) probe->Routed(layer, router, tokens);
  }
  void Left(int layer, const Tensor& hidden, const Tensor& targets, int64_t tokens) override {
    for (ForwardProbe* probe : all) probe->Left(layer, hidden, targets, tokens);
  }
};

// The last stage has them.
OutputWeights GatherOutput(TrainingEngine& engine, Communicator& world) {
  const ModelSpec& spec = engine.parts().spec;
  OutputWeights output{.norm = std::vector<float>(spec.hidden),
                       .head = std::vector<float>(spec.padded_vocab * spec.hidden)};
  const auto fill = [&](const DiskTensor& tensor, std::vector<float>& to) {
    DispatchFloat(tensor.value.dtype,
                  [&]<class T>() { std::copy_n(tensor.value.as<T>(), to.size(), to.begin()); });
  };
  for (const DiskTensor& tensor : engine.state().Weights()) {
    if (!tensor.writes) continue;
    if (tensor.name == "model.norm.weight") fill(tensor, output.norm);
    if (tensor.name == "lm_head.weight") fill(tensor, output.head);
  }
  for (std::vector<float>* numbers : {&output.norm, &output.head}) {  // 0 on all ranks but one
    world.AllReduceSum(Tensor(numbers->data(), DType::kF32, {static_cast<int64_t>(numbers->size())}),
                       {.operation = "output weights"});
  }
  return output;
}

}  // namespace

ExpertEvaluation::ExpertEvaluation(TrainingEngine& engine, BatchReader& reader, World& world,
                                   int64_t sequences)
    : engine_(engine), reader_(reader), world_(world), sequences_(sequences) {}

double ExpertEvaluation::Loss(ForwardProbe* probe) {
  LanguageModel& model = engine_.parts().model;
  model.SetProbe(probe);
  const double loss = MeanLoss(engine_, reader_, sequences_)->loss;
  model.SetProbe(nullptr);
  return loss;
}

double ExpertEvaluation::Count(bool with_margin, ExpertTables& tables) {
  const EngineParts& parts = engine_.parts();
  const ModelSpec& spec = parts.spec;
  RoutingProbe routing(spec, {}, parts.place.device());
  std::optional<DecisionMargin> margin;
  Probes probes;
  probes.all = {&routing};
  if (with_margin) {
    margin.emplace(spec, GatherOutput(engine_, *world_.communicator), parts.place.device());
    probes.all.push_back(&*margin);
  }
  const double loss = Loss(&probes);
  routing.Reduce(*world_.communicator);
  tables = {.layers = spec.layers,
            .experts = spec.experts,
            .top_k = spec.top_k,
            .tokens = routing.tokens(0),
            .counts = routing.counts(),
            .mass = routing.mass()};
  if (const ImportanceHistory& history = parts.use.history; history.exists()) {
    tables.importance = history.Mean();
    tables.ucb = history.Ucb();
    tables.windows = history.windows();
  }
  if (!margin) return loss;
  margin->Reduce(*world_.communicator);
  for (int layer = 0; layer < spec.layers; ++layer) {
    tables.margin.push_back(margin->mean(layer));
    tables.ahead.push_back(margin->share_ahead(layer));
  }
  return loss;
}

double ExpertEvaluation::NormRatios(const std::vector<int64_t>& kept, std::vector<double>& ratios) {
  const EngineParts& parts = engine_.parts();
  RoutingProbe routing(parts.spec, kept, parts.place.device());
  const double loss = Loss(&routing);
  routing.Reduce(*world_.communicator);
  ratios.clear();
  for (int layer = 0; layer < parts.spec.layers; ++layer) ratios.push_back(routing.norm_ratio(layer));
  return loss;
}

std::optional<double> ExpertEvaluation::LossWithout(int64_t expert) {
  ExpertUse& use = engine_.parts().use;
  const int layers = static_cast<int>(use.spec.layers);
  std::vector<std::vector<float>> before;
  for (int layer = 0; layer < layers; ++layer) {
    const std::span<const float> factors = use.visibility.of(layer);
    before.emplace_back(factors.begin(), factors.end());
    if (use.visibility.num_choosable(layer) - (factors[expert] > 0) < use.spec.top_k) return {};
  }
  for (int layer = 0; layer < layers; ++layer) {
    std::vector<float> factors = before[layer];
    factors[expert] = 0;
    use.visibility.Set(layer, factors);
  }
  use.VisibilityChanged();
  const double loss = Loss(nullptr);
  for (int layer = 0; layer < layers; ++layer) use.visibility.Set(layer, before[layer]);
  use.VisibilityChanged();
  return loss;
}

}  // namespace unipool
