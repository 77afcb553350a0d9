// The whole model once more, as plainly as its formulas can be written: one sequence, one number at a time,
// double, no batches, no ranks. It reads weights by their names on disk.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "configs/config.pb.h"
#include "models/parameter.h"
#include "models/settings.h"
#include "tests/kernels/reference_scores.h"

namespace unipool {

class ReferenceModel {
 public:
  using Vector = std::vector<double>;

  struct Choice {
    Vector scores;            // [M], 0 where the layer cannot see
    std::vector<int> chosen;  // [K], falling
  };
  struct Result {
    double loss_sum = 0;
    std::vector<Vector> log_probabilities;     // [s][V] of the next token
    std::vector<std::vector<Choice>> choices;  // [L][s]
  };

  // Copies the weights, which are those of the whole model.
  ReferenceModel(const Config& config, const std::vector<DiskTensor>& tensors) : config_(config) {
    for (const DiskTensor& tensor : tensors) {
      Vector& values = weights_[tensor.name];
      DispatchFloat(tensor.value.dtype, [&]<class T>() {
        values.assign(tensor.value.as<T>(), tensor.value.as<T>() + tensor.value.size());
      });
    }
  }

  int num_groups() const {
    const MoeConfig& moe = config_.moe();
    return moe.sharing() == Sharing::GLOBAL    ? 1
           : moe.sharing() == Sharing::SLIDING ? 1
           : moe.sharing() == Sharing::GROUPED ? moe.groups()
                                               : config_.model().layers();
  }
  int group_of(int layer) const { return layer * num_groups() / config_.model().layers(); }
  int experts_per_group() const { return config_.moe().experts() / num_groups(); }
  // Of the biases of a router, on disk.
  std::string BiasName() const {
    return config_.moe().bias_scope() == BiasScope::LAYER ? "layer_bias" : "bias";
  }
  bool sees(int layer, int expert) const {
    const MoeConfig& moe = config_.moe();
    if (moe.sharing() != Sharing::SLIDING) return expert / experts_per_group() == group_of(layer);
    const int steps = std::max(1, config_.model().layers() - 1);
    const int first = (moe.experts() - moe.band()) * layer / steps;
    return expert >= first && expert < first + moe.band();
  }
  bool may_choose(int layer, int expert) const {
    const auto attenuation = weights_.find(Prefix(layer) + "mlp.router.attenuation");
    return sees(layer, expert) && (attenuation == weights_.end() || attenuation->second[expert] > 0);
  }
  Vector& weight(const std::string& name) { return weights_.at(name); }

  // sample: s + 1 tokens.
  Result Forward(const int32_t* sample) const {
    const ModelConfig& m = config_.model();
    const int s = m.seq_length(), d = m.hidden();
    Result result;
    std::vector<Vector> x(s);
    for (int t = 0; t < s; ++t) {
      const Vector& table = weights_.at("model.embed_tokens.weight");
      x[t].assign(table.begin() + sample[t] * d, table.begin() + (sample[t] + 1) * d);
    }
    result.choices.resize(m.layers());
    for (int layer = 0; layer < m.layers(); ++layer) {
      x = Attention(layer, x);
      for (int t = 0; t < s; ++t) result.choices[layer].push_back(Moe(layer, x[t]));
    }
    for (int t = 0; t < s; ++t) {
      Vector logits = Times("lm_head.weight", Norm("model.norm.weight", x[t]));
      const double largest = *std::max_element(logits.begin(), logits.end());
      double sum = 0;
      for (double z : logits) sum += std::exp(z - largest);
      for (double& z : logits) z -= largest + std::log(sum);
      result.loss_sum -= logits[sample[t + 1]];
      result.log_probabilities.push_back(std::move(logits));
    }
    return result;
  }

 private:
  static std::string Prefix(int layer) { return "model.layers." + std::to_string(layer) + "."; }

  Vector Times(const std::string& name, const Vector& x) const {
    const Vector& w = weights_.at(name);
    Vector y(w.size() / x.size(), 0.0);
    for (size_t i = 0; i < y.size(); ++i) {
      for (size_t j = 0; j < x.size(); ++j) y[i] += w[i * x.size() + j] * x[j];
    }
    return y;
  }

  Vector Norm(const std::string& name, Vector x) const {
    const Vector& w = weights_.at(name);
    double squares = 0;
    for (double value : x) squares += value * value;
    const double rms = std::sqrt(squares / static_cast<double>(x.size()) + config_.model().norm_eps());
    for (size_t i = 0; i < x.size(); ++i) x[i] = x[i] / rms * w[i];
    return x;
  }

  // Rotates one head: the pair (i, i + d/2) by the angle position * base^(-2 i / d).
  void Rotate(double* head, int size, int position) const {
    for (int i = 0; i < size / 2; ++i) {
      const double angle = position * std::pow(config_.model().rope_base(), -2.0 * i / size);
      const double a = head[i], b = head[i + size / 2];
      head[i] = a * std::cos(angle) - b * std::sin(angle);
      head[i + size / 2] = b * std::cos(angle) + a * std::sin(angle);
    }
  }

  std::vector<Vector> Attention(int layer, const std::vector<Vector>& x) const {
    const ModelConfig& m = config_.model();
    const int size = m.hidden() / m.heads(), share = m.heads() / m.kv_heads();
    const std::string attention = Prefix(layer) + "self_attn.";
    std::vector<Vector> k, v, out;
    for (int t = 0; t < static_cast<int>(x.size()); ++t) {
      const Vector normed = Norm(Prefix(layer) + "input_layernorm.weight", x[t]);
      Vector q = Times(attention + "q_proj.weight", normed);
      k.push_back(Times(attention + "k_proj.weight", normed));
      v.push_back(Times(attention + "v_proj.weight", normed));
      for (int h = 0; h < m.heads(); ++h) Rotate(q.data() + h * size, size, t);
      for (int g = 0; g < m.kv_heads(); ++g) Rotate(k[t].data() + g * size, size, t);
      Vector mixed(m.hidden(), 0.0);
      for (int h = 0; h < m.heads(); ++h) {
        const int first = h / share * size;
        Vector p(t + 1);
        for (int u = 0; u <= t; ++u) {
          double dot = 0;
          for (int i = 0; i < size; ++i) dot += q[h * size + i] * k[u][first + i];
          p[u] = std::exp(dot / std::sqrt(size));
        }
        const double sum = std::accumulate(p.begin(), p.end(), 0.0);
        for (int u = 0; u <= t; ++u) {
          for (int i = 0; i < size; ++i) mixed[h * size + i] += p[u] / sum * v[u][first + i];
        }
      }
      out.push_back(Times(attention + "o_proj.weight", mixed));
      for (int i = 0; i < m.hidden(); ++i) out[t][i] += x[t][i];
    }
    return out;
  }

  Vector Scores(int layer, const Vector& x) const {
    const std::string router = Prefix(layer) + "mlp.router.";
    const Vector z = Times(router + "weight", x);
    Vector visible(z.size());
    for (int i = 0; i < config_.moe().experts(); ++i) visible[i] = sees(layer, i);
    const RouterKind kind = RouterKindOf(config_.moe().router());
    const double scale =
        HasSigma(kind) ? weights_.at(router + "scale")[0] * config_.moe().router_constant() : 0;
    const auto attenuation = weights_.find(router + "attenuation");
    return ReferenceScores(kind, scale, visible, z,
                           attenuation == weights_.end() ? Vector{} : attenuation->second);
  }

  Choice Choose(int layer, const Vector& x) const {
    const int experts = config_.moe().experts();
    Choice choice{.scores = Vector(experts, 0.0)};
    if (config_.moe().sharing() == Sharing::DENSE) {
      choice.scores[layer] = 1;
      choice.chosen = {layer};
      return choice;
    }
    choice.scores = Scores(layer, x);
    const auto bias = weights_.find(Prefix(layer) + "mlp.router." + BiasName());
    const bool positive_first = config_.moe().balance_counts() == BalanceCounts::POSITIVE;
    std::vector<std::pair<double, int>> order;  // the key's negative, the expert: ties to the lower
    for (int i = 0; i < experts; ++i) {
      double key = choice.scores[i] + (bias == weights_.end() ? 0 : bias->second[i]);
      if (positive_first && !(choice.scores[i] > 0)) key = -1e9;
      if (may_choose(layer, i)) order.emplace_back(-key, i);
    }
    std::sort(order.begin(), order.end());
    for (int k = 0; k < config_.moe().top_k(); ++k) choice.chosen.push_back(order[k].second);
    return choice;
  }

  // Adds the layer's lower half to x.
  Choice Moe(int layer, Vector& x) const {
    const Vector normed = Norm(Prefix(layer) + "post_attention_layernorm.weight", x);
    const Choice choice = Choose(layer, normed);
    for (int expert : choice.chosen) {
      const std::string name = "model.pool.experts." + std::to_string(expert) + ".";
      Vector gate = Times(name + "gate_proj.weight", normed);
      const Vector up = Times(name + "up_proj.weight", normed);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      const Vector y = Times(name + "down_proj.weight", gate);
      for (size_t i = 0; i < x.size(); ++i) x[i] += choice.scores[expert] * y[i];
    }
    return choice;
  }

  const Config config_;
  std::map<std::string, Vector> weights_;
};

}  // namespace unipool
