#include "launcher/interop/donor_experts.h"

#include <algorithm>
#include <numeric>

#include "launcher/interop/measured_model.h"
#include "launcher/interop/model_weights.h"
#include "launcher/text_list.h"
#include "models/routing_probe.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

// Counts become shares of their layer; a layer without choices has none.
void Normalize(int64_t experts, std::vector<double>& counts) {
  for (auto begin = counts.begin(); begin != counts.end(); begin += experts) {
    const double sum = std::accumulate(begin, begin + experts, 0.0);
    if (sum > 0) std::for_each(begin, begin + experts, [&](double& count) { count /= sum; });
  }
}

}  // namespace

std::vector<std::vector<double>> DomainShares(const SavedModel& model, const DomainData& data, World& world) {
  MeasuredModel measured(model, data.seq_length, EngineMode::kEvaluate, world);
  EngineParts& parts = measured.engine().parts();
  std::vector<std::vector<double>> shares;
  for (const std::string& source : data.sources) {
    const std::unique_ptr<TokenDataset> dataset = measured.Open(source);
    const int64_t all = dataset->samples_per_epoch();
    RoutingProbe probe(parts.spec, {}, parts.place.device());
    parts.model.SetProbe(&probe);
    for (int64_t i = 0; i < (data.sequences > 0 ? std::min(data.sequences, all) : all); ++i)
      measured.engine().EvaluateLossSum(measured.Sequence(*dataset, i), 1);
    parts.model.SetProbe(nullptr);
    shares.push_back(probe.counts());
    Normalize(parts.spec.experts, shares.back());
  }
  return shares;
}

std::vector<ChosenExpert> ChooseForAllDomains(const std::vector<std::vector<double>>& shares, int64_t layers,
                                              int64_t count) {
  const int64_t entries = static_cast<int64_t>(shares.at(0).size()), experts = entries / layers;
  std::vector<ChosenExpert> all(experts);
  for (int64_t e = 0; e < experts; ++e) all[e].expert = e;
  for (int64_t i = 0; i < entries; ++i) {
    double least = shares[0][i];
    for (const std::vector<double>& domain : shares) least = std::min(least, domain[i]);
    all[i % experts].score += least;
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const ChosenExpert& a, const ChosenExpert& b) { return a.score > b.score; });
  CHECK_LE(count, experts);
  all.resize(count);
  return all;
}

std::string WhyNoDonor(const Config& donor, const Config& model) {
  if (donor.moe().sharing() == Sharing::DENSE) return "it is dense, so its layers choose no experts";
  if (donor.model().hidden() != model.model().hidden() || donor.moe().width() != model.moe().width()) {
    return Format("its experts have hidden size %d and width %d; those of the model have %d and %d",
                  donor.model().hidden(), donor.moe().width(), model.model().hidden(), model.moe().width());
  }
  return "";
}

std::vector<int64_t> PlacesNamed(const std::string& text, int64_t experts) {
  std::vector<int64_t> places;
  for (const std::string& word : SplitTextList(text)) {
    const bool is_number = word.size() < 10 && word.find_first_not_of("0123456789") == std::string::npos;
    if (!is_number || std::stoll(word) >= experts) {
      throw UserError(Format("--place=%s: \"%s\" is no place; the pool has experts 0 to %d", text.c_str(),
                             word.c_str(), experts - 1));
    }
    if (std::find(places.begin(), places.end(), std::stoll(word)) != places.end())
      throw UserError("--place=" + text + ": names " + word + " twice");
    places.push_back(std::stoll(word));
  }
  if (places.empty()) throw UserError("--place: is missing; name the experts that are replaced, as in 3,7");
  return places;
}

void PlaceExperts(const SavedModel& donor, const std::vector<ChosenExpert>& chosen,
                  const std::vector<int64_t>& places, SavedModel& model) {
  CHECK_EQ(chosen.size(), places.size());
  for (size_t i = 0; i < places.size(); ++i) {
    for (const char* projection : kProjections) {
      const std::string end = std::string(projection) + ".weight";
      const SavedModel::Weight& from = donor.weights.at(ExpertPrefix(chosen[i].expert) + end);
      SavedModel::Weight& to = model.weights.at(ExpertPrefix(places[i]) + end);
      CHECK(from.shape == to.shape) << end;
      to.values[0] = from.values[0];
      for (const int moment : {1, 2}) std::fill(to.values[moment].begin(), to.values[moment].end(), 0.F);
    }
  }
}

}  // namespace unipool
