#include "launcher/slurm/job_options.h"

#include <gflags/gflags.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "launcher/config.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

TEST(JobOptions, EveryFieldIsAFlagWithTheSameDefault) {
  const gflags::FlagSaver saver;
  const JobConfig standard;
  for (int i = 0; i < JobConfig::descriptor()->field_count(); ++i) {
    const auto* field = JobConfig::descriptor()->field(i);
    gflags::CommandLineFlagInfo flag;
    if (field->name() == "setup_line") continue;  // of the site's file alone
    ASSERT_TRUE(gflags::GetCommandLineFlagInfo(field->name().c_str(), &flag)) << field->name();
    const auto* reflection = JobConfig::GetReflection();
    const std::string type = flag.type;
    if (field->is_repeated()) continue;
    std::string standard_text;
    if (type == "string") {
      standard_text = reflection->GetString(standard, field);
    } else if (type == "int32") {
      standard_text = std::to_string(reflection->GetInt32(standard, field));
    } else {
      standard_text = reflection->GetBool(standard, field) ? "true" : "false";
    }
    EXPECT_EQ(flag.default_value, standard_text) << field->name();
  }
}

TEST(JobOptions, AFlagOverridesTheSite) {
  const gflags::FlagSaver saver;
  const std::string path = testing::TempDir() + "site-" + std::to_string(getpid()) + ".txtpb";
  std::ofstream(path)
      << "partition: \"main\" account: \"a\" nodes: 7 setup_line: \"module load x\" sbatch: \"--nice\"";
  JobConfig job;
  LoadText(SiteFile(path), job);
  gflags::SetCommandLineOption("partition", "long");
  gflags::SetCommandLineOption("nodes", "2");
  gflags::SetCommandLineOption("exclusive", "true");
  gflags::SetCommandLineOption("sbatch", "--hold");
  TakeFlags(job);
  EXPECT_EQ(job.partition(), "long");
  EXPECT_EQ(job.account(), "a");
  EXPECT_EQ(job.nodes(), 2);
  EXPECT_TRUE(job.exclusive());
  EXPECT_THAT(job.sbatch(), testing::ElementsAre("--nice", "--hold"));
  std::filesystem::remove(path);
  EXPECT_THROW(SiteFile(path), UserError);
}

TEST(JobOptions, TheSiteFileIsLookedForInTheHomeFolder) {
  const std::string home = testing::TempDir() + "home-" + std::to_string(getpid());
  const char* before = std::getenv("XDG_CONFIG_HOME");
  const std::string kept = before ? before : "";
  setenv("XDG_CONFIG_HOME", home.c_str(), 1);
  EXPECT_EQ(SiteFile(""), "");
  std::filesystem::create_directories(home + "/unipool");
  std::ofstream(home + "/unipool/cluster.txtpb") << "nodes: 2";
  EXPECT_EQ(SiteFile(""), home + "/unipool/cluster.txtpb");
  if (before) {
    setenv("XDG_CONFIG_HOME", kept.c_str(), 1);
  } else {
    unsetenv("XDG_CONFIG_HOME");
  }
  std::filesystem::remove_all(home);
}

}  // namespace
}  // namespace unipool
