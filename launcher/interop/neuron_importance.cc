#include "launcher/interop/neuron_importance.h"

#include <algorithm>
#include <cmath>

#include "launcher/interop/measured_model.h"

namespace unipool {
namespace {

// <weight, gradient> of each neuron of an expert, gate, up and down together: [F].
std::vector<double> Products(const Tensor& gate_up, const Tensor& gate_up_grad, const Tensor& down,
                             const Tensor& down_grad, int64_t width, int64_t hidden) {
  std::vector<double> products(width);
  const float *w = gate_up.as<float>(), *g = gate_up_grad.as<float>();
  for (int64_t row = 0; row < 2 * width; ++row) {
    double sum = 0;
    for (int64_t i = row * hidden; i < (row + 1) * hidden; ++i) sum += double{w[i]} * double{g[i]};
    products[row % width] += sum;
  }
  w = down.as<float>();
  g = down_grad.as<float>();
  for (int64_t row = 0; row < hidden; ++row) {
    for (int64_t j = 0; j < width; ++j)
      products[j] += double{w[row * width + j]} * double{g[row * width + j]};
  }
  return products;
}

Tensor OfExpert(const Tensor& all, int e) {
  const int64_t size = all.size() / all.dim(0);
  return Tensor(all.as<float>() + e * size, DType::kF32, {size});
}

}  // namespace

std::vector<std::vector<double>> NeuronImportance(const SavedModel& model, const ImportanceData& data,
                                                  World& world) {
  CHECK_EQ(model.config.moe().sharing(), Sharing::DENSE);
  MeasuredModel measured(model, data.seq_length, EngineMode::kTrain, world);
  const std::unique_ptr<TokenDataset> dataset = measured.Open(data.source);
  const int64_t all = dataset->samples_per_epoch();
  const int64_t sequences = data.sequences > 0 ? std::min(data.sequences, all) : all;
  const ExpertPool& experts = measured.engine().parts().experts;
  const int64_t width = model.config.moe().width(), hidden = model.config.model().hidden();
  std::vector<std::vector<double>> importance(experts.num_local(), std::vector<double>(width));
  for (int64_t sequence = 0; sequence < sequences; ++sequence) {
    measured.engine().ForwardBackward(sequence, measured.Sequence(*dataset, sequence));
    for (int e = 0; e < experts.num_local(); ++e) {
      const std::vector<double> products =
          Products(OfExpert(experts.master().gate_up, e), OfExpert(experts.grads().gate_up, e),
                   OfExpert(experts.master().down, e), OfExpert(experts.grads().down, e), width, hidden);
      std::vector<double>& sums = importance[experts.local_experts()[e]];
      for (int64_t j = 0; j < width; ++j) sums[j] += std::abs(products[j]) / static_cast<double>(sequences);
    }
  }
  return importance;
}

}  // namespace unipool
