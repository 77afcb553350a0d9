// Importance is what the loss does when a neuron grows: its three parts times 1 + e change the loss by e
// times the sum of <weight, gradient>.
#include "launcher/interop/neuron_importance.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "launcher/config.h"
#include "launcher/interop/measured_model.h"
#include "launcher/interop/model_weights.h"
#include "runtime/random.h"

namespace unipool {
namespace {

constexpr int64_t kLength = 12, kWidth = 5, kHidden = 8;

class NeuronImportanceTest : public testing::Test {
 protected:
  NeuronImportanceTest()
      : text_(std::filesystem::temp_directory_path() / ("neurons_" + std::to_string(getpid()) + ".txt")) {
    std::ofstream file(text_);
    for (int i = 0; i < 40; ++i) file << static_cast<char>(40 + RandomBits(7, i) % 60);
    model_.config = ParseConfig(
        "model { layers: 2 hidden: 8 heads: 2 kv_heads: 1 vocab: 256 seq_length: 12 }"
        "moe { width: 5 experts: 2 sharing: DENSE balance: NONE }",
        "settings");
    for (const auto& [name, shape] : WeightShapes(MakeModelSpec(model_.config), "")) {
      SavedModel::Weight& weight = model_.weights[name];
      weight.shape = shape;
      const bool is_norm = shape.size() == 1;
      for (int64_t i = 0; i < shape[0] * (is_norm ? 1 : shape[1]); ++i)
        weight.values[0].push_back(is_norm ? 1.F
                                           : static_cast<float>(0.4 * RandomNormal(HashBytes(name), i)));
    }
  }
  ~NeuronImportanceTest() override { std::filesystem::remove(text_); }

  std::vector<std::vector<double>> Importance(int64_t sequences) {
    std::vector<std::vector<double>> importance;
    RunWorld({.num_threads = 1}, [&](World& world) {
      importance = NeuronImportance(model_, {.source = text_.string(), .sequences = sequences}, world);
    });
    return importance;
  }

  // Mean loss of a sequence with one neuron's weights times `factor`.
  double Loss(int layer, int64_t neuron, float factor, int64_t sequence) {
    SavedModel scaled = model_;
    for (const char* part : {"gate_proj.weight", "up_proj.weight"}) {
      std::vector<float>& rows = scaled.weights.at(ExpertPrefix(layer) + part).values[0];
      for (int64_t i = 0; i < kHidden; ++i) rows[neuron * kHidden + i] *= factor;
    }
    std::vector<float>& down = scaled.weights.at(ExpertPrefix(layer) + "down_proj.weight").values[0];
    for (int64_t i = 0; i < kHidden; ++i) down[i * kWidth + neuron] *= factor;
    double loss = 0;
    RunWorld({.num_threads = 1}, [&](World& world) {
      MeasuredModel measured(scaled, 0, EngineMode::kEvaluate, world);
      const auto dataset = measured.Open(text_.string());
      loss = measured.engine().EvaluateLossSum(measured.Sequence(*dataset, sequence), 1) / kLength;
    });
    return loss;
  }

  std::filesystem::path text_;
  SavedModel model_;
};

TEST_F(NeuronImportanceTest, IsTheChangeOfTheLoss) {
  const std::vector<std::vector<double>> importance = Importance(1);
  ASSERT_EQ(importance.size(), 2U);
  for (int layer = 0; layer < 2; ++layer) {
    ASSERT_EQ(static_cast<int64_t>(importance[layer].size()), kWidth);
    for (int64_t j = 0; j < kWidth; ++j) {
      constexpr float kStep = 1.F / 64;
      const double slope = (Loss(layer, j, 1 + kStep, 0) - Loss(layer, j, 1 - kStep, 0)) / (2 * kStep);
      EXPECT_NEAR(importance[layer][j], std::abs(slope), 1e-3 + 0.01 * std::abs(slope)) << layer << " " << j;
      EXPECT_GT(importance[layer][j], 0);
    }
  }
}

// The absolute value is taken of each sequence, so signs do not cancel.
TEST_F(NeuronImportanceTest, SequencesDoNotCancel) {
  const std::vector<std::vector<double>> one = Importance(1), two = Importance(2), all = Importance(0);
  double second = 0;
  for (int64_t j = 0; j < kWidth; ++j) {
    EXPECT_GE(2 * two[0][j], one[0][j] * (1 - 1e-6)) << j;
    second += 2 * two[0][j] - one[0][j];
  }
  EXPECT_GT(second, 0);
  EXPECT_NE(all, two);  // the text has three sequences
}

}  // namespace
}  // namespace unipool
