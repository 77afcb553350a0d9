// Descriptions of clusters: the examples load, numbers get their units, wrong ones are told by field.
#include "launcher/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

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
    if (entry.path().extension() != ".txtpb") continue;
    EXPECT_GT(LoadCluster(entry.path().string()).compute_scale, 0) << entry.path();
    ++count;
  }
  EXPECT_GE(count, 2);
}

// A band of no width would say that nothing of the file can be wrong.
TEST_F(ClusterTest, NoiseIsAssumedWhereNotAllIsMeasured) {
  const std::string work = "intra_node { latency_us: 3 } processor { work { kind: HEAD fixed_us: 1 } ",
                    spec = "origin { field: \"intra_node\" tag: SPEC } ",
                    measured = "origin { field: \"processor\" tag: MEASURED } ";
  const Cluster cluster = LoadClusterFile(File(work + "} " + spec + measured));
  EXPECT_GT(cluster.config.noise(), 0.05);
  EXPECT_EQ(cluster.numbers.back().field, "noise");
  EXPECT_EQ(cluster.numbers.back().value, cluster.config.noise());
  EXPECT_EQ(cluster.numbers.back().tag, Tag::ASSUMED);
  EXPECT_FALSE(cluster.numbers.back().source.empty());
  const std::string all_measured = "origin { field: \"intra_node\" tag: MEASURED } " + measured;
  for (const std::string& text : {work + "} noise: 0 " + spec + measured, work + "} " + all_measured,
                                  work + "emulate: true } " + spec + measured}) {
    EXPECT_EQ(LoadClusterFile(File(text)).config.noise(), 0) << text;
  }
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

// A sound description for a plan, with `more` behind it.
std::string Described(const std::string& more) {
  std::string text = "ranks_per_node: 2 intra_node { latency_us: 1 gigabytes_per_second: 8 } processor { ";
  for (int kind = 0; kind < Work::Kind_ARRAYSIZE; ++kind) {
    text += "work { kind: " + Work::Kind_Name(static_cast<Work::Kind>(kind)) +
            " rate { amount: 16 giga_per_second: 2 } rate { amount: 64 giga_per_second: 4 } } ";
  }
  return text + "} " + more;
}

TEST_F(ClusterTest, ExamplesSayWhatAPlanNeeds) {
  for (const auto& entry : fs::directory_iterator(UNIPOOL_SOURCE_DIR "/configs/clusters")) {
    if (entry.path().extension() == ".txtpb") {
      EXPECT_NO_THROW(CheckForPlan(LoadClusterFile(entry.path()), 64));
    }
  }
}

TEST_F(ClusterTest, NumbersHaveTheTagOfTheClosestOrigin) {
  const Cluster cluster = LoadClusterFile(
      File(Described("inter_node { latency_us: 5 gigabytes_per_second: 2 } "
                     "origin { field: 'inter_node' tag: SPEC source: 'a sheet' } "
                     "origin { field: 'inter_node.latency_us' tag: MEASURED date: 'today' spread: 0.1 }")));
  EXPECT_EQ(cluster.TagOf("inter_node.latency_us"), Tag::MEASURED);
  EXPECT_EQ(cluster.TagOf("inter_node.gigabytes_per_second"), Tag::SPEC);
  EXPECT_EQ(cluster.TagOf("inter_node"), Tag::SPEC);
  EXPECT_EQ(cluster.TagOf("intra_node"), Tag::ASSUMED);
  EXPECT_EQ(cluster.TagOf(""), Tag::ASSUMED);
  EXPECT_EQ(cluster.rates[2].UnitsPerSecond(32), 3e9);  // halfway between 16 and 64 in the logarithm
}

TEST_F(ClusterTest, AdaptersAreShared) {
  const std::string wire = "ranks_per_node: 4 inter_node { gigabytes_per_second: 10 } adapters_per_node: ";
  EXPECT_DOUBLE_EQ(LoadCluster(File(wire + "1")).inter_node.bytes_per_second, 2.5e9);
  EXPECT_DOUBLE_EQ(LoadCluster(File(wire + "4")).inter_node.bytes_per_second, 1e10);
}

TEST_F(ClusterTest, WhatNothingReadsIsAnError) {
  const auto problem = [&](const std::string& text) {
    const std::vector<std::string> problems = ProblemsOf(text);
    return problems.size() == 1 ? problems[0] : "no single problem";
  };
  EXPECT_THAT(problem("inter_node { latency_us: 5 }"), HasSubstr("inter_node: is given, but all ranks"));
  EXPECT_THAT(problem("adapters_per_node: 1"), HasSubstr("adapters_per_node: is given"));
  EXPECT_THAT(problem("intra_node { contention { share: 0.5 } }"), HasSubstr("nothing reads it"));
  EXPECT_THAT(problem("origin { field: 'inter_nod' }"), HasSubstr("names no number"));
  const auto with = [](const std::string& in_processor, const std::string& more) {
    const std::string begin = "processor { ";
    std::string text = Described(more);
    return text.insert(text.find(begin) + begin.size(), in_processor);
  };
  EXPECT_THAT(problem(with("emulate: true ", "compute_scale: 2")),
              HasSubstr("compute_scale: is given, but with processor.emulate"));
  EXPECT_THAT(problem(with("work { kind: HEAD } ", "")), HasSubstr("is a second HEAD"));
  EXPECT_THAT(problem("processor { work { kind: HEAD rate { giga_per_second: 1 expert_us: 1 } } }"),
              HasSubstr("HEAD is no work of experts and nothing reads it"));
  EXPECT_THAT(problem(with("ranks_at_once: 2 ", "")), HasSubstr("without cores_per_node nothing reads it"));
  EXPECT_THAT(problem("cores_per_node: -1"), HasSubstr("cores_per_node: is -1; must"));
}

TEST_F(ClusterTest, APlanNeedsWiresNodesAndRates) {
  const auto problem = [&](const std::string& text, int ranks) -> std::string {
    try {
      CheckForPlan(LoadClusterFile(File(text)), ranks);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(problem(Described(""), 2), "");
  EXPECT_THAT(problem(Described(""), 4), HasSubstr("inter_node: is missing, and 4 ranks"));
  EXPECT_THAT(problem(Described("inter_node { gigabytes_per_second: 0 }"), 4),
              HasSubstr("inter_node.gigabytes_per_second: is 0; must be more than 0"));
  EXPECT_THAT(problem(Described("nodes: 3 inter_node { }"), 8),
              HasSubstr("room for 6 ranks, and the layout has 8"));
  EXPECT_THAT(problem("intra_node { }", 2), HasSubstr("processor.work: has no EXPERTS_FORWARD"));
}

// Every field of the schema is read where plans, emulations or this check of theirs are made.
TEST_F(ClusterTest, EachFieldIsReadBySomething) {
  std::ostringstream sources;
  for (const char* file :
       {"launcher/cluster.cc", "launcher/plan/forecast.cc", "launcher/plan/forecast_text.cc",
        "launcher/plan/layout_search.cc", "launcher/plan/shared_cores.cc"}) {
    sources << std::ifstream(std::string(UNIPOOL_SOURCE_DIR "/") + file).rdbuf();
  }
  const auto check = [&](const auto& self, const google::protobuf::Descriptor& message) -> void {
    for (int i = 0; i < message.field_count(); ++i) {
      const auto& field = *message.field(i);
      EXPECT_THAT(sources.str(), HasSubstr("." + field.name() + "(")) << field.full_name();
      if (field.message_type()) self(self, *field.message_type());
    }
  };
  check(check, *ClusterConfig::descriptor());
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

TEST(NodesOf, AHostThatComesAgainIsTheSameNode) {
  RunWorld({.num_threads = 4}, [](World& world) {
    world.hosts = {"n1", "n2", "n1", "n2"};
    EXPECT_EQ(NodesOf(Config(), world), (std::vector<int>{0, 1, 0, 1}));
    return 0;
  });
}

}  // namespace
}  // namespace unipool
