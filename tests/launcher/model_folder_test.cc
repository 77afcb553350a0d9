// Folders that people give in place of a configuration file.
#include "launcher/checkpoints/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "launcher/run_control/run_lock.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class ModelFolders : public testing::Test {
 protected:
  ModelFolders() : root_(testing::TempDir() + "model_folders") {
    fs::remove_all(root_);
    fs::create_directories(root_);
  }
  void Write(const std::string& name) {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << "";
  }
  std::string Path(const std::string& name) const { return (root_ / name).string(); }
  std::string Problem(const std::string& name) const {
    try {
      FindModelFolder(Path(name));
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  }
  const fs::path root_;
};

TEST_F(ModelFolders, ARun) {
  Write("a/config.txtpb");
  Write("a/checkpoints/step-4/config.txtpb");
  Write("a/checkpoints/step-4/training_state.json");
  for (const char* name : {"a", "a/", "a//"}) {
    const ModelFolder found = FindModelFolder(Path(name));
    EXPECT_EQ(found.run_dir, Path("a"));
    EXPECT_EQ(found.config_path, Path("a/config.txtpb"));
    EXPECT_EQ(found.checkpoint, "");
  }
  // Settings of the newest checkpoint stand in for lost ones.
  Write("a/checkpoints/step-12/config.txtpb");
  fs::remove(Path("a/config.txtpb"));
  EXPECT_EQ(FindModelFolder(Path("a")).config_path, Path("a/checkpoints/step-12/config.txtpb"));
  // A run may have settings and no checkpoint yet.
  Write("b/config.txtpb");
  EXPECT_EQ(FindModelFolder(Path("b")).run_dir, Path("b"));
  EXPECT_TRUE(IsRunFolder(Path("b")));
}

TEST_F(ModelFolders, ACheckpoint) {
  Write("a/checkpoints/step-4/config.txtpb");
  Write("moved/config.txtpb");
  Write("moved/training_state.json");
  Write("weights/config.txtpb");
  Write("weights/model-00001-of-00002.safetensors");
  for (const char* name : {"a/checkpoints/step-4", "moved", "weights"}) {
    const ModelFolder found = FindModelFolder(Path(name));
    EXPECT_EQ(found.checkpoint, Path(name));
    EXPECT_EQ(found.config_path, Path(name) + "/config.txtpb");
    EXPECT_EQ(found.run_dir, "");
    EXPECT_FALSE(IsRunFolder(Path(name)));
  }
}

TEST_F(ModelFolders, WhatIsNeitherIsToldWithWhatToDo) {
  Write("a/checkpoints/step-4/training_state.json");
  Write("a/checkpoints/step-8.partial/model.safetensors");
  Write("other/model.safetensors");
  Write("other/config.json");
  Write("runs/x/config.txtpb");
  Write("runs/y/checkpoints/step-1/config.txtpb");
  Write("photos/cat.png");
  EXPECT_THAT(Problem("a/checkpoints/step-4"),
              AllOf(HasSubstr("holds no config.txtpb"), HasSubstr("verify")));
  EXPECT_THAT(Problem("a/checkpoints/step-8.partial"), HasSubstr("is being written"));
  EXPECT_THAT(Problem("a/checkpoints"),
              AllOf(HasSubstr("holds no config.txtpb but checkpoints"), HasSubstr("step-4")));
  EXPECT_THAT(Problem("other"), HasSubstr("no checkpoint of this program"));
  EXPECT_THAT(Problem("runs"),
              HasSubstr("holds runs; name one of them: " + Path("runs/x") + ", " + Path("runs/y")));
  EXPECT_THAT(Problem("photos"), HasSubstr("is neither the folder of a run"));
  EXPECT_THAT(Problem("a"), AllOf(HasSubstr("holds no config.txtpb yet"), HasSubstr("train first")));
}

TEST_F(ModelFolders, ARunAtWorkIsNamed) {
  EXPECT_THAT(WhyNoCheckpoint(Path("a")), HasSubstr("train first"));
  const RunLock lock(Path("a"));
  EXPECT_THAT(WhyNoCheckpoint(Path("a")),
              AllOf(HasSubstr("the run at work there (host "), HasSubstr("touch " + Path("a") + "/save")));
}

}  // namespace
}  // namespace unipool
