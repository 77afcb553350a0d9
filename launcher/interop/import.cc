#include <gflags/gflags.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/inference.h"
#include "launcher/interop/donor_experts.h"
#include "launcher/interop/ffn_split.h"
#include "launcher/interop/hf_folder.h"
#include "launcher/interop/hf_settings.h"
#include "launcher/interop/hf_tokenizer.h"
#include "launcher/interop/hf_weights.h"
#include "launcher/interop/import_settings.h"
#include "launcher/interop/neuron_importance.h"
#include "launcher/interop/sharing_change.h"
#include "launcher/standard_output.h"
#include "launcher/text_list.h"
#include "launcher/world_options.h"
#include "models/lock/lock_plan.h"
#include "runtime/errors.h"

DECLARE_string(out);
DECLARE_string(as);
DECLARE_int64(sequences);
DEFINE_string(visible, "own",
              "import: with --as=pool of a model with private experts: own, each layer goes on choosing "
              "among its own; or all, from the whole pool at once");
DEFINE_int32(parts, 0,
             "import: experts that each FFN of a dense model is cut into, by --data; 0: it stays whole");
DEFINE_int32(shared, 0, "import: with --parts, the most important neurons of an FFN that all of them have");
DEFINE_string(
    data, "",
    "import: text to measure on, a file or a Megatron prefix: the importance of neurons for --parts, the "
    "choices of --donor, then one for each domain, as in law.txt,code.txt");
DEFINE_string(donor, "", "import: the folder of another model, whose experts go into --place");
DEFINE_string(place, "", "import: the experts that --donor replaces, as in 3,7");

namespace unipool {
namespace {

// The words of the command line: the folder, and settings.
struct Request {
  std::string folder;
  std::vector<std::string> overrides;
  Config asked;  // these settings alone
  SharingOptions sharing;
  std::vector<std::string> data;
};

void CheckFlags(const Request& request, Problems& problems) {
  if (request.folder.empty()) {
    problems.Add(
        "import: the folder to read is missing, for example: unipool import MODEL --as pool --out runs/new");
  }
  if (FLAGS_as.empty()) problems.Add("--as: is missing; say what the model becomes: pool, private or dense");
  if (FLAGS_visible != "own" && FLAGS_visible != "all")
    problems.Add("--visible=" + FLAGS_visible + ": must be own or all");
  if (FLAGS_parts < 0) problems.Add(Format("--parts=%d: must be 0 (none) or more", FLAGS_parts));
  if (FLAGS_shared != 0 && FLAGS_parts == 0)
    problems.Add("--shared: says how many neurons the --parts of an FFN share; give --parts too");
  if (FLAGS_parts > 0 && FLAGS_as == "dense")
    problems.Add("--parts: cuts FFNs into experts; --as may be pool or private");
  if (FLAGS_parts > 0 && request.data.size() != 1)
    problems.Add("--parts: the importance of neurons is measured on --data, one text");
  if (!FLAGS_donor.empty() && FLAGS_as != "pool")
    problems.Add("--donor: gives experts to a pool (--as=pool)");
  if (!FLAGS_donor.empty() && FLAGS_parts > 0)
    problems.Add("--donor: has the width of whole FFNs; give --parts and --donor one after the other");
  if (!FLAGS_donor.empty() && request.data.empty())
    problems.Add("--donor: its experts are chosen by their use on --data, a text for each domain");
  if (FLAGS_donor.empty() != FLAGS_place.empty())
    problems.Add("--donor and --place: whose experts, and where they go; give both");
  if (!request.data.empty() && FLAGS_parts == 0 && FLAGS_donor.empty())
    problems.Add("--data: is for --parts or --donor, and neither is given");
}

Request RequestOf(const CommandLine& line) {
  Problems problems;
  Request request;
  for (const std::string& word : line.inputs) {
    std::error_code ignored;
    const bool is_setting = word.find('=') != std::string::npos && !std::filesystem::exists(word, ignored);
    if (is_setting)
      request.overrides.push_back(word);
    else if (request.folder.empty())
      request.folder = word;
    else
      problems.Add(word + ": import takes one folder, and has " + request.folder);
  }
  request.data = SplitTextList(FLAGS_data);
  CheckFlags(request, problems);
  problems.ThrowIfAny();
  CheckSequences(FLAGS_sequences);
  request.asked = ParseConfig("", "import", request.overrides);
  request.sharing = {.as = ImportAsNamed(FLAGS_as),
                     .experts = request.asked.moe().has_experts() ? request.asked.moe().experts() : 0,
                     .sees_all = FLAGS_visible == "all"};
  return request;
}

bool HasFactors(const SavedModel& model) {
  for (const auto& [name, weight] : model.weights) {
    if (name.ends_with(".router.attenuation")) return true;
  }
  return false;
}

struct Imported {
  SavedModel model;
  HfModel from;
  SharingChange change;
  std::vector<std::string> notes;
  std::string tokenizer;
};

Imported Read(const std::string& dir) {
  HfFolder folder(dir);
  Imported imported{.from = HfModelOf(folder.Json("config.json"), folder.dir() + "/config.json")};
  HfTokenizer tokenizer = ReadHfTokenizer(folder, imported.from.config.model().vocab());
  SavedModel& model = imported.model;
  model.config = SettingsOfImport(folder, imported.from);
  HfWeights weights = ReadHfWeights(folder, imported.from);
  model.weights = std::move(weights.weights);
  model.tokenizer = std::move(tokenizer.text);
  model.training_state = nlohmann::json{{"step", 0}, {"samples", 0}, {"tokens", 0}, {"sound", true}}.dump();
  imported.tokenizer = std::move(tokenizer.name);
  imported.notes = std::move(weights.notes);
  return imported;
}

// What one change says, and then another one.
SharingChange Both(const SharingChange& first, const SharingChange& second) {
  return {.is_exact = first.is_exact && second.is_exact, .reason = first.reason + "; " + second.reason};
}

SharingChange Split(const Request& request, World& world, SavedModel& model) {
  if (model.config.moe().sharing() != Sharing::DENSE)
    throw UserError("--parts: the model has experts already; only dense FFNs are cut into them");
  const MoeConfig& asked = request.asked.moe();
  const FfnSplit split{.experts = FLAGS_parts,
                       .shared = FLAGS_shared,
                       .width = asked.has_width() ? asked.width() : 0,
                       .top_k = asked.has_top_k() ? asked.top_k() : 1};
  DealNeurons(split, std::vector<double>(model.config.moe().width()));  // refuses before it is measured
  const ImportanceData data{
      .source = request.data[0],
      .sequences = FLAGS_sequences,
      .seq_length = request.asked.model().has_seq_length() ? request.asked.model().seq_length() : 0};
  const std::vector<std::vector<double>> importance = NeuronImportance(model, data, world);
  model.files["neuron_importance.json"] =
      nlohmann::ordered_json{{"data", data.source}, {"sequences", data.sequences}, {"importance", importance}}
          .dump() +
      "\n";
  return SplitFfns(split, importance, model);
}

SharingChange TakeFromDonor(const Request& request, World& world, SavedModel& model) {
  const std::vector<int64_t> places = PlacesNamed(FLAGS_place, model.config.moe().experts());
  const SavedModel donor = Read(FLAGS_donor).model;
  if (const std::string why = WhyNoDonor(donor.config, model.config); !why.empty())
    throw UserError("--donor=" + FLAGS_donor + ": " + why);
  if (static_cast<int64_t>(places.size()) > donor.config.moe().experts()) {
    throw UserError(Format("--place=%s: names %d places, but the donor has %d experts", FLAGS_place.c_str(),
                           places.size(), donor.config.moe().experts()));
  }
  const DomainData data{
      .sources = request.data,
      .sequences = FLAGS_sequences,
      .seq_length = request.asked.model().has_seq_length() ? request.asked.model().seq_length() : 0};
  const std::vector<ChosenExpert> chosen = ChooseForAllDomains(
      DomainShares(donor, data, world), donor.config.model().layers(), static_cast<int64_t>(places.size()));
  PlaceExperts(donor, chosen, places, model);
  std::string reason = "experts of " + FLAGS_donor + " replace others, all else is bit for bit as it was:";
  for (size_t i = 0; i < places.size(); ++i) {
    reason +=
        Format("%s %d is its %d (%.4f)", i == 0 ? "" : ",", places[i], chosen[i].expert, chosen[i].score);
  }
  return {.is_exact = false, .reason = reason};
}

Imported Import(const Request& request, World& world) {
  Imported imported = Read(request.folder);
  SavedModel& model = imported.model;
  if (FLAGS_parts > 0) {
    imported.change = Split(request, world, model);
    if (request.sharing.as == ImportAs::kPool)
      imported.change = Both(imported.change, ChangeSharing(request.sharing, model));
  } else {
    imported.change = ChangeSharing(request.sharing, model);
  }
  if (!FLAGS_donor.empty()) imported.change = Both(imported.change, TakeFromDonor(request, world, model));
  model.config = WithOverrides(model.config, request.overrides);
  if (HasFactors(model) && HasLock(model.config))
    throw UserError("moe.lock: the layers of this model have given up experts already; leave it out");
  ValidateConfig(model.config, model.config.parallel().ranks());
  return imported;
}

std::string SizesOf(const Config& config) {
  const ModelConfig& model = config.model();
  const MoeConfig& moe = config.moe();
  std::string text = Format("%d layers of hidden size %d, %d tokens of vocabulary", model.layers(),
                            model.hidden(), model.vocab());
  if (moe.sharing() == Sharing::DENSE)
    return text + Format(", an FFN of width %d in each layer", moe.width());
  return text + Format(", %d experts of width %d, top-%d, moe.sharing %s, moe.router %s", moe.experts(),
                       moe.width(), moe.top_k(), Sharing::Value_Name(moe.sharing()).c_str(),
                       RouterType::Value_Name(moe.router()).c_str());
}

std::string TextOf(const Request& request, const Imported& imported, const std::string& checkpoint) {
  std::string text = request.folder + ": " + ClassNameOf(imported.from.architecture) + ", " +
                     SizesOf(imported.from.config) + "\n";
  text += FLAGS_out + ": " + SizesOf(imported.model.config) + "\n";
  text += (imported.change.is_exact ? "exact: " : "not exact: ") + imported.change.reason + "\n";
  for (const std::string& note : imported.notes) text += "note: " + note + "\n";
  text += "note: the optimizer begins anew, at step 0\n";
  return text + "tokenizer: " + imported.tokenizer + "\nwrote " + checkpoint + "\nto go on: unipool train " +
         FLAGS_out + "/config.txtpb" +
         (imported.model.config.data().train_size() > 0 ? "" : " data.train=TEXT") + "\n";
}

std::string JsonOf(const Request& request, const Imported& imported, const std::string& checkpoint) {
  const Config& config = imported.model.config;
  return nlohmann::ordered_json{{"from", request.folder},
                                {"architecture", ClassNameOf(imported.from.architecture)},
                                {"checkpoint", checkpoint},
                                {"sharing", Sharing::Value_Name(config.moe().sharing())},
                                {"experts", config.moe().experts()},
                                {"exact", imported.change.is_exact},
                                {"reason", imported.change.reason},
                                {"notes", imported.notes},
                                {"tokenizer", imported.tokenizer}}
             .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

}  // namespace

int ImportCommand(const CommandLine& command_line) {
  CheckOutFolder(FLAGS_out);
  const Request request = RequestOf(command_line);
  Config alone;
  RunAlone(alone);
  return RunWorld(WorldOptionsOf(alone), [&](World& world) {
    Imported imported = Import(request, world);
    const std::string checkpoint = WriteSavedModel(FLAGS_out, imported.model);
    PrintResult(command_line.json ? JsonOf(request, imported, checkpoint)
                                  : TextOf(request, imported, checkpoint));
  });
}

}  // namespace unipool
