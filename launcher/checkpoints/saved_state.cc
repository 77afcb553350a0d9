#include "launcher/checkpoints/saved_state.h"

#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "launcher/checkpoints/checkpoint_folder.h"
#include "launcher/checkpoints/weight_folder.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::string TextOf(const Json& json) {
  return json.dump(2) + "\n";
}

std::string PathIn(const std::string& dir, const std::string& name) {
  return (fs::path(dir) / name).string();
}

// A whole number in [0, most].
std::optional<int64_t> WholeNumber(const Json& object, const char* name, int64_t most) {
  if (!object.is_object() || !object.contains(name)) return std::nullopt;
  const Json& value = object[name];
  if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(most)) return std::nullopt;
  return value.get<int64_t>();
}

// Whether the text is what was written, by the hash in it.
bool HasItsHash(const std::string& text, Json json) {
  if (!json.contains("hash") || TextOf(json) != text) return false;
  const Json hash = json["hash"];
  json.erase("hash");
  return hash.is_string() && hash.get<std::string>() == SumOfText(TextOf(json)).hash;
}

bool ReadSums(const Json& files, std::map<std::string, FileSum>& sums) {
  if (!files.is_object()) return false;
  for (const auto& [name, sum] : files.items()) {
    const auto bytes = WholeNumber(sum, "bytes", std::numeric_limits<int64_t>::max());
    if (!bytes || !sum.contains("xxh3") || !sum["xxh3"].is_string()) return false;
    sums[name] = {.bytes = *bytes, .hash = sum["xxh3"].get<std::string>()};
  }
  return true;
}

// A depth that no file of ours has would exhaust the stack of those who walk or destroy it.
Json ParseShallow(const std::string& text) {
  bool deep = false;
  const auto shallow = [&](int depth, Json::parse_event_t, Json&) {
    deep |= depth > 64;
    return !deep;
  };
  Json json = Json::parse(text, shallow, false);
  return deep || json.is_discarded() ? Json() : json;
}

}  // namespace

std::string SavedStateText(const SavedState& state) {
  Json files = Json::object();
  for (const auto& [name, sum] : state.files) files[name] = {{"bytes", sum.bytes}, {"xxh3", sum.hash}};
  Json json = {{"step", state.step},
               {"optimizer_files", state.optimizer_files},
               {"files", files},
               {"training_state", Json::parse(state.trainer)}};
  json["hash"] = SumOfText(TextOf(json)).hash;
  return TextOf(json);
}

SavedState ReadSavedState(const std::string& dir) {
  const std::string path = PathIn(dir, kSavedStateFile);
  const std::string text = ReadTextFile(path);
  const auto damaged = [&](const std::string& why) {
    return UserError(path + ": is damaged (" + why + "); use an older checkpoint");
  };
  const Json json = ParseShallow(text);
  if (!json.is_object()) throw damaged("no JSON object");
  SavedState state;
  if (json.contains("hash") || json.contains("files") || json.size() != 3) {
    if (!HasItsHash(text, json)) throw damaged("its hash is another one");
    if (!json.contains("files") || !ReadSums(json["files"], state.files)) throw damaged("no sums of files");
  }
  constexpr int64_t kMostSteps = int64_t{1} << 62;
  const auto step = WholeNumber(json, "step", kMostSteps);
  const auto files = WholeNumber(json, "optimizer_files", 1 << 24);
  if (!step || !files || !json.contains("training_state")) throw damaged("no step or number of files");
  const Json& trainer = json["training_state"];
  const bool has_step = state.files.empty() || trainer.contains("step");
  if (has_step && WholeNumber(trainer, "step", kMostSteps) != step) throw damaged("its two steps differ");
  const int64_t named = StepOfCheckpoint(dir);
  if (named >= 0 && named != *step) {
    throw UserError(path + Format(": is of step %d, the folder's name is of another", *step));
  }
  state.step = *step;
  state.optimizer_files = static_cast<int>(*files);
  state.trainer = trainer.dump();
  if (trainer.is_object() && trainer.contains("sound")) state.is_sound = trainer["sound"] == true;
  state.resume_step = WholeNumber(trainer, "resume_step", kMostSteps).value_or(0);
  return state;
}

void VerifyFiles(const std::string& dir, int first, int stride) {
  const SavedState state = ReadSavedState(dir);
  if (state.files.empty()) {
    if (first != 0) return;
    const std::string problem = WhyIncomplete(dir);
    if (!problem.empty()) throw UserError(problem);
    return;
  }
  Problems problems;
  int i = 0;
  for (const auto& [name, saved] : state.files) {
    if (i++ % stride != first) continue;
    try {
      const FileSum found = SumOfFile(PathIn(dir, name));
      if (found == saved) continue;
      problems.Add(PathIn(dir, name) +
                   (found.bytes == saved.bytes
                        ? ": does not hold what was saved (its hash is another one)"
                        : Format(": has %d bytes, %d were saved", found.bytes, saved.bytes)));
    } catch (const UnreadableError&) {
      throw;
    } catch (const UserError& error) {
      problems.Add(error.what());
    }
  }
  problems.ThrowIfAny();
}

}  // namespace unipool
