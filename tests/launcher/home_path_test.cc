// ~ at the beginning of paths.
#include "launcher/home_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "launcher/config.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

using testing::ElementsAre;

TEST(HomePath, StandsForTheFolderAtTheBeginningOnly) {
  setenv("HOME", "/home/me", 1);
  EXPECT_EQ(ExpandHome("~/runs"), "/home/me/runs");
  EXPECT_EQ(ExpandHome("~"), "/home/me");
  for (const std::string path : {"", "a/~/b", "~other/x", "a~"}) EXPECT_EQ(ExpandHome(path), path);
}

TEST(HomePath, WithoutHomeItIsRefused) {
  setenv("HOME", "", 1);
  EXPECT_THROW(ExpandHome("~/x"), UserError);
}

TEST(HomePath, OfAllPathsOfTheSettings) {
  setenv("HOME", "/home/me", 1);
  const Config config = ParseConfig(
      "run_dir: '~/a'", "text",
      {"data.train=~/b,0.7 ~/c,c~/d", "data.valid=~/e", "train.init_from=~/f", "parallel.emulate=~/g"});
  EXPECT_EQ(config.run_dir(), "/home/me/a");
  EXPECT_THAT(config.data().train(), ElementsAre("/home/me/b", "0.7 /home/me/c", "c~/d"));
  EXPECT_THAT(config.data().valid(), ElementsAre("/home/me/e"));
  EXPECT_EQ(config.train().init_from(), "/home/me/f");
  EXPECT_EQ(config.parallel().emulate(), "/home/me/g");
}

}  // namespace
}  // namespace unipool
