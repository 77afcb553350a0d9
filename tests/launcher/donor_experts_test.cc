// Which experts are chosen by per-domain shares, and where they go.
#include "launcher/interop/donor_experts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/config.h"
#include "launcher/interop/model_weights.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(DonorExperts, ThoseOfAllDomainsComeFirst) {
  // Two domains, two layers of three experts. Expert 0 is everything in one domain and nothing in the other.
  const std::vector<std::vector<double>> shares = {{0.9, 0.1, 0.0, 0.2, 0.5, 0.3},
                                                   {0.0, 0.4, 0.6, 0.1, 0.5, 0.4}};
  const std::vector<ChosenExpert> chosen = ChooseForAllDomains(shares, 2, 3);
  EXPECT_EQ(chosen[0].expert, 1);
  EXPECT_NEAR(chosen[0].score, 0.1 + 0.5, 1e-12);
  EXPECT_EQ(chosen[1].expert, 2);
  EXPECT_NEAR(chosen[1].score, 0.3, 1e-12);
  EXPECT_EQ(chosen[2].expert, 0);
  EXPECT_EQ(ChooseForAllDomains({{0.5, 0.5}}, 1, 1)[0].expert, 0);
}

TEST(DonorExperts, PlacesAreNumbersOfThePool) {
  EXPECT_THAT(PlacesNamed("3, 0", 4), ElementsAre(3, 0));
  for (const char* wrong : {"4", "-1", "a", "1,1", "", "99999999999"})
    EXPECT_THROW(PlacesNamed(wrong, 4), UserError) << wrong;
}

TEST(DonorExperts, OnlyThePlacesChange) {
  SavedModel model, donor;
  for (int64_t e = 0; e < 3; ++e) {
    for (const char* projection : kProjections) {
      const std::string name = ExpertPrefix(e) + projection + ".weight";
      model.weights[name] = {{1, 1}, {{{static_cast<float>(e)}, {1}, {1}}}};
      donor.weights[name] = {{1, 1}, {{{10.F + static_cast<float>(e)}, {5}, {5}}}};
    }
  }
  PlaceExperts(donor, {{.expert = 2}, {.expert = 0}}, {1, 2}, model);
  EXPECT_THAT(model.weights.at("model.pool.experts.0.up_proj.weight").values,
              ElementsAre(ElementsAre(0), ElementsAre(1), ElementsAre(1)));
  EXPECT_THAT(model.weights.at("model.pool.experts.1.up_proj.weight").values,
              ElementsAre(ElementsAre(12), ElementsAre(0), ElementsAre(0)));
  EXPECT_THAT(model.weights.at("model.pool.experts.2.down_proj.weight").values[0], ElementsAre(10));
}

TEST(DonorExperts, OthersDoNotFit) {
  const auto settings = [](const std::string& text) { return ParseConfig(text, "settings"); };
  const Config model = settings("moe { width: 8 }");
  EXPECT_EQ(WhyNoDonor(settings("moe { width: 8 sharing: PRIVATE }"), model), "");
  EXPECT_THAT(WhyNoDonor(settings("moe { width: 9 }"), model),
              HasSubstr("width 9; those of the model have 256 and 8"));
  EXPECT_THAT(WhyNoDonor(settings("model { hidden: 64 } moe { width: 8 }"), model),
              HasSubstr("hidden size 64"));
  EXPECT_THAT(WhyNoDonor(settings("moe { width: 8 sharing: DENSE }"), model), HasSubstr("choose no experts"));
}

}  // namespace
}  // namespace unipool
