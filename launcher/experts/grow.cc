#include <gflags/gflags.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launcher/commands.h"
#include "launcher/config.h"
#include "launcher/experts/depth_change.h"
#include "launcher/experts/saved_model.h"
#include "launcher/inference.h"
#include "launcher/nearest_name.h"
#include "launcher/standard_output.h"
#include "launcher/text_list.h"
#include "launcher/world_options.h"
#include "runtime/world.h"

DECLARE_string(out);
DEFINE_int64(layers, 0, "grow: layers of the new model; more than the model has");
DEFINE_string(after, "",
              "grow: layers behind which the new ones go, as in 3,5,5; default: over the later half");
DEFINE_string(drop, "", "grow: layers to take out, as in 3,5; in place of --layers");

namespace unipool {
namespace {

std::vector<int64_t> LayersNamed(const char* flag, const std::string& text, int64_t layers) {
  std::vector<int64_t> named;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    const bool is_number =
        !word.empty() && word.size() < 10 && word.find_first_not_of("0123456789") == std::string::npos;
    if (!is_number || std::stoll(word) >= layers) {
      throw UserError(Format("--%s=%s: \"%s\" is no layer; the model has layers 0 to %d", flag, text.c_str(),
                             word.c_str(), layers - 1));
    }
    named.push_back(std::stoll(word));
    begin = end + 1;
  }
  std::sort(named.begin(), named.end());
  return named;
}

// What becomes of the layers.
struct Change {
  std::vector<int64_t> after, dropped;
};

Change ChangeOf(int64_t layers) {
  if (!FLAGS_drop.empty()) {
    if (FLAGS_layers != 0 || !FLAGS_after.empty())
      throw UserError("--drop takes layers out: give it without --layers and --after");
    Change change{.dropped = LayersNamed("drop", FLAGS_drop, layers)};
    if (std::adjacent_find(change.dropped.begin(), change.dropped.end()) != change.dropped.end())
      throw UserError("--drop=" + FLAGS_drop + ": names a layer twice");
    if (static_cast<int64_t>(change.dropped.size()) == layers)
      throw UserError("--drop=" + FLAGS_drop + ": leaves no layer");
    return change;
  }
  constexpr int64_t kMostLayers = 10'000;
  if (FLAGS_layers <= layers || FLAGS_layers > kMostLayers) {
    throw UserError(
        Format("--layers=%d: must be more than the %d layers of the model, and at most %d; --drop takes "
               "layers out",
               FLAGS_layers, layers, kMostLayers));
  }
  if (FLAGS_after.empty()) return {.after = PlacesOfNewLayers(layers, FLAGS_layers - layers)};
  Change change{.after = LayersNamed("after", FLAGS_after, layers)};
  if (static_cast<int64_t>(change.after.size()) != FLAGS_layers - layers) {
    throw UserError(Format("--after=%s: names %d places, but there are %d new layers", FLAGS_after.c_str(),
                           change.after.size(), FLAGS_layers - layers));
  }
  return change;
}

std::string Joined(const std::vector<int64_t>& layers) {
  std::string text;
  for (const int64_t layer : layers) text += (text.empty() ? "" : ", ") + std::to_string(layer);
  return text;
}

}  // namespace

int GrowCommand(const CommandLine& command_line) {
  CheckOutFolder(FLAGS_out);
  Config config = LoadConfig(command_line);
  const int64_t layers = config.model().layers();
  const Change change = ChangeOf(layers);
  const bool grows = change.dropped.empty();
  if (const std::string why = WhyNotDepth(config, grows); !why.empty()) throw UserError("grow: " + why);
  RunAlone(config);
  return RunWorld(WorldOptionsOf(config), [&](World& world) {
    const std::string from = FindWeights(command_line, config, world);
    SavedModel model = ReadSavedModel(from);
    CheckAllMayChoose(from, model);
    if (model.config.model().layers() != layers)
      throw UserError(Format("%s: has %d layers, the settings say %d", from.c_str(),
                             model.config.model().layers(), layers));
    if (grows)
      InsertLayers(model, change.after);
    else
      DropLayers(model, change.dropped);
    const std::string checkpoint = WriteSavedModel(FLAGS_out, model);
    if (command_line.json) {
      return PrintResult(nlohmann::ordered_json{{"from", from},
                                                {"checkpoint", checkpoint},
                                                {"layers", model.config.model().layers()},
                                                {"after", change.after},
                                                {"dropped", change.dropped}}
                             .dump() +
                         "\n");
    }
    const std::string what =
        grows ? Format("new layers behind layers %s, which change nothing yet", Joined(change.after).c_str())
              : Format("without layers %s", Joined(change.dropped).c_str());
    PrintResult(Format("%s: %d layers, %s\nwrote %s\nto go on: unipool train %s/config.txtpb\n", from.c_str(),
                       model.config.model().layers(), what.c_str(), checkpoint.c_str(), FLAGS_out.c_str()));
  });
}

}  // namespace unipool
