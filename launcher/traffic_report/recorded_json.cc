#include "launcher/traffic_report/recorded_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launcher/version.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using Json = nlohmann::json;
constexpr int kMostRanks = 1 << 20;

Json ParseObject(const std::string& text, const std::string& path) {
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) throw UserError(path + ": no JSON object, or torn");
  return json;
}

// null, and what is not there, is `otherwise`.
template <class T>
T Get(const Json& json, const char* key, T otherwise) {
  const auto found = json.find(key);
  return found == json.end() || found->is_null() ? otherwise : found->get<T>();
}

std::vector<int64_t> Numbers(const Json& list) {
  std::vector<int64_t> numbers;
  for (const Json& value : list) numbers.push_back(value.is_null() ? -1 : value.get<int64_t>());
  return numbers;
}

std::vector<int64_t> NumbersAt(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found == json.end() || found->is_null() ? std::vector<int64_t>() : Numbers(*found);
}

struct Column {
  const char* name;
  int64_t RankSums::*field;
};
constexpr Column kColumns[] = {{"step_ns", &RankSums::step_ns},
                               {"blocked_ns", &RankSums::blocked_ns},
                               {"start_ns", &RankSums::start_ns},
                               {"idle_ns", &RankSums::idle_ns},
                               {"idle_receiver_ns", &RankSums::idle_receiver_ns},
                               {"exposed_ns", &RankSums::exposed_ns},
                               {"hidden_ns", &RankSums::hidden_ns},
                               {"wire_bytes", &RankSums::wire_bytes},
                               {"wire_bytes_inter", &RankSums::wire_bytes_inter},
                               {"self_bytes", &RankSums::self_bytes},
                               {"received_bytes", &RankSums::received_bytes},
                               {"exchanges", &RankSums::exchanges},
                               {"dropped", &RankSums::dropped},
                               {"first_use", &RankSums::first_use},
                               {"split_blocked_ns", &RankSums::split_blocked_ns},
                               {"cpu_ns", &RankSums::cpu_ns},
                               {"queued_ns", &RankSums::queued_ns},
                               {"pushed_off", &RankSums::pushed_off}};

std::vector<RankSums> Ranks(const Json& json) {
  std::vector<RankSums> ranks(json.at("step_ns").size());
  for (const Column& column : kColumns) {
    const std::vector<int64_t> values = NumbersAt(json, column.name);
    if (values.empty()) continue;
    if (values.size() != ranks.size()) throw UserError(Format("%s has not one entry a rank", column.name));
    for (size_t r = 0; r < ranks.size(); ++r) ranks[r].*column.field = values[r];
  }
  return ranks;
}

WindowCell Cell(const Json& json, size_t world) {
  WindowCell cell{.communicator = json.at("communicator").get<std::string>(),
                  .operation = json.at("operation").get<std::string>(),
                  .lane = Get(json, "lane", -1),
                  .layer = Get(json, "layer", -1),
                  .by_rank = Get<std::string>(json, "by", "rank") == "rank",
                  .count = NumbersAt(json, "count"),
                  .bytes_intra = NumbersAt(json, "bytes_intra"),
                  .bytes_inter = NumbersAt(json, "bytes_inter"),
                  .bytes_self = NumbersAt(json, "bytes_self"),
                  .blocked_ns = NumbersAt(json, "blocked_ns"),
                  .idle_ns = NumbersAt(json, "idle_ns"),
                  .idle_receiver_ns = NumbersAt(json, "idle_receiver_ns"),
                  .exposed_ns = NumbersAt(json, "exposed_ns"),
                  .hidden_ns = NumbersAt(json, "hidden_ns")};
  for (auto* list : {&cell.count, &cell.bytes_intra, &cell.bytes_inter, &cell.bytes_self, &cell.blocked_ns,
                     &cell.idle_ns, &cell.idle_receiver_ns, &cell.exposed_ns, &cell.hidden_ns}) {
    list->resize(cell.by_rank ? world : 3, -1);
  }
  return cell;
}

WindowMatrix Matrix(const Json& json, const char* key) {
  WindowMatrix matrix{.communicator = Get<std::string>(json, "communicator", ""),
                      .operation = Get<std::string>(json, "operation", ""),
                      .by_rank = Get<std::string>(json, "by", "rank") == "rank",
                      .cells = {}};
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return matrix;
  for (const Json& row : *found) {
    matrix.cells.push_back(Numbers(row));
    if (matrix.cells.back().size() != found->size()) throw UserError("a matrix is not square");
  }
  return matrix;
}

// Pairs of an expert below `experts` and a number.
template <class T>
std::vector<std::pair<int, T>> OfExperts(const Json& list, size_t experts) {
  std::vector<std::pair<int, T>> pairs;
  for (const Json& one : list) {
    pairs.emplace_back(one.at(0).get<int>(), one.at(1).get<T>());
    if (pairs.back().first < 0 || pairs.back().first >= static_cast<int>(experts))
      throw UserError(Format("names an expert %d of %d", pairs.back().first, experts));
  }
  return pairs;
}

void ReadExperts(const Json& json, RecordedWindow& window) {
  window.expert_owner = Get<std::vector<int>>(json, "owner", {});
  const size_t experts = window.expert_owner.size();
  window.shadows = OfExperts<int>(Get(json, "shadows", Json::array()), experts);
  for (const Json& layer : Get(json, "layers", Json::array())) {
    window.expert_rows.push_back({.layer = layer.at("layer").get<int>(),
                                  .choosable = Get<int64_t>(layer, "choosable", 0),
                                  .rows = layer.at("rows").get<int64_t>(),
                                  .most = OfExperts<int64_t>(layer.at("most"), experts)});
  }
}

// true, or what the ranks compute on: "CUDA".
bool IsDevice(const Json& json) {
  const auto found = json.find("device");
  if (found == json.end() || found->is_null()) return false;
  return found->is_string() ? found->get<std::string>() != "CPU" : found->get<bool>();
}

void CheckFormat(const Json& json, const std::string& path) {
  const auto found = json.find("unipool_traffic");
  if (found == json.end() || !found->is_number_integer())
    throw UserError(path + ": not of recorded exchanges");
  if (const int format = found->get<int>(); format != kTrafficFormat) {
    throw TrafficFormatError(Format(
        "%s: records of format %d, written by program version %s; this is program version %s, which reads "
        "format %d: use the program that wrote them",
        path, format, Get<std::string>(json, "program_version", "unknown"), ProgramVersion(),
        kTrafficFormat));
  }
}

// What `parse` throws becomes a sentence about the file.
template <class Parse>
auto Told(const std::string& path, Parse parse) {
  try {
    return parse();
  } catch (const Json::exception& error) {
    throw UserError(path + ": lacks something, or is damaged (" + error.what() + ")");
  }
}

}  // namespace

RecordedManifest ParseRecordedManifest(const std::string& text, const std::string& path) {
  const Json json = ParseObject(text, path);
  CheckFormat(json, path);
  return Told(path, [&] {
    const Json clock = Get(json, "clock", Json::object()), mesh = Get(json, "mesh", Json::object());
    const Json model = Get(json, "model", Json::object());
    RecordedManifest manifest{
        .program_version = Get<std::string>(json, "program_version", ""),
        .run_id = json.at("run_id").get<std::string>(),
        .command = Get<std::string>(json, "command", ""),
        .config_digest = Get<std::string>(json, "config_digest", ""),
        .record = Get<std::string>(json, "record", ""),
        .carrier = Get<std::string>(json, "carrier", ""),
        .emulate = Get<std::string>(json, "emulate", ""),
        .clock = Get<std::string>(clock, "kind", "monotonic"),
        .balance = Get<std::string>(model, "balance", ""),
        .problem = WithoutBlanksAtEnd(Get<std::string>(json, "problem", "")),
        .started = Get(json, "started", 0.0),
        .world = json.at("world").get<int>(),
        .host_of_rank = Get<std::vector<std::string>>(json, "host_of_rank", {}),
        .boot_id_of_rank = Get<std::vector<std::string>>(json, "boot_id_of_rank", {}),
        .node_of_rank = Get<std::vector<int>>(json, "node_of_rank", {}),
        .host_cores_of_rank = Get<std::vector<int>>(json, "host_cores_of_rank", {}),
        .moves_while_computing = Get(json, "progress_thread", false) || Get(json, "polls", false),
        .device = IsDevice(json),
        .ended = Get(json, "ended", false),
        .replicas = Get(mesh, "replicas", 1),
        .stages = Get(mesh, "stages", 1),
        .data = Get(mesh, "data", 1),
        .pool = Get(mesh, "pool", 1),
        .layers = Get(model, "layers", 0),
        .experts = Get(model, "experts", 0),
        .top_k = Get(model, "top_k", 0),
        .microbatches = Get(model, "microbatches", 0),
        .slots_per_time = Get(model, "slots_per_time", 0),
        .row_bytes = Get<int64_t>(model, "row_bytes", 0),
        .tokens_per_microbatch = Get<int64_t>(model, "tokens_per_microbatch", 0),
        .dropped = Get<int64_t>(json, "dropped", 0),
        .comparisons = {}};
    if (manifest.world < 1 || manifest.world > kMostRanks) {
      throw UserError(Format("%s: a world of %d ranks", path, manifest.world));
    }
    manifest.host_of_rank.resize(manifest.world);
    manifest.boot_id_of_rank.resize(manifest.world);
    manifest.node_of_rank.resize(manifest.world, 0);
    manifest.host_cores_of_rank.resize(manifest.world, 0);
    manifest.stages = std::clamp(manifest.stages, 1, manifest.world);
    for (int& node : manifest.node_of_rank) node = std::clamp(node, 0, manifest.world - 1);
    for (const Json& one : Get(clock, "comparisons", Json::array())) {
      manifest.comparisons.push_back({.rank = one.at("rank").get<int>(),
                                      .reference = one.at("reference").get<int>(),
                                      .own_ns = one.at("own_ns").get<int64_t>(),
                                      .offset_ns = one.at("offset_ns").get<int64_t>(),
                                      .uncertainty_ns = one.at("uncertainty_ns").get<int64_t>(),
                                      .num_probes = Get<int64_t>(one, "num_probes", 0)});
    }
    return manifest;
  });
}

RecordedWindow ParseRecordedWindow(const std::string& text, const std::string& path) {
  const Json json = ParseObject(text, path);
  if (json.contains("unipool_traffic")) CheckFormat(json, path);
  return Told(path, [&] {
    try {
      RecordedWindow window{.first_step = json.at("first_step").get<int64_t>(),
                            .last_step = json.at("last_step").get<int64_t>(),
                            .steps = json.at("steps").get<int64_t>(),
                            .split_steps = Get<int64_t>(json, "split_steps", 0),
                            .ranks = Ranks(json.at("ranks")),
                            .cells = {},
                            .matrices = {},
                            .idle_matrix = {},
                            .imbalance_mean = -1,
                            .imbalance_p95 = -1,
                            .expert_rows = {},
                            .expert_owner = {},
                            .shadows = {}};
      if (window.steps < 1) throw UserError("a window of no steps");
      for (const Json& cell : Get(json, "cells", Json::array()))
        window.cells.push_back(Cell(cell, window.ranks.size()));
      for (const Json& matrix : Get(json, "matrices", Json::array()))
        window.matrices.push_back(Matrix(matrix, "bytes"));
      window.idle_matrix = Matrix(Get(json, "idle_matrix", Json::object()), "ns");
      const Json imbalance = Get(json, "imbalance", Json::object());
      window.imbalance_mean = Get(imbalance, "mean", -1.0);
      window.imbalance_p95 = Get(imbalance, "p95", -1.0);
      ReadExperts(Get(json, "expert_rows", Json::object()), window);
      return window;
    } catch (const UserError& error) {
      throw UserError(path + ": " + error.what());
    }
  });
}

}  // namespace unipool
