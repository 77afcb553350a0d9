// What `unipool experts` tells of a model: which layer uses which expert, how much, how alike layers are, and
// what the loss would be without an expert (models/EXPERTS.md).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/model_spec.h"

namespace unipool {

// Numbers [L * M] of an evaluation, and of the run's history where its checkpoint holds one.
struct ExpertTables {
  int64_t layers = 0, experts = 0, top_k = 1;
  double tokens = 0;                                   // evaluated
  std::vector<double> counts, mass;                    // choices with a positive score; sums of their scores
  std::optional<std::vector<double>> importance, ucb;  // nats (models/importance_history.h)
  double windows = 0;                                  // of the history, ten steps each
  std::vector<double> margin, ahead;                   // [L] (models/decision_margin.h), or empty
};

struct LayerUse {
  double entropy = 0;    // of its shares of choices, bits
  double effective = 1;  // 2^entropy: experts that it uses
  int64_t used = 0;      // experts that it chose at least once
  double top_share = 0;  // of its choices that went to its top set
};
// Of a layer's counts. The top set has min(16, M) experts.
std::vector<LayerUse> UseOfLayers(const ExpertTables& tables);

// The layer's `k` experts with most choices, the most chosen first; of equal counts the first expert. Experts
// without a choice are left out.
std::vector<int64_t> TopSet(const ExpertTables& tables, int64_t layer, int64_t k);

// Mean over pairs of layers of |A n B| / |A u B|, A and B their top sets of k. 0 with one layer.
double MeanJaccard(const ExpertTables& tables, int64_t k);

// The union of all layers' top sets of k.
struct TopUnion {
  int64_t k = 0, size = 0;
  double of_pool = 0;     // size / M
  double saturation = 0;  // size / min(k L, M): 1 where no two layers share an expert before they must
  double coverage = 0;    // share of all choices that go to a layer's own top set, mean over layers
};
// For k of {1, 2, 3, 5, 8, 10, 16, 20, 32, 48, 64} up to M.
std::vector<TopUnion> TopUnions(const ExpertTables& tables);

// An expert over all layers.
struct ExpertUseOf {
  int64_t expert = 0, layers = 0;  // layers: that chose it
  double count = 0, mass = 0, importance = 0, ucb = 0;
  std::optional<double> loss_without;
};
// The most important first: by UCB, without a history by mass.
std::vector<ExpertUseOf> RankedExperts(const ExpertTables& tables);

struct ExpertReport {
  std::string checkpoint, split;
  int64_t sequences = 0;
  double loss = 0;
  ExpertTables tables;
  std::vector<ExpertUseOf> experts;  // ranked
};
std::string ExpertReportText(const ExpertReport& report);  // 80 columns
nlohmann::ordered_json ExpertReportJson(const ExpertReport& report);

}  // namespace unipool
