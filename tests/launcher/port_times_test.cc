#include "launcher/traffic_report/port_times.h"

#include <gmock/gmock.h>

namespace unipool {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;

TEST(PortTimes, BlocksOfOneSenderShareItsPort) {
  const std::vector<double> ends =
      PortTimes({{.from = 0, .to = 1, .bytes = 10}, {.from = 0, .to = 2, .bytes = 20}}, 3);
  EXPECT_THAT(ends, ElementsAre(DoubleNear(20, 1e-3), DoubleNear(30, 1e-3)));
}

// Three blocks come to port 2 at a third of its speed each. What that leaves of port 0 its other block gets.
TEST(PortTimes, ABlockGetsWhatOthersLeave) {
  const std::vector<double> ends = PortTimes({{.from = 0, .to = 2, .bytes = 30},
                                              {.from = 1, .to = 2, .bytes = 30},
                                              {.from = 3, .to = 2, .bytes = 30},
                                              {.from = 0, .to = 1, .bytes = 30}},
                                             4);
  EXPECT_THAT(ends, ElementsAre(DoubleNear(90, 1e-3), DoubleNear(90, 1e-3), DoubleNear(90, 1e-3),
                                DoubleNear(45, 1e-3)));
}

TEST(PortTimes, ABlockThatBeginsLaterSlowsTheRest) {
  const std::vector<double> ends =
      PortTimes({{.from = 0, .to = 1, .bytes = 20}, {.from = 2, .to = 1, .bytes = 20, .begin = 10}}, 3);
  EXPECT_THAT(ends, ElementsAre(DoubleNear(30, 1e-3), DoubleNear(40, 1e-3)));
}

TEST(PortTimes, NothingTakesNoTime) {
  EXPECT_TRUE(PortTimes({}, 2).empty());
}

}  // namespace
}  // namespace unipool
