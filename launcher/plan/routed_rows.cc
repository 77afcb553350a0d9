#include "launcher/plan/routed_rows.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <numeric>

#include "launcher/checkpoints/checkpoint_folder.h"
#include "launcher/config.h"
#include "launcher/experts/saved_model.h"
#include "launcher/traffic_report/expert_rows.h"
#include "models/expert_replacer.h"
#include "models/importance_history.h"
#include "models/model_spec.h"
#include "models/settings.h"
#include "models/stage_layers.h"
#include "parallel/slot_placement.h"
#include "runtime/errors.h"
#include "runtime/random.h"

namespace unipool {
namespace {

constexpr double kEarlySigma = 0.7, kLateSigma = 0.25;
// Points of the mean expert's rows at which the share of used experts is computed: 2^-6 to 2^18.
constexpr double kLeastLog = -6, kLogStep = 0.5;
constexpr int kUsedPoints = 49;
constexpr uint64_t kSharesKey = 0x706c616e;

void Normalize(std::span<double> shares) {
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) share = sum > 0 ? share / sum : 1 / static_cast<double>(shares.size());
}

// A field of the records that must be as in the settings.
void CheckEqual(Problems& problems, const std::string& name, const char* field, int64_t recorded,
                int64_t wanted) {
  if (recorded == wanted) return;
  problems.Add(
      Format("%s: %s: the run had %d, and the settings have %d; give records of a run with "
             "this model and layout, or --imbalance",
             name.c_str(), field, recorded, wanted));
}

}  // namespace

RecordedRows::RecordedRows(const RecordedRun& run, const Config& config, const MeshShape& mesh,
                           const std::string& name)
    : mesh_(mesh) {
  const RecordedManifest& manifest = run.manifest;
  Problems problems;
  const auto check = [&](const char* field, int64_t recorded, int64_t wanted) {
    CheckEqual(problems, name, field, recorded, wanted);
  };
  check("model.layers", manifest.layers, config.model().layers());
  check("moe.experts", manifest.experts, config.moe().experts());
  check("moe.top_k", manifest.top_k, config.moe().top_k());
  check("ranks", manifest.world, mesh.world());
  check("parallel.pool_replicas", manifest.replicas, mesh.replicas);
  check("parallel.stages", manifest.stages, mesh.stages);
  check("ranks that share experts", manifest.pool, mesh.pool());
  check("microbatches of a rank", manifest.microbatches, MicrobatchesPerRank(config, mesh));
  check("tokens of a microbatch (train.micro_batch times model.seq_length)", manifest.tokens_per_microbatch,
        int64_t{config.train().micro_batch()} * config.model().seq_length());
  problems.ThrowIfAny();
  const std::vector<int64_t> steps = run.RecordedSteps();
  if (steps.empty()) {
    throw UserError(name + ": no step was recorded exchange by exchange; train with traffic.record=FULL");
  }
  step_ = steps.back();
  for (const TrafficFile& file : run.files) {
    const MeshPosition at = PositionOf(mesh, file.header.rank);
    for (const RecordedExchange& exchange : file.exchanges) {
      const ExchangeRecord& record = exchange.record;
      if (record.step != step_ || record.row_bytes == 0 || record.microbatch < 0) continue;
      if (record.operation < 0) continue;
      const std::string& operation = file.operations[record.operation];
      if (operation != "dispatch forward" && operation != "dispatch backward") continue;
      // The exchanges of a lane's pieces follow each other.
      std::vector<double>& owners =
          rows_[{record.lane, at.replica * mesh.data + at.data, record.microbatch, record.layer}]
              .emplace_back(mesh.pool(), 0);
      owners[file.header.rank % mesh.pool()] = static_cast<double>(record.bytes_self) / record.row_bytes;
      for (const PeerBytes& peer : exchange.peers) {
        owners[peer.peer] = static_cast<double>(peer.bytes_to) / record.row_bytes;
      }
    }
  }
}

void RecordedRows::Fill(int replica, int data, int microbatch, int layer, std::span<double> owners) const {
  std::fill(owners.begin(), owners.end(), 0.0);
  const auto found = rows_.find({0, replica * mesh_.data + data, microbatch, layer});
  if (found == rows_.end()) return;
  for (const std::vector<double>& piece : found->second) {
    for (size_t owner = 0; owner < owners.size(); ++owner) owners[owner] += piece[owner];
  }
}

bool RecordedRows::FillPiece(Lane lane, int piece, int replica, int data, int microbatch, int layer,
                             std::span<double> owners) const {
  const auto found = rows_.find({static_cast<int>(lane), replica * mesh_.data + data, microbatch, layer});
  if (found == rows_.end() || piece >= static_cast<int>(found->second.size())) return false;
  std::copy(found->second[piece].begin(), found->second[piece].end(), owners.begin());
  return true;
}

DrawnRows::DrawnRows(double rows, int data, std::vector<double> shares, const ExpertPlacement& placement,
                     uint64_t seed)
    : rows_(rows), sent_(rows * data), num_owners_(placement.num_ranks()), seed_(seed) {
  const size_t experts = placement.num_experts(), layers = shares.size() / experts;
  // An expert with the share p of its layer has rows where one of mean * M rows chooses it.
  for (int i = 0; i < kUsedPoints; ++i) {
    const double mean = std::exp2(kLeastLog + kLogStep * i),
                 rows_of_layer = mean * static_cast<double>(experts);
    double unused = 0;
    for (const double share : shares) unused += std::exp(-rows_of_layer * share);
    used_.push_back(1 - unused / static_cast<double>(shares.size()));
  }
  of_owner_.assign(layers * num_owners_, 0);
  for (size_t layer = 0; layer < layers; ++layer) {
    for (int place = 0; place < placement.num_places(); ++place) {
      const int e = placement.send_order()[place], rank = placement.rank_of(place);
      if (e < 0) continue;
      const double part =
          placement.has_shares()
              ? static_cast<double>(placement.shares(static_cast<int>(layer))[place]) / kShareUnits
              : placement.owner(e) == rank;
      of_owner_[layer * num_owners_ + rank] += part * shares[layer * experts + e];
    }
  }
}

double DrawnRows::UsedByChance(double mean) const {
  if (mean <= 0) return 0;
  const double at = std::clamp((std::log2(mean) - kLeastLog) / kLogStep, 0.0, kUsedPoints - 1.0);
  const auto before = std::min(static_cast<size_t>(at), used_.size() - 2);
  const double t = at - static_cast<double>(before);
  return (1 - t) * used_[before] + t * used_[before + 1];
}

void DrawnRows::Fill(int replica, int, int microbatch, int layer, std::span<double> owners) const {
  const uint64_t key = RandomBits(RandomBits(RandomBits(seed_, replica), microbatch), layer);
  for (int owner = 0; owner < num_owners_; ++owner) {
    const double share = of_owner_[size_t{1} * layer * num_owners_ + owner];
    // Of counts that nothing ties to each other; with their sum they are those of independent choices.
    const double spread = std::sqrt(share / sent_);
    owners[owner] = share > 0 ? std::max(0.0, share + spread * RandomNormal(key, owner)) : 0;
  }
  Normalize(owners);
  for (double& share : owners) share *= rows_;
}

std::vector<double> AssumedShares(const Config& config, Imbalance imbalance) {
  const ModelSpec spec = MakeModelSpec(config);
  const double sigma = imbalance == Imbalance::kLevel   ? 0
                       : imbalance == Imbalance::kEarly ? kEarlySigma
                                                        : kLateSigma;
  std::vector<double> shares;
  for (int64_t layer = 0; layer < spec.layers; ++layer) {
    std::vector<double> of_layer;
    for (int64_t e = 0; e < spec.experts; ++e) {
      const double use = std::exp(sigma * RandomNormal(kSharesKey, layer * spec.experts + e));
      of_layer.push_back(spec.visible[layer][e] > 0 ? use : 0);
    }
    Normalize(of_layer);
    shares.insert(shares.end(), of_layer.begin(), of_layer.end());
  }
  return shares;
}

ExpertPlacement PlacementFor(const Config& config, const MeshShape& mesh, const std::vector<double>& shares) {
  const SlotSchedule schedule = TrainingSchedule(config, mesh);
  const ExpertPlacement first =
      FirstPlacement(MakeModelSpec(config), config.parallel().placement(), schedule, mesh);
  const bool is_replaced = config.parallel().placement() != ParallelConfig::CONTIGUOUS &&
                           config.parallel().replace_every() > 0 && mesh.pool() > 1;
  if (!is_replaced) return first;
  return PlaceBySlots(SlotLoadsOf(shares, config.moe().experts(), schedule, mesh.span), first);
}

std::vector<double> CountedShares(const std::string& run_dir, const Config& config, const std::string& name) {
  const std::vector<std::string> checkpoints = ListCheckpoints(run_dir);
  if (checkpoints.empty()) {
    throw UserError(name +
                    ": has neither records of single steps nor a checkpoint, so nothing tells where rows "
                    "went; train with traffic.record=FULL, or give --imbalance");
  }
  const Config of_run = LoadConfig(checkpoints[0] + "/config.txtpb", {});
  Problems problems;
  CheckEqual(problems, name, "model.layers", of_run.model().layers(), config.model().layers());
  CheckEqual(problems, name, "moe.experts", of_run.moe().experts(), config.moe().experts());
  CheckEqual(problems, name, "moe.top_k", of_run.moe().top_k(), config.moe().top_k());
  problems.ThrowIfAny();
  const ModelSpec spec = MakeModelSpec(config);
  ImportanceHistory history(spec);
  ReadHistory(checkpoints[0], history);
  if (!history.exists()) {
    throw UserError(name + Format(": its newest checkpoint (%s) has counted no full %d steps; let it train "
                                  "longer, or give --imbalance",
                                  checkpoints[0].c_str(), ImportanceHistory::kWindow));
  }
  std::vector<double> shares = history.Counts();
  for (int64_t layer = 0; layer < spec.layers; ++layer) {
    Normalize(std::span(shares).subspan(layer * spec.experts, spec.experts));
  }
  return shares;
}

std::vector<double> RecordedShares(const RecordedRun& run, const Config& config) {
  const ExpertRows rows = ExpertRowsOf(run, 0, std::numeric_limits<int64_t>::max());
  const auto layers = static_cast<size_t>(config.model().layers());
  if (!rows.is_whole || rows.layers.size() != layers || rows.num_experts() != config.moe().experts())
    return {};
  std::vector<double> shares;
  for (size_t layer = 0; layer < layers; ++layer) {
    std::vector<double> of_layer;
    for (int e = 0; e < rows.num_experts(); ++e) of_layer.push_back(rows.rows[e][layer]);
    Normalize(of_layer);
    shares.insert(shares.end(), of_layer.begin(), of_layer.end());
  }
  return shares;
}

std::vector<double> SharesIfCounted(const std::string& run_dir, const Config& config) {
  try {
    return CountedShares(run_dir, config, run_dir);
  } catch (const UserError&) {
    return {};
  }
}

}  // namespace unipool
