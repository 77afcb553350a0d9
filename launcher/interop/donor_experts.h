// Experts of another model in named places of a pool. Which ones: those that the donor's own layers choose
// whatever a text is about. That is what XPERT (arXiv 2605.08842) looks for. Its abstract alone was at hand,
// so the measure is this program's own:
//
//   score of expert i = sum over layers l of the least over domains q of a[q, l, i]
//
// a[q, l, i] is the share of layer l's choices that expert i gets on texts of domain q.
#pragma once

#include <string>
#include <vector>

#include "launcher/experts/saved_model.h"
#include "runtime/world.h"

namespace unipool {

struct DomainData {
  std::vector<std::string> sources;  // a text file or a Megatron prefix for each domain
  int64_t sequences = 0;             // the first ones of each; 0: all
  int64_t seq_length = 0;            // 0: the model's
};

// a [domains][L * M] of a model that chooses experts. Throws UserError where the data cannot be read.
// REQUIRES: a world of one rank.
std::vector<std::vector<double>> DomainShares(const SavedModel& model, const DomainData& data, World& world);

struct ChosenExpert {
  int64_t expert = 0;
  double score = 0;
};
// The `count` experts of the highest score, in falling order; of equal ones the first.
// REQUIRES: count <= M.
std::vector<ChosenExpert> ChooseForAllDomains(const std::vector<std::vector<double>>& shares, int64_t layers,
                                              int64_t count);

// Why no expert of the donor fits into the model, a sentence; "" when they do.
std::string WhyNoDonor(const Config& donor, const Config& model);

// "3,7" -> 3 and 7: places in a pool of `experts`. Throws UserError.
std::vector<int64_t> PlacesNamed(const std::string& text, int64_t experts);

// Copies the weights of chosen[i] over expert places[i]; their moments become 0. All else stays.
void PlaceExperts(const SavedModel& donor, const std::vector<ChosenExpert>& chosen,
                  const std::vector<int64_t>& places, SavedModel& model);

}  // namespace unipool
