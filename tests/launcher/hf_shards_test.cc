// Exported weights on disk: which file has which tensor, and the same bits.
#include "launcher/interop/hf_shards.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "launcher/checkpoints/weight_folder.h"
#include "runtime/file_sum.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

class HfShardsTest : public testing::Test {
 protected:
  HfShardsTest() : folder_(fs::temp_directory_path() / ("hf_shards_" + std::to_string(getpid()))) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    for (int i = 0; i < 40; ++i) numbers_[i] = static_cast<float>(i) + 0.5f;
    weights_ = {{.name = "a", .shape = {10, 2}, .value = Tensor(numbers_, DType::kF32, {10, 2})},
                {.name = "b", .shape = {20}, .value = Tensor(numbers_ + 20, DType::kF32, {20})}};
  }
  ~HfShardsTest() override { fs::remove_all(folder_); }

  std::vector<WrittenTensor> Write(int64_t max_bytes, DType dtype = DType::kF32) {
    return WriteHfShards(folder_.string(),
                         {{.name = "rows", .source = "a", .rows = {3, 7}},
                          {.name = "whole", .source = "b"},
                          {.name = "own", .shape = {1, 3}, .values = {7, 8, 1.00390625f}, .keeps_f32 = true}},
                         weights_, {.max_bytes = max_bytes, .dtype = dtype});
  }

  std::vector<float> Read(WeightFolder& folder, const std::string& name) {
    int64_t size = 1;
    for (const int64_t dim : folder.Entry(name).shape) size *= dim;
    std::vector<float> values(size, -1);
    folder.Read(name, Tensor(values.data(), DType::kF32, {size}));
    return values;
  }

  fs::path folder_;
  float numbers_[40];
  std::vector<DiskTensor> weights_;
};

TEST_F(HfShardsTest, OneFileHasRowsWholesAndValues) {
  const std::vector<WrittenTensor> written = Write(1 << 20);
  EXPECT_FALSE(fs::exists(folder_ / kWeightIndexFile));
  WeightFolder folder(folder_.string());
  EXPECT_EQ(folder.Names(), (std::vector<std::string>{"own", "rows", "whole"}));
  EXPECT_EQ(folder.Entry("rows").shape, (std::vector<int64_t>{4, 2}));
  EXPECT_EQ(Read(folder, "rows"), std::vector<float>(numbers_ + 6, numbers_ + 14));
  EXPECT_EQ(Read(folder, "whole"), std::vector<float>(numbers_ + 20, numbers_ + 40));
  EXPECT_EQ(Read(folder, "own"), (std::vector<float>{7, 8, 1.00390625f}));
  ASSERT_EQ(written.size(), 3u);
  for (const WrittenTensor& tensor : written) {
    const TensorFileEntry& entry = folder.Entry(tensor.name);
    EXPECT_EQ(tensor.sum,
              SumOfText(std::string(static_cast<const char*>(entry.data), static_cast<size_t>(entry.bytes))));
    EXPECT_EQ(tensor.file, "model.safetensors");
  }
}

TEST_F(HfShardsTest, SmallFilesHaveAnIndex) {
  const std::vector<WrittenTensor> written = Write(50);  // 32, 80 and 12 bytes
  EXPECT_EQ(written[0].file, "model-00001-of-00003.safetensors");
  EXPECT_EQ(written[2].file, "model-00003-of-00003.safetensors");
  const auto index = nlohmann::json::parse(ReadTextFile((folder_ / kWeightIndexFile).string()));
  EXPECT_EQ(index["metadata"]["total_size"], 124);
  EXPECT_EQ(index["weight_map"]["whole"], "model-00002-of-00003.safetensors");
  WeightFolder folder(folder_.string());
  EXPECT_EQ(Read(folder, "whole"), std::vector<float>(numbers_ + 20, numbers_ + 40));
}

TEST_F(HfShardsTest, RoundedToTheNearest) {
  numbers_[20] = 1.00390625f;    // half way between 1 and 1.0078125
  numbers_[21] = 1.01171875f;    // half way between 1.0078125 and 1.015625
  numbers_[22] = -1.003906369f;  // a little more than half way
  const std::vector<WrittenTensor> written = Write(1 << 20, DType::kBF16);
  WeightFolder folder(folder_.string());
  EXPECT_EQ(folder.Entry("whole").dtype, "BF16");
  EXPECT_EQ(folder.Entry("own").dtype, "F32");
  EXPECT_EQ(Read(folder, "own"), (std::vector<float>{7, 8, 1.00390625f}));
  const std::vector<float> whole = Read(folder, "whole");
  EXPECT_EQ(whole[0], 1.f);
  EXPECT_EQ(whole[1], 1.015625f);
  EXPECT_EQ(whole[2], -1.0078125f);
  EXPECT_EQ(std::vector<float>(whole.begin() + 3, whole.end()),
            std::vector<float>(numbers_ + 23, numbers_ + 40));
  EXPECT_EQ(written[1].dtype, DType::kBF16);
  const TensorFileEntry& entry = folder.Entry("whole");
  EXPECT_EQ(entry.bytes, 40);
  EXPECT_EQ(written[1].sum, SumOfText(std::string(static_cast<const char*>(entry.data), 40)));
}

TEST_F(HfShardsTest, WhatBf16CannotHold) {
  numbers_[30] = 3.4e38f;
  EXPECT_THROW(Write(1 << 20, DType::kBF16), UserError);
  EXPECT_NO_THROW(Write(1 << 20));
}

}  // namespace
}  // namespace unipool
