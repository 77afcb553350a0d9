// ExpertReportText and ExpertReportJson of expert_figures.h.
#include <algorithm>
#include <cmath>

#include "launcher/experts/expert_figures.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMapColumns = 64;

std::string LayersText(const ExpertTables& tables) {
  const bool has_margin = !tables.margin.empty();
  std::string text = Format("%5s %8s %9s %5s %7s", "layer", "entropy", "effective", "used", "top 16");
  text += has_margin ? Format(" %8s %7s\n", "margin", "ahead") : "\n";
  const std::vector<LayerUse> uses = UseOfLayers(tables);
  for (int64_t l = 0; l < tables.layers; ++l) {
    const LayerUse& use = uses[l];
    text +=
        Format("%5d %8.3f %9.2f %5d %6.1f%%", l, use.entropy, use.effective, use.used, 100 * use.top_share);
    text += has_margin ? Format(" %8.3f %6.1f%%\n", tables.margin[l], 100 * tables.ahead[l]) : "\n";
  }
  text += "entropy in bits of the shares of choices; effective = 2^entropy experts\n";
  if (has_margin) {
    text +=
        "margin in nats of the next token over all others, read behind the layer with\n"
        "the final norm and head; ahead: share of tokens for which it is positive\n";
  }
  return text;
}

// Ten shades for shares of the largest entry of the layer; a dot is 0.
std::string MapText(const ExpertTables& tables) {
  const std::vector<double>& numbers = tables.importance ? *tables.importance : tables.counts;
  std::string text = Format("Layer x expert: %s, 1 to 9 of the layer's largest; . is none\n",
                            tables.importance ? "importance" : "choices");
  for (int64_t first = 0; first < tables.experts; first += kMapColumns) {
    const int64_t end = std::min(tables.experts, first + kMapColumns);
    text += Format("experts %d to %d\n", first, end - 1);
    for (int64_t l = 0; l < tables.layers; ++l) {
      const double* row = numbers.data() + l * tables.experts;
      const double most = *std::max_element(row, row + tables.experts);
      text += Format("%5d ", l);
      for (int64_t i = first; i < end; ++i) {
        const int shade = row[i] > 0 ? std::clamp(static_cast<int>(std::ceil(9 * row[i] / most)), 1, 9) : 0;
        text += shade == 0 ? '.' : static_cast<char>('0' + shade);
      }
      text += "\n";
    }
  }
  return text;
}

std::string UnionsText(const ExpertTables& tables) {
  std::string text = Format("Mean Jaccard of the layers' top 16: %.3f\n%5s %7s %8s %10s %9s\n",
                            MeanJaccard(tables, 16), "top K", "union", "of pool", "saturation", "coverage");
  for (const TopUnion& top : TopUnions(tables)) {
    text += Format("%5d %7d %7.1f%% %10.3f %8.1f%%\n", top.k, top.size, 100 * top.of_pool, top.saturation,
                   100 * top.coverage);
  }
  return text;
}

std::string ExpertRow(const ExpertReport& report, const ExpertUseOf& expert) {
  std::string row = Format("%6d %9.0f %11.1f %6d", expert.expert, expert.count, expert.mass, expert.layers);
  if (report.tables.ucb) row += Format(" %11.3e %10.3e", expert.importance, expert.ucb);
  if (expert.loss_without)
    row += Format(" %10.6f %+9.6f", *expert.loss_without, *expert.loss_without - report.loss);
  return row + "\n";
}

std::string ExpertsText(const ExpertReport& report) {
  constexpr size_t kShown = 10;
  std::string text = Format("%6s %9s %11s %6s", "expert", "choices", "gate mass", "layers");
  if (report.tables.ucb) text += Format(" %11s %10s", "importance", "UCB");
  const size_t n = report.experts.size();
  const bool has_losses =
      std::any_of(report.experts.begin(), report.experts.end(), [](const auto& e) { return e.loss_without; });
  text += has_losses ? Format(" %10s %9s\n", "loss if", "dropped") : "\n";
  bool is_cut = false;
  for (size_t i = 0; i < n; ++i) {
    const bool is_shown = i < kShown || i >= n - std::min(n, kShown) || report.experts[i].loss_without;
    if (is_shown) text += ExpertRow(report, report.experts[i]);
    if (!is_shown && !is_cut) text += "   ...\n";
    is_cut = is_cut || !is_shown;
  }
  return text;
}

Json TableOf(const std::vector<double>& numbers, int64_t experts) {
  Json table = Json::array();
  for (size_t first = 0; first < numbers.size(); first += experts) {
    table.push_back(std::vector<double>(numbers.begin() + first, numbers.begin() + first + experts));
  }
  return table;
}

}  // namespace

std::string ExpertReportText(const ExpertReport& report) {
  const ExpertTables& tables = report.tables;
  std::string text = Format("%s\n%s split, %d sequences, %.0f tokens: loss %.6f\n", report.checkpoint.c_str(),
                            report.split.c_str(), report.sequences, tables.tokens, report.loss);
  text += tables.ucb
              ? Format("importance: smoothed over the run's steps, %.0f windows of 10\n\n", tables.windows)
              : "no importance in this checkpoint (none of 10 steps since it is measured)\n\n";
  text += LayersText(tables) + "\n" + MapText(tables) + "\n" + UnionsText(tables) + "\n";
  text += Format("Experts over all layers, the %s first\n", tables.ucb ? "most important (UCB)" : "heaviest");
  return text + ExpertsText(report);
}

Json ExpertReportJson(const ExpertReport& report) {
  const ExpertTables& tables = report.tables;
  Json json = {{"checkpoint", report.checkpoint}, {"split", report.split}, {"sequences", report.sequences},
               {"tokens", tables.tokens},         {"loss", report.loss},   {"layers", Json::array()}};
  const std::vector<LayerUse> uses = UseOfLayers(tables);
  for (int64_t l = 0; l < tables.layers; ++l) {
    Json layer = {{"layer", l},
                  {"entropy_bits", uses[l].entropy},
                  {"effective_experts", uses[l].effective},
                  {"used_experts", uses[l].used},
                  {"top_16_share", uses[l].top_share}};
    if (!tables.margin.empty()) {
      layer["decision_margin"] = tables.margin[l];
      layer["ahead_share"] = tables.ahead[l];
    }
    json["layers"].push_back(layer);
  }
  json["jaccard_of_top_16"] = MeanJaccard(tables, 16);
  for (const TopUnion& top : TopUnions(tables)) {
    json["unions"].push_back({{"k", top.k},
                              {"size", top.size},
                              {"of_pool", top.of_pool},
                              {"saturation", top.saturation},
                              {"coverage", top.coverage}});
  }
  for (const ExpertUseOf& expert : report.experts) {
    Json row = {{"expert", expert.expert},
                {"choices", expert.count},
                {"gate_mass", expert.mass},
                {"layers", expert.layers}};
    if (tables.ucb) row.update({{"importance", expert.importance}, {"ucb", expert.ucb}});
    if (expert.loss_without) row["loss_without"] = *expert.loss_without;
    json["experts"].push_back(row);
  }
  json["tables"] = {{"choices", TableOf(tables.counts, tables.experts)},
                    {"gate_mass", TableOf(tables.mass, tables.experts)}};
  if (tables.ucb) {
    json["importance_windows"] = tables.windows;
    json["tables"]["importance"] = TableOf(*tables.importance, tables.experts);
    json["tables"]["ucb"] = TableOf(*tables.ucb, tables.experts);
  }
  return json;
}

}  // namespace unipool
