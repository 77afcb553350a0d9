// Descriptions of clusters: the examples load, numbers get their units, wrong ones are told by field.
#include "launcher/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "launcher/world_options.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class ClusterTest : public testing::Test {
 protected:
  ClusterTest() { fs::create_directories(folder_); }
  ~ClusterTest() override { fs::remove_all(folder_); }
  std::string File(const std::string& text) const {
    const std::string path = (folder_ / "a.txtpb").string();
    std::ofstream(path) << text;
    return path;
  }
  std::vector<std::string> ProblemsOf(const std::string& text) const {
    try {
      LoadCluster(File(text));
    } catch (const UserError& error) {
      return error.problems();
    }
    return {};
  }
  const fs::path folder_ = fs::path(testing::TempDir()) / ("cluster_test_" + std::to_string(getpid()));
};

TEST_F(ClusterTest, ExamplesLoad) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(UNIPOOL_SOURCE_DIR "/configs/clusters")) {
    EXPECT_GT(LoadCluster(entry.path().string()).compute_scale, 0) << entry.path();
    ++count;
  }
  EXPECT_GE(count, 2);
}

TEST_F(ClusterTest, NumbersHaveTheirUnits) {
  const ClusterDescription cluster =
      LoadCluster(File("ranks_per_node: 4 intra_node { latency_us: 3 gigabytes_per_second: 300 } "
                       "inter_node { latency_us: 12.5 } compute_scale: 0.5"));
  EXPECT_EQ(cluster.ranks_per_node, 4);
  EXPECT_DOUBLE_EQ(cluster.intra_node.latency_seconds, 3e-6);
  EXPECT_DOUBLE_EQ(cluster.intra_node.bytes_per_second, 3e11);
  EXPECT_DOUBLE_EQ(cluster.inter_node.latency_seconds, 12.5e-6);
  EXPECT_EQ(cluster.inter_node.bytes_per_second, 0);
  EXPECT_EQ(cluster.compute_scale, 0.5);
  EXPECT_EQ(cluster.NodeOf(3), cluster.NodeOf(0));
  EXPECT_NE(cluster.NodeOf(4), cluster.NodeOf(3));
}

TEST_F(ClusterTest, AllWrongNumbersAreToldAtOnce) {
  EXPECT_THAT(ProblemsOf("ranks_per_node: -1 compute_scale: 0 inter_node { latency_us: -2 }"),
              ElementsAre(HasSubstr("ranks_per_node: is -1; must"), HasSubstr("compute_scale: is 0; must"),
                          HasSubstr("inter_node.latency_us: is -2; must lie between 0 and 1e9")));
}

TEST_F(ClusterTest, UnknownFieldsAreToldByLine) {
  const std::vector<std::string> problems = ProblemsOf("ranks_per_node: 4\nintra_nodes { }");
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_THAT(problems[0], HasSubstr("a.txtpb:2"));
  EXPECT_THAT(problems[0], HasSubstr("intra_node"));
}

TEST_F(ClusterTest, IsRefusedUnderALauncher) {
  Config config;
  config.mutable_parallel()->set_emulate(File("ranks_per_node: 4"));
  EXPECT_EQ(WorldOptionsOf(config).emulate->ranks_per_node, 4);
  setenv("PMIX_RANK", "0", 1);
  try {
    WorldOptionsOf(config);
    ADD_FAILURE() << "not refused";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("parallel.emulate"));
    EXPECT_THAT(error.what(), HasSubstr("without mpirun"));
  }
  unsetenv("PMIX_RANK");
}

}  // namespace
}  // namespace unipool
