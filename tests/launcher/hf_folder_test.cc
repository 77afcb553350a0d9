// No file outside a folder is opened, and what is damaged is a sentence.
#include "launcher/interop/hf_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class HfFolderTest : public testing::Test {
 protected:
  HfFolderTest() : root_(fs::temp_directory_path() / ("hf_folder_" + std::to_string(getpid()))) {
    fs::remove_all(root_);
    fs::create_directories(root_ / "model");
    Write("model/config.json", "{\"model_type\": \"llama\"}");
    WriteWeights("model/model.safetensors");
    WriteWeights("outside.safetensors");
  }
  ~HfFolderTest() override { fs::remove_all(root_); }

  void Write(const std::string& name, const std::string& text) const { std::ofstream(root_ / name) << text; }
  void WriteWeights(const std::string& name) const {
    TensorFileWriter writer((root_ / name).string());
    writer.Declare("a", DType::kF32, {1});
    const float value = 3;
    writer.Append(&value, 4);
    writer.Close();
  }
  std::string Problem() const {
    try {
      HfFolder folder((root_ / "model").string());
      folder.Json("config.json");
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  }
  fs::path root_;
};

TEST_F(HfFolderTest, ReadsWhatIsInIt) {
  HfFolder folder((root_ / "model/").string());
  EXPECT_EQ(folder.Json("config.json")["model_type"], "llama");
  EXPECT_TRUE(folder.weights().Has("a"));
  EXPECT_FALSE(folder.Find("tokenizer.json"));
}

TEST_F(HfFolderTest, LinksInsideAreFiles) {
  fs::rename(root_ / "model/model.safetensors", root_ / "model/blob");
  fs::create_symlink("blob", root_ / "model/model.safetensors");
  EXPECT_EQ(Problem(), "");
}

TEST_F(HfFolderTest, NothingOutsideIsOpened) {
  fs::create_symlink("../outside.safetensors", root_ / "model/more.safetensors");
  EXPECT_THAT(Problem(), HasSubstr("more.safetensors: leads out of the folder"));
  fs::remove(root_ / "model/more.safetensors");
  for (const std::string& path :
       {std::string("../outside.safetensors"), (root_ / "outside.safetensors").string(),
        std::string("x/../../outside.safetensors")}) {
    Write("model/model.safetensors.index.json", "{\"weight_map\": {\"a\": \"" + path + "\"}}");
    EXPECT_THAT(Problem(), HasSubstr("leads out of the folder")) << path;
  }
  fs::remove(root_ / "model/model.safetensors.index.json");
  fs::rename(root_ / "model/config.json", root_ / "config.json");
  fs::create_symlink("../config.json", root_ / "model/config.json");
  EXPECT_THAT(Problem(), HasSubstr("config.json: leads out of the folder"));
}

TEST_F(HfFolderTest, LinksInACircleAreRefused) {
  fs::create_symlink("b.safetensors", root_ / "model/a.safetensors");
  fs::create_symlink("a.safetensors", root_ / "model/b.safetensors");
  EXPECT_THAT(Problem(), HasSubstr("leads out of the folder"));
  fs::remove(root_ / "model/a.safetensors");  // now a link to nothing
  EXPECT_THAT(Problem(), HasSubstr("leads out of the folder"));
}

TEST_F(HfFolderTest, WhatIsDamaged) {
  Write("model/config.json", "{\"model_type\": ");
  EXPECT_THAT(Problem(), HasSubstr("config.json: is damaged; expected a JSON object"));
  Write("model/config.json", "[1]");
  EXPECT_THAT(Problem(), HasSubstr("expected a JSON object"));
  Write("model/config.json", std::string(100000, '[') + std::string(100000, ']'));
  EXPECT_THAT(Problem(), HasSubstr("expected a JSON object"));
  Write("model/config.json", "{\"a\": 1, \"b\": {\"a\": 1}, \"a\": 2}");
  EXPECT_THAT(Problem(), HasSubstr("has the key \"a\" twice"));
  fs::remove(root_ / "model/config.json");
  EXPECT_THAT(Problem(), HasSubstr("holds no config.json"));
  Write("model/config.json", "{}");
  Write("model/model.safetensors.index.json", "{\"weight_map\": {\"b\": \"model.safetensors\"}}");
  EXPECT_THAT(Problem(), HasSubstr("lacks tensor b"));
  Write("model/training_state.json", "{}");
  EXPECT_THAT(Problem(), HasSubstr("is a run or a checkpoint of this program"));
  fs::remove_all(root_ / "model");
  EXPECT_THAT(Problem(), HasSubstr("no such folder"));
}

}  // namespace
}  // namespace unipool
