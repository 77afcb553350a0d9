#include "launcher/interop/import_settings.h"

#include "launcher/checkpoints/weight_check.h"
#include "launcher/config.h"
#include "launcher/interop/hf_tensors.h"
#include "models/model_spec.h"
#include "runtime/errors.h"
#include "runtime/file_sum.h"

namespace unipool {
namespace {

// Settings that have no meaning for the model are as the other's, so that they are no difference.
void Harmonize(const Config& there, Config& here) {
  const MoeConfig& theirs = there.moe();
  MoeConfig& ours = *here.mutable_moe();
  const bool has_router = ours.sharing() != Sharing::DENSE;
  if (!has_router) {
    ours.set_router(theirs.router());
    ours.set_top_k(theirs.top_k());
    ours.set_router_constant(theirs.router_constant());
  } else if (ours.sharing() == theirs.sharing() && ours.router() == theirs.router() &&
             ours.experts() == theirs.experts() && there.model().layers() == here.model().layers() &&
             MakeModelSpec(there).router_constant == MakeModelSpec(here).router_constant) {
    ours.set_router_constant(theirs.router_constant());  // whether it is computed or said
  }
  if (BiasNameOf(here).empty() && BiasNameOf(there).empty()) ours.set_bias_scope(theirs.bias_scope());
}

}  // namespace

Config PortableSettings(const Config& config) {
  Config portable;
  *portable.mutable_model() = config.model();
  *portable.mutable_moe() = config.moe();
  *portable.mutable_train() = config.train();
  portable.mutable_moe()->clear_lock();
  for (const char* name : {"shrink_to", "shrink_begin", "shrink_end", "shrink_by"}) {
    const auto* field = MoeConfig::descriptor()->FindFieldByName(name);
    portable.mutable_moe()->GetReflection()->ClearField(portable.mutable_moe(), field);
  }
  TrainConfig& train = *portable.mutable_train();
  train.clear_init_from();
  train.clear_stop_at();
  train.clear_resume_step();
  train.clear_precision();
  portable.mutable_data()->set_split(config.data().split());
  portable.mutable_data()->set_order(config.data().order());
  return portable;
}

Config SettingsOfImport(const HfFolder& folder, const HfModel& hf) {
  Config config = hf.config;
  const std::optional<std::string> path = folder.Find(kExportedSettings);
  if (!path) return config;
  const Config exported = PortableSettings(ParseConfig(ReadTextFile(*path), *path));
  ValidateConfig(exported, 1);
  Harmonize(exported, config);
  const std::string differences =
      ModelDifferences(ResolvedConfigText(exported), ResolvedConfigText(config), "there", "by config.json");
  const bool has_bias = !BiasNameOf(config).empty();
  if (!differences.empty() || has_bias != !BiasNameOf(exported).empty()) {
    throw UserError(*path + ": is of another model than config.json" +
                    (differences.empty() ? ", of which one alone has biases" : ": " + differences) +
                    "; to go by config.json, remove it");
  }
  Config result = exported;
  *result.mutable_model() = config.model();  // without padded rows of the vocabulary
  return result;
}

Config WithOverrides(const Config& config, const std::vector<std::string>& overrides) {
  const std::string before = ResolvedConfigText(config);
  Config changed = ParseConfig(before, "import", overrides);
  Problems problems;
  for (const SettingDifference& difference : ListDifferences(before, ResolvedConfigText(changed))) {
    const std::string& path = difference.path;
    const bool loses_bias = path == "moe.balance" && !BiasNameOf(config).empty();
    if ((!path.starts_with("model.") && !ChangesTheModel(path) && !loses_bias) ||
        path == "model.seq_length" || path == "model.init_std" || path.starts_with("moe.lock."))
      continue;
    problems.Add(path + "=" + difference.other + ": would make another model; that of the folder has " +
                 difference.one);
  }
  problems.ThrowIfAny();
  return changed;
}

}  // namespace unipool
