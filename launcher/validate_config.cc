// ValidateConfig: what can be known to be wrong from the settings and the number of ranks alone.
#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "kernels/attention.h"
#include "kernels/grouped_gemm.h"
#include "launcher/config.h"
#include "launcher/data/data_split.h"
#include "launcher/lock_check.h"
#include "launcher/nearest_name.h"
#include "launcher/run_control/stop_time.h"
#include "launcher/shadow_check.h"
#include "launcher/size_check.h"
#include "models/fading_experts.h"
#include "models/settings.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

std::string DivisorsOf(int64_t n) {
  std::vector<std::string> divisors;
  for (int64_t d = 1; d <= n; ++d) {
    if (n % d == 0) divisors.push_back(std::to_string(d));
  }
  return JoinNames(divisors);
}

class Validation {
 public:
  Validation(const Config& config, int world_size) : config_(config), world_(world_size) {}

  void Run() {
    // What follows computes with the sizes.
    for (std::string& problem : ImpossibleSizes(config_, world_)) problems_.Add(std::move(problem));
    problems_.ThrowIfAny();
    Model();
    Moe();
    Train();
    Data();
    Parallel();
    Traffic();
    DeviceSettings();
    for (std::string& problem : LockProblems(config_)) problems_.Add(std::move(problem));
    if (config_.run_dir().empty()) problems_.Add("run_dir: is empty; name the folder of this run's files");
    problems_.ThrowIfAny();
  }

 private:
  // ---- one value
  template <class T>
  bool AtLeast(const char* field, T value, T least) {
    if (value >= least) return true;
    std::ostringstream text;
    text << field << ": is " << value << "; must be at least " << least;
    problems_.Add(text.str());
    return false;
  }
  void Positive(const char* field, double value) {
    if (!(value > 0) || !std::isfinite(value))
      return problems_.Add(Format("%s: is %g; must be greater than 0", field, value));
    FitsF32(field, value);
  }
  void NotNegative(const char* field, double value) {
    if (!(value >= 0) || !std::isfinite(value))
      return problems_.Add(Format("%s: is %g; must not be negative", field, value));
    FitsF32(field, value);
  }
  // Kernels compute with the value as FP32: infinity, or 0 where it is not, would be another setting.
  void FitsF32(const char* field, double value) {
    using F32 = std::numeric_limits<float>;
    if (value == 0 || (value >= F32::min() && value <= F32::max())) return;
    problems_.Add(Format("%s: is %g, which FP32 cannot hold; must be %sfrom %.3g to %.3g", field, value,
                         value < 1 ? "0 (where that is allowed) or " : "", F32::min(), F32::max()));
  }
  // A limit of the watchdog: milliseconds that fit, or 0.
  void WatchdogSeconds(const char* field, double value) {
    if (value == 0 || (value >= 1e-3 && value <= 1e9)) return;
    problems_.Add(Format("%s: is %g; must be from 0.001 to 1e9 seconds, or 0 to turn it off", field, value));
  }
  void Fraction(const char* field, double value, bool one_allowed) {
    if (value >= 0 && (one_allowed ? value <= 1 : static_cast<float>(value) < 1)) return;
    problems_.Add(Format("%s: is %g; must be from 0 to %s1", field, value, one_allowed ? "" : "below "));
  }
  // b divides a. Both are known to be at least 1.
  void Divides(const char* field, int64_t a, const char* divisor_field, int64_t b) {
    if (a % b == 0) return;
    problems_.Add(Format("%s: is %d, which is not divisible by %s (%d); %s may be %s, or %s a multiple of %d",
                         field, a, divisor_field, b, divisor_field, DivisorsOf(a).c_str(), field, b));
  }

  // ---- groups of settings
  void Model() {
    const ModelConfig& m = config_.model();
    AtLeast("model.layers", m.layers(), 1);
    AtLeast("model.seq_length", m.seq_length(), 1);
    AtLeast("model.vocab", m.vocab(), 1);
    AtLeast("model.vocab_multiple", m.vocab_multiple(), 1);
    Positive("model.rope_base", m.rope_base());
    Positive("model.norm_eps", m.norm_eps());
    NotNegative("model.init_std", m.init_std());
    const bool heads = AtLeast("model.heads", m.heads(), 1),
               kv_heads = AtLeast("model.kv_heads", m.kv_heads(), 1);
    if (!AtLeast("model.hidden", m.hidden(), 1) || !heads) return;
    Divides("model.hidden", m.hidden(), "model.heads", m.heads());
    if (kv_heads) Divides("model.heads", m.heads(), "model.kv_heads", m.kv_heads());
    if (m.hidden() % m.heads() == 0 && m.hidden() / m.heads() % 2 != 0) {
      problems_.Add(Format(
          "model.heads: %d heads of model.hidden %d have %d columns each; rotary positions need an even "
          "number",
          m.heads(), m.hidden(), m.hidden() / m.heads()));
    }
  }

  void Moe() {
    const MoeConfig& m = config_.moe();
    const bool experts = AtLeast("moe.experts", m.experts(), 1), top_k = AtLeast("moe.top_k", m.top_k(), 1);
    AtLeast("moe.width", m.width(), 1);
    NotNegative("moe.router_constant", m.router_constant());
    NotNegative("moe.balance_coeff", m.balance_coeff());
    const bool groups = AtLeast("moe.groups", m.groups(), 1);
    if (experts && groups && config_.model().layers() >= 1) {
      const int visible = ExpertsVisible();
      if (visible > 0 && top_k && m.top_k() > visible) {
        problems_.Add(Format(
            "moe.top_k: is %d, but each layer sees %d of the %d experts (moe.sharing %s); must be at most %d",
            m.top_k(), visible, m.experts(), Sharing::Value_Name(m.sharing()).c_str(), visible));
      }
    }
    MoeCombinations();
    if (!experts || !top_k || !groups || config_.model().layers() < 1) return;
    for (std::string& problem : FadingProblems(config_)) problems_.Add(std::move(problem));
  }

  // Experts that each layer sees; 0 when the numbers do not fit (reported).
  int ExpertsVisible() {
    const MoeConfig& m = config_.moe();
    const int layers = config_.model().layers();
    switch (m.sharing()) {
      case Sharing::GLOBAL:
        return m.experts();
      case Sharing::GROUPED:
        Divides("model.layers", layers, "moe.groups", m.groups());
        Divides("moe.experts", m.experts(), "moe.groups", m.groups());
        return m.experts() % m.groups() == 0 ? m.experts() / m.groups() : 0;
      case Sharing::PRIVATE:
        if (m.experts() % layers == 0) return m.experts() / layers;
        problems_.Add(
            Format("moe.experts: is %d; with sharing PRIVATE it counts the experts of all %d layers together "
                   "and must be a multiple of %d (8 per layer: %d)",
                   m.experts(), layers, layers, 8 * layers));
        return 0;
      case Sharing::SLIDING: {
        const int least = (m.experts() + layers - 1) / layers;
        if (m.band() >= least && m.band() <= m.experts()) return m.band();
        problems_.Add(
            Format("moe.band: is %d; with sharing SLIDING each layer sees a band of so many of the %d "
                   "experts; must be from %d (the %d layers together then see all) to %d (GLOBAL)",
                   m.band(), m.experts(), least, layers, m.experts()));
        return 0;
      }
      case Sharing::DENSE:
        if (m.experts() != layers) {
          problems_.Add(
              Format("moe.experts: is %d; with sharing DENSE each layer has one expert, so it must equal "
                     "model.layers (%d)",
                     m.experts(), layers));
        }
        return 1;
    }
    return 0;
  }

  void MoeCombinations() {
    const MoeConfig& m = config_.moe();
    if (m.sharing() == Sharing::DENSE && m.balance() != Balance::NONE) {
      problems_.Add("moe.balance: is " + Balance::Value_Name(m.balance()) +
                    ", but with sharing DENSE nothing is chosen and nothing can be balanced; set it to NONE");
    }
    if (m.sharing() != Sharing::GROUPED && m.groups() > 1) {
      problems_.Add(
          Format("moe.groups: is %d, but is used only with moe.sharing GROUPED (now %s); set one of the two",
                 m.groups(), Sharing::Value_Name(m.sharing()).c_str()));
    }
    if (m.sharing() != Sharing::SLIDING && m.band() != 0) {
      problems_.Add(Format(
          "moe.band: is %d, but is used only with moe.sharing SLIDING (now %s); leave one of the two out",
          m.band(), Sharing::Value_Name(m.sharing()).c_str()));
    }
    if (!HasSigma(RouterKindOf(m.router())) && m.router_constant() != 0) {
      problems_.Add(
          Format("moe.router_constant: is %g, but the router has no constant (moe.router is %s); leave it 0",
                 m.router_constant(), RouterType::Value_Name(m.router()).c_str()));
    }
    if (m.balance() == Balance::NONE && m.balance_counts() != BalanceCounts::ALL) {
      problems_.Add(
          Format("moe.balance_counts: is %s, but nothing counts (moe.balance is NONE); leave it out",
                 BalanceCounts::Value_Name(m.balance_counts()).c_str()));
    }
    if (m.balance_hinge() && m.balance() != Balance::POOL_LOSS && m.balance() != Balance::LAYER_LOSS) {
      problems_.Add(Format(
          "moe.balance_hinge: is set, but only POOL_LOSS and LAYER_LOSS push scores down (moe.balance is "
          "%s); leave it out",
          Balance::Value_Name(m.balance()).c_str()));
    }
    if (m.bias_scope() != BiasScope::POOL && m.balance() != Balance::BIAS) {
      problems_.Add(
          Format("moe.bias_scope: is %s, but only BIAS has biases (moe.balance is %s); leave it out",
                 BiasScope::Value_Name(m.bias_scope()).c_str(), Balance::Value_Name(m.balance()).c_str()));
    }
    if (m.balance() != Balance::POOL_LOSS && m.balance_scope() != BalanceScope::STEP) {
      problems_.Add(Format(
          "moe.balance_scope: is %s, but only POOL_LOSS has a scope (moe.balance is %s); leave it out",
          BalanceScope::Value_Name(m.balance_scope()).c_str(), Balance::Value_Name(m.balance()).c_str()));
    }
  }

  void Train() {
    const TrainConfig& t = config_.train();
    AtLeast<int64_t>("train.steps", t.steps(), 1);
    AtLeast<int64_t>("train.eval_every", t.eval_every(), 0);
    AtLeast("train.eval_batches", t.eval_batches(), 0);
    AtLeast<int64_t>("train.save_every", t.save_every(), 0);
    AtLeast("train.keep_checkpoints", t.keep_checkpoints(), 0);
    NotNegative("train.save_minutes", t.save_minutes());
    NotNegative("train.resume_step", t.resume_step());
    if (t.resume_step() > 0 && t.resume_step() >= t.steps())
      problems_.Add(Format("train.resume_step: is %d; must be below train.steps, which is %d",
                           t.resume_step(), t.steps()));
    try {
      ParseStopTime(t.stop_at(), {});
    } catch (const UserError& error) {
      problems_.Add(error.what());
    }
    Positive("train.lr", t.lr());
    NotNegative("train.min_lr", t.min_lr());
    if (t.min_lr() > t.lr()) {
      problems_.Add(
          Format("train.min_lr: is %g, above train.lr (%g); the learning rate falls from lr to min_lr",
                 t.min_lr(), t.lr()));
    }
    Fraction("train.warmup_fraction", t.warmup_fraction(), true);
    AtLeast<int64_t>("train.decay_steps", t.decay_steps(), 0);
    if (t.lr_schedule() == TrainConfig::WSD && t.decay_steps() > t.steps()) {
      problems_.Add(
          Format("train.decay_steps: is %d, more than train.steps (%d); with lr_schedule WSD the "
                 "last decay_steps of the steps fall",
                 t.decay_steps(), t.steps()));
    }
    Fraction("train.beta1", t.beta1(), false);
    Fraction("train.beta2", t.beta2(), false);
    Positive("train.adam_eps", t.adam_eps());
    NotNegative("train.weight_decay", t.weight_decay());
    NotNegative("train.clip", t.clip());
  }

  void Data() {
    try {
      ParseDataSplit(config_.data().split());
    } catch (const UserError& error) {
      problems_.Add(error.what());
    }
  }

  void Traffic() {
    const TrafficConfig& traffic = config_.traffic();
    AtLeast<int64_t>("traffic.first_step", traffic.first_step(), 0);
    AtLeast<int64_t>("traffic.num_steps", traffic.num_steps(), 1);
    AtLeast<int64_t>("traffic.every", traffic.every(), 1);
    Positive("traffic.max_megabytes", traffic.max_megabytes());
  }

  void Parallel() {
    const ParallelConfig& p = config_.parallel();
    const bool ranks = AtLeast("parallel.ranks", p.ranks(), 1);
    WatchdogSeconds("parallel.watchdog_seconds", p.watchdog_seconds());
    WatchdogSeconds("parallel.file_watchdog_seconds", p.file_watchdog_seconds());
    AtLeast<int64_t>("parallel.replace_every", p.replace_every(), 0);
    const bool stages = AtLeast("parallel.stages", p.stages(), 1);
    const bool replicas = AtLeast("parallel.pool_replicas", p.pool_replicas(), 1);
    if (stages && p.stages() > config_.model().layers()) {
      problems_.Add(Format("parallel.stages: is %d, more than model.layers (%d); each stage needs a layer",
                           p.stages(), config_.model().layers()));
    }
    if (stages) LayersPerStage();
    if (!stages || !replicas || !ranks) return;
    const int64_t parts = int64_t{p.stages()} * p.pool_replicas();
    if (world_ % parts != 0) {
      problems_.Add(
          Format("parallel.stages x parallel.pool_replicas: %d x %d = %d does not divide the %d ranks; the "
                 "product may be %s, or the ranks a multiple of %d",
                 p.stages(), p.pool_replicas(), parts, world_, DivisorsOf(world_).c_str(), parts));
      return;
    }
    for (std::string& problem : ShadowProblems(config_, world_)) problems_.Add(std::move(problem));
    Batches(world_ / p.stages());
  }

  void DeviceSettings() {
    const TrainConfig& train = config_.train();
    if (train.weight_grad_slots() < 0 || train.weight_grad_slots() > kMostWeightGradSlots) {
      problems_.Add(Format("train.weight_grad_slots: is %d; must be from 1 to %d, or 0 to have it chosen",
                           train.weight_grad_slots(), kMostWeightGradSlots));
    }
    if (train.head_tokens() < 0) {
      problems_.Add(Format("train.head_tokens: is %d; must be at least 1, or 0 to have it chosen",
                           train.head_tokens()));
    }
    const ParallelConfig& parallel = config_.parallel();
    if (config_.device() == DeviceType::CPU) {
      if (parallel.transport() != Transport::AUTO) {
        problems_.Add(
            Format("parallel.transport: is %s, which says how memory of GPUs travels; with device: CPU leave "
                   "it AUTO",
                   Transport::Value_Name(parallel.transport()).c_str()));
      }
      return;
    }
    if (!parallel.emulate().empty()) {
      problems_.Add("parallel.emulate: a cluster is emulated with device: CPU only; clear one of the two");
    }
    CudaSizes();
  }

  // What the CUDA kernels can compute.
  void CudaSizes() {
    const ModelConfig& m = config_.model();
    const int head_size = m.heads() >= 1 ? m.hidden() / m.heads() : 0;
    if (head_size > kMostCudaHeadSize) {
      problems_.Add(
          Format("model.heads: %d heads of model.hidden %d have %d columns each; device: CUDA takes "
                 "at most %d: at least %d heads",
                 m.heads(), m.hidden(), head_size, kMostCudaHeadSize,
                 (m.hidden() + kMostCudaHeadSize - 1) / kMostCudaHeadSize));
    }
    if (config_.moe().experts() > kMostCudaExperts) {
      problems_.Add(Format("moe.experts: is %d; device: CUDA takes at most %d", config_.moe().experts(),
                           kMostCudaExperts));
    }
    if (DTypeOfConfig(config_) != DType::kBF16) return;
    MultipleOf8("model.hidden", m.hidden());
    MultipleOf8("moe.width", config_.moe().width());
  }
  void MultipleOf8(const char* field, int value) {
    if (value % 8 == 0) return;
    problems_.Add(
        Format("%s: is %d; products in BF16 need a multiple of 8, for example %d; or set "
               "train.precision: FP32",
               field, value, (value + 7) / 8 * 8));
  }

  void LayersPerStage() {
    const auto& given = config_.parallel().layers_per_stage();
    const int layers = config_.model().layers(), stages = config_.parallel().stages();
    if (given.empty() || stages > layers) return;
    std::vector<std::string> numbers;
    int64_t sum = 0;
    for (const int number : given) {
      numbers.push_back(std::to_string(number));
      sum += number;
    }
    if (given.size() == stages && sum == layers && *std::min_element(given.begin(), given.end()) >= 1) return;
    problems_.Add(
        Format("parallel.layers_per_stage: is %s: %d numbers with the sum %d; must be %d numbers "
               "(parallel.stages) of at least 1 with the sum %d (model.layers), or empty to have them chosen",
               JoinNames(numbers).c_str(), given.size(), sum, stages, layers));
  }

  void Batches(int data_ranks) {
    const TrainConfig& t = config_.train();
    const bool global = AtLeast("train.global_batch", t.global_batch(), 1);
    if (!AtLeast("train.micro_batch", t.micro_batch(), 1) || !global) return;
    const int64_t unit = int64_t{t.micro_batch()} * data_ranks, batch = t.global_batch();
    if (batch % unit == 0) return;
    const int64_t below = batch / unit * unit;
    std::string fits = below > 0 ? Format("train.global_batch %d or %d", below, below + unit)
                                 : Format("train.global_batch %d", unit);
    if (batch % data_ranks == 0) fits += ", or train.micro_batch " + DivisorsOf(batch / data_ranks);
    problems_.Add(
        Format("train.global_batch: is %d sequences, which is not a multiple of train.micro_batch (%d) x "
               "data ranks "
               "(%d) = %d; these would fit: %s",
               batch, t.micro_batch(), data_ranks, unit, fits.c_str()));
  }

  const Config& config_;
  int world_;
  Problems problems_;
};

}  // namespace

void ValidateConfig(const Config& config, int world_size) {
  Validation(config, world_size).Run();
}

}  // namespace unipool
