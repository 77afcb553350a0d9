#include "launcher/checkpoints/weight_check.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "launcher/config.h"
#include "launcher/nearest_name.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostListed = 20;

constexpr char kPoolBiasName[] = ".mlp.router.bias", kLayerBiasName[] = ".mlp.router.layer_bias";

bool IsBias(const std::string& name) {
  return name.ends_with(kPoolBiasName) || name.ends_with(kLayerBiasName);
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return Json(shape).dump();
}

bool IsReadable(const std::string& dtype) {
  return dtype == "F32" || dtype == "BF16" || dtype == "F16" || dtype == "F64";
}

// path -> value of every line "name: value" of a resolved text. A name on several lines is a list.
std::map<std::string, std::string> Settings(const std::string& text) {
  std::map<std::string, std::vector<std::string>> values;
  std::istringstream lines(text);
  std::string block;  // "train.", "moe.lock."
  for (std::string line; std::getline(lines, line);) {
    const size_t begin = line.find_first_not_of(' ');
    if (begin == std::string::npos || line[begin] == '#') continue;
    line.erase(0, begin);
    if (line.ends_with(" {")) {
      block += line.substr(0, line.size() - 2) + ".";
    } else if (line == "}") {
      if (!block.empty()) block.pop_back();
      block.resize(block.rfind('.') + 1);
    } else if (const size_t colon = line.find(": "); colon != std::string::npos) {
      values[block + line.substr(0, colon)].push_back(line.substr(colon + 2));
    }
  }
  std::map<std::string, std::string> settings;
  for (const auto& [path, list] : values)
    settings[path] = list.size() == 1 ? list[0] : "[" + JoinNames(list) + "]";
  return settings;
}

}  // namespace

std::string ListOfProblems(const std::string& heading, const std::vector<std::string>& problems) {
  std::string text = heading;
  for (size_t i = 0; i < problems.size() && i < kMostListed; ++i) text.append("\n  ").append(problems[i]);
  if (problems.size() > kMostListed) text += Format("\n  and %d more", problems.size() - kMostListed);
  return text;
}

std::vector<WantedTensor> GatherWanted(Communicator& world, const std::vector<DiskTensor>& tensors) {
  Json mine = Json::array();
  for (const DiskTensor& tensor : tensors) {
    if (tensor.writes) mine.push_back({tensor.name, tensor.shape, tensor.optional});
  }
  const ExchangeLabel label{.operation = "names of weights", .step = -1, .slot = -1};
  std::vector<WantedTensor> wanted;
  for (const std::string& text : world.AllGatherText(mine.dump(), label)) {
    for (const Json& tensor : Json::parse(text)) {
      wanted.push_back({tensor[0], tensor[1].get<std::vector<int64_t>>(), tensor[2]});
    }
  }
  return wanted;
}

void CheckWeights(WeightFolder& folder, const std::vector<WantedTensor>& wanted,
                  const std::string& differences) {
  std::vector<std::string> problems;
  std::map<std::string, const WantedTensor*> by_name;
  int missing = 0, unknown = 0, misshaped = 0, unreadable = 0;
  bool has_biases = false;
  for (const WantedTensor& tensor : wanted) {
    by_name[tensor.name] = &tensor;
    if (folder.Has(tensor.name) || tensor.optional) continue;
    problems.push_back("missing: " + tensor.name + " " + ShapeText(tensor.shape));
    ++missing;
  }
  for (const std::string& name : folder.Names()) {
    const TensorFileEntry& entry = folder.Entry(name);
    const auto found = by_name.find(name);
    if (found == by_name.end() && IsBias(name)) {
      ++unknown;
      if (!has_biases)
        problems.push_back("unknown: " + name +
                           " and its like, the biases of moe.balance BIAS, without "
                           "which other experts would be chosen; set moe.balance=BIAS" +
                           (name.ends_with(kLayerBiasName) ? " moe.bias_scope=LAYER" : ""));
      has_biases = true;
    } else if (found == by_name.end()) {
      problems.push_back("unknown: " + name + " " + ShapeText(entry.shape));
      ++unknown;
    } else if (entry.shape != found->second->shape) {
      problems.push_back("misshaped: " + name + " is " + ShapeText(entry.shape) + " and must be " +
                         ShapeText(found->second->shape));
      ++misshaped;
    } else if (!IsReadable(entry.dtype)) {
      problems.push_back("unreadable: " + name + " is of type " + entry.dtype +
                         " and must be F32, BF16, F16 or F64");
      ++unreadable;
    }
  }
  if (problems.empty()) return;
  std::string heading = Format(
      "%s: holds another model than the settings describe: of %d tensors %d missing, %d unknown, %d "
      "misshaped, %d of a type that cannot be read",
      folder.dir().c_str(), wanted.size(), missing, unknown, misshaped, unreadable);
  if (!differences.empty()) heading += "; " + differences;
  throw UserError(ListOfProblems(heading, problems));
}

bool ChangesTheModel(const std::string& path) {
  static const std::set<std::string> kPaths{
      "model.layers",   "model.hidden", "model.heads", "model.kv_heads", "model.vocab", "model.rope_base",
      "model.norm_eps", "moe.experts",  "moe.top_k",   "moe.width",      "moe.router",  "moe.router_constant",
      "moe.sharing",    "moe.groups",   "moe.band",    "moe.bias_scope"};
  return kPaths.contains(path) || path.rfind("moe.lock.", 0) == 0;
}

namespace {

template <class Filter>
std::string Differences(const std::string& there, const std::string& here, Filter&& filter,
                        const std::string& of_theirs = "there", const std::string& of_ours = "here") {
  std::string text;
  for (const SettingDifference& difference : ListDifferences(there, here)) {
    if (!filter(difference.path)) continue;
    text += (text.empty() ? "" : ", ") + difference.path + " is " + difference.one + " " + of_theirs +
            " and " + difference.other + " " + of_ours;
  }
  return text;
}

// A list of one may stand without brackets.
bool IsSameValue(const std::string& a, const std::string& b) {
  return a == b || "[" + a + "]" == b || a == "[" + b + "]";
}

}  // namespace

std::vector<SettingDifference> ListDifferences(const std::string& one, const std::string& other) {
  const std::map<std::string, std::string> first = Settings(one), second = Settings(other);
  std::vector<SettingDifference> differences;
  for (const auto& [path, value] : second) {
    const auto found = first.find(path);
    if (found == first.end() || IsSameValue(found->second, value)) continue;
    differences.push_back({.path = path, .one = found->second, .other = value});
  }
  return differences;
}

std::string MissingBiases(const WeightFolder& folder, const std::vector<WantedTensor>& wanted) {
  for (const WantedTensor& tensor : wanted) {
    if (!IsBias(tensor.name) || folder.Has(tensor.name)) continue;
    return folder.dir() +
           ": holds no router biases, since it was trained with another moe.balance than BIAS; they begin at "
           "0";
  }
  return "";
}

std::string ModelDifferences(const std::string& there, const std::string& here, const std::string& of_theirs,
                             const std::string& of_ours) {
  return Differences(there, here, ChangesTheModel, of_theirs, of_ours);
}

void CheckSameModel(const std::string& dir, const std::string& there, const std::string& here) {
  const std::string differences = ModelDifferences(there, here, "there", "here");
  if (differences.empty()) return;
  throw UserError(dir + ": holds another model than the settings describe: " + differences +
                  "; use the settings it was trained with, or another run_dir");
}

std::string RunDifferences(const std::string& there, const std::string& here) {
  return Differences(there, here, [](const std::string& path) {
    return !ChangesTheModel(path) && path != "run_dir" && path != "train.steps" &&
           path != "train.resume_step" && path.rfind("parallel.", 0) != 0;
  });
}

std::string DescribeDifferences(const std::string& there, const std::string& here) {
  return Differences(there, here, [](const std::string& path) {
    return path.rfind("model.", 0) == 0 || path.rfind("moe.", 0) == 0;
  });
}

std::string SettingDifferences(const std::string& one, const std::string& other, const std::string& of_one,
                               const std::string& of_other) {
  return Differences(
      one, other, [](const std::string&) { return true; }, of_one, of_other);
}

}  // namespace unipool
