#include "launcher/interop/hf_weights.h"

#include <algorithm>
#include <set>

#include "launcher/checkpoints/finite_check.h"
#include "launcher/checkpoints/weight_check.h"
#include "launcher/interop/hf_tensors.h"
#include "launcher/interop/model_weights.h"

namespace unipool {
namespace {

using Shape = std::vector<int64_t>;

std::string TextOf(const Shape& shape) {
  return nlohmann::json(shape).dump();
}

int64_t SizeOf(const Shape& shape) {
  int64_t size = 1;
  for (const int64_t dim : shape) size *= dim;
  return size;
}

// One tensor of the files.
struct Wanted {
  enum class Use { kCopied, kFactors, kVisible, kZero, kDead, kSame };
  std::string name;
  Shape shape;
  Use use = Use::kCopied;
  bool is_optional = false;
  // Our weight, for kCopied and kFactors; the file's tensor that it must equal, for kSame.
  std::string to = {};
  int64_t first_row = 0;
  std::vector<float> values = {};  // that it must have, for kVisible
};

class Importer {
 public:
  Importer(HfFolder& folder, const HfModel& model)
      : folder_(folder),
        files_(folder.weights()),
        model_(model),
        spec_(MakeModelSpec(model.config)),
        shapes_(WeightShapes(spec_, BiasNameOf(model.config))) {}

  HfWeights Run() {
    ListWanted();
    CheckList();
    for (const auto& [name, shape] : shapes_) Allocate(name, shape);
    Problems problems;
    for (const Wanted& wanted : wanted_) {
      if (!files_.Has(wanted.name)) continue;
      const std::vector<float> values = Read(wanted);
      const std::string problem = FirstNotFinite(
          Tensor(const_cast<float*>(values.data()), DType::kF32, {static_cast<int64_t>(values.size())}));
      if (!problem.empty()) {
        problems.Add(files_.FileOf(wanted.name) + ": " + wanted.name + ": " + problem +
                     ", which is no weight");
        continue;
      }
      Use(wanted, values, problems);
    }
    CheckDead(problems);
    problems.ThrowIfAny();
    if (model_.ties_embeddings) Tie();
    return std::move(result_);
  }

 private:
  void Allocate(const std::string& name, const Shape& shape) {
    SavedModel::Weight& weight = result_.weights[name];
    weight.shape = shape;
    for (int i = 0; i < (HasMoments(name) ? 3 : 1); ++i) weight.values[i].assign(SizeOf(shape), 0.F);
  }

  void ListWanted() {
    Visibility visibility(spec_);
    for (const HfTensor& tensor :
         HfTensorsOf(model_.architecture, spec_, visibility, BiasNameOf(model_.config))) {
      if (tensor.source.empty()) continue;
      Shape shape = shapes_.at(tensor.source);
      if (tensor.rows.size() > 0) shape[0] = tensor.rows.size();
      wanted_.push_back(
          {.name = tensor.name, .shape = shape, .to = tensor.source, .first_row = tensor.rows.begin});
      if (model_.ties_embeddings && tensor.name == "lm_head.weight") {
        wanted_.back().use = Wanted::Use::kSame;
        wanted_.back().to = "model.embed_tokens.weight";
        wanted_.back().is_optional = true;
      }
    }
    for (int layer = 0; layer < spec_.layers; ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer) + ".";
      if (model_.architecture == HfArchitecture::kUniPool) {
        if (spec_.has_router) ListVisibility(layer);
      } else {
        ListBiases(prefix);
      }
      if (model_.architecture == HfArchitecture::kQwen2Moe) ListSharedExpert(prefix + "mlp.");
    }
  }

  void ListVisibility(int layer) {
    const std::string prefix = RouterPrefix(layer);
    wanted_.push_back({.name = prefix + "visible",
                       .shape = {spec_.experts},
                       .use = Wanted::Use::kVisible,
                       .is_optional = true,
                       .values = spec_.visible[layer]});
    if (!model_.is_attenuated) return;
    wanted_.push_back({.name = prefix + "attenuation",
                       .shape = {spec_.experts},
                       .use = Wanted::Use::kFactors,
                       .to = prefix + "attenuation",
                       .values = spec_.visible[layer]});
  }

  void ListBiases(const std::string& prefix) {
    const int64_t queries = spec_.heads * spec_.head_size(), keys = spec_.kv_heads * spec_.head_size();
    const std::pair<const char*, int64_t> biases[] = {
        {"q_proj", queries}, {"k_proj", keys}, {"v_proj", keys}, {"o_proj", spec_.hidden}};
    for (const auto& [name, size] : biases) AddZero(prefix + "self_attn." + name + ".bias", {size});
    if (model_.architecture != HfArchitecture::kLlama) return;
    for (const char* name : {"gate_proj", "up_proj"})
      AddZero(prefix + "mlp." + name + ".bias", {spec_.expert_width});
    AddZero(prefix + "mlp.down_proj.bias", {spec_.hidden});
  }
  void AddZero(const std::string& name, const Shape& shape) {
    wanted_.push_back({.name = name, .shape = shape, .use = Wanted::Use::kZero, .is_optional = true});
  }

  void ListSharedExpert(const std::string& prefix) {
    const int64_t width = model_.shared_expert_width;
    const std::pair<const char*, Shape> parts[] = {{"shared_expert.gate_proj.weight", {width, spec_.hidden}},
                                                   {"shared_expert.up_proj.weight", {width, spec_.hidden}},
                                                   {"shared_expert.down_proj.weight", {spec_.hidden, width}},
                                                   {"shared_expert_gate.weight", {1, spec_.hidden}}};
    for (const auto& [name, shape] : parts) {
      wanted_.push_back(
          {.name = prefix + name, .shape = shape, .use = Wanted::Use::kDead, .is_optional = width == 0});
    }
  }

  // Names, shapes and types, before a number is read.
  void CheckList() {
    std::vector<std::string> problems;
    std::set<std::string> known;
    for (const Wanted& wanted : wanted_) {
      known.insert(wanted.name);
      if (!files_.Has(wanted.name)) {
        if (!wanted.is_optional) problems.push_back("missing: " + wanted.name + " " + TextOf(wanted.shape));
        continue;
      }
      const TensorFileEntry& entry = files_.Entry(wanted.name);
      if (entry.shape != wanted.shape) {
        problems.push_back("misshaped: " + wanted.name + " is " + TextOf(entry.shape) +
                           ", and by config.json " + TextOf(wanted.shape));
      } else if (entry.dtype != "F32" && entry.dtype != "BF16" && entry.dtype != "F16") {
        problems.push_back("of another type: " + wanted.name + " is " + entry.dtype +
                           "; must be F32, BF16 or F16");
      }
    }
    for (const std::string& name : files_.Names()) {
      // Angles that old versions saved, which follow from the settings.
      if (!known.contains(name) && !name.ends_with(".rotary_emb.inv_freq"))
        problems.push_back("too many: " + name + " " + TextOf(files_.Entry(name).shape) + ", which a " +
                           ClassNameOf(model_.architecture) + " of this config.json has not");
    }
    if (!problems.empty())
      throw UserError(
          ListOfProblems(folder_.dir() + ": its tensors are not those of its config.json", problems));
  }

  std::vector<float> Read(const Wanted& wanted) {
    std::vector<float> values(SizeOf(wanted.shape));
    files_.Read(wanted.name, Tensor(values.data(), DType::kF32, {static_cast<int64_t>(values.size())}));
    return values;
  }

  void Use(const Wanted& wanted, const std::vector<float>& values, Problems& problems) {
    const bool is_zero = std::all_of(values.begin(), values.end(), [](float x) { return x == 0; });
    const auto refuse = [&](const std::string& why) {
      problems.Add(folder_.dir() + ": " + wanted.name + " " + why);
    };
    switch (wanted.use) {
      case Wanted::Use::kCopied: {
        SavedModel::Weight& weight = result_.weights.at(wanted.to);
        const int64_t row = SizeOf(weight.shape) / weight.shape[0];
        std::copy(values.begin(), values.end(), weight.values[0].begin() + wanted.first_row * row);
        return;
      }
      case Wanted::Use::kFactors:
        for (size_t i = 0; i < values.size(); ++i) {
          if (values[i] < 0 || values[i] > wanted.values[i])
            return refuse(Format("has the factor %g for expert %d; must be from 0 to %g", values[i], i,
                                 wanted.values[i]));
        }
        if (std::count_if(values.begin(), values.end(), [](float x) { return x > 0; }) < spec_.top_k)
          return refuse(
              Format("leaves its layer fewer experts than num_experts_per_tok, which is %d", spec_.top_k));
        Allocate(wanted.to, wanted.shape);
        result_.weights.at(wanted.to).values[0] = values;
        return;
      case Wanted::Use::kVisible:
        if (values != wanted.values)
          refuse("says that its layer sees other experts than by expert_sharing of config.json");
        return;
      case Wanted::Use::kZero:
        if (!is_zero) refuse("is not zero; the projections here have no biases");
        return;
      case Wanted::Use::kDead:
        if (is_zero) dead_.insert(wanted.name);
        return;
      case Wanted::Use::kSame:
        if (values != Read({.name = wanted.to, .shape = wanted.shape}))
          refuse("differs from " + wanted.to +
                 ", although tie_word_embeddings of config.json says they are one");
        return;
    }
  }

  // A shared expert adds nothing where one of its three matrices is zero.
  void CheckDead(Problems& problems) {
    for (int layer = 0; layer < spec_.layers; ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer) + ".mlp.shared_expert.";
      if (!files_.Has(prefix + "down_proj.weight")) continue;
      const bool is_dead = std::any_of(
          std::begin(kProjections), std::end(kProjections),
          [&](const char* projection) { return dead_.contains(prefix + projection + ".weight"); });
      if (is_dead) continue;
      problems.Add(folder_.dir() +
                   Format(": layer %d has a shared expert that is not zero, which adds to every token "
                          "whatever its router chooses; layers here have no such expert",
                          layer));
      return;  // the others will have one too
    }
  }

  void Tie() {
    SavedModel::Weight& head = result_.weights.at("lm_head.weight");
    head.values[0] = result_.weights.at("model.embed_tokens.weight").values[0];
    result_.notes.emplace_back(
        "the head is a copy of the embedding, which the model had in common (tie_word_embeddings); in "
        "training they "
        "part");
  }

  HfFolder& folder_;
  WeightFolder& files_;
  const HfModel& model_;
  const ModelSpec spec_;
  const std::map<std::string, Shape> shapes_;
  std::vector<Wanted> wanted_;
  std::set<std::string> dead_;  // matrices of shared experts that are zero
  HfWeights result_;
};

}  // namespace

HfWeights ReadHfWeights(HfFolder& folder, const HfModel& model) {
  return Importer(folder, model).Run();
}

}  // namespace unipool
