// Starting from folders of weights made elsewhere: types, shards, indices, and what is wrong with them.
#include "launcher/checkpoints/weight_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <list>
#include <nlohmann/json.hpp>

#include "launcher/checkpoints/checkpoint.h"
#include "runtime/errors.h"
#include "runtime/world.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::json;

struct RawTensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

template <class T>
std::string BytesOf(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// A file as other programs write it: the format from its description, not from this project's writer.
void WriteRaw(const fs::path& path, const std::vector<RawTensor>& tensors) {
  Json header = Json::object();
  std::string data;
  for (const RawTensor& tensor : tensors) {
    const size_t begin = data.size();
    data += tensor.bytes;
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
  }
  const std::string text = header.dump();
  const uint64_t length = text.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&length), 8) << text << data;
}

constexpr float kUntouched = -12345;

class WeightFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::path(testing::TempDir()) / ("weights_" + std::to_string(getpid()));
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  DiskTensor Wanted(const std::string& name, int64_t size, bool optional = false) {
    values_.emplace_back(size, kUntouched);
    return {name, {size}, Tensor(values_.back().data(), DType::kF32, {size}), true, optional};
  }
  // The text of the UserError, or "".
  std::string Load(const std::vector<DiskTensor>& tensors) { return LoadFrom(dir_.string(), tensors); }
  std::string LoadFrom(const std::string& dir, const std::vector<DiskTensor>& tensors) {
    std::string text;
    RunWorld({.num_threads = 1}, [&](World& world) {
      try {
        LoadWeights(*world.communicator, dir, tensors);
      } catch (const UserError& error) {
        text = error.what();
      }
    });
    return text;
  }
  void WriteIndex(const Json& weight_map) {
    std::ofstream(dir_ / kWeightIndexFile) << Json{{"weight_map", weight_map}};
  }

  fs::path dir_;
  std::list<std::vector<float>> values_;
};

TEST_F(WeightFolderTest, ReadsShardsOfAllFloatTypesWithoutAnIndex) {
  WriteRaw(dir_ / "b.safetensors", {{"bf16", "BF16", {3}, BytesOf<uint16_t>({0x3fc0, 0xc000, 0x7f00})},
                                    {"f16", "F16", {3}, BytesOf<uint16_t>({0x3e00, 0xc000, 0x0001})}});
  WriteRaw(dir_ / "a.safetensors", {{"f64", "F64", {2}, BytesOf<double>({0.1, -1e30})},
                                    {"f32", "F32", {2}, BytesOf<float>({0.1f, -0.f})}});
  WriteRaw(dir_ / "optimizer-00001-of-00001.safetensors",
           {{"exp_avg/f32/0", "F32", {1}, BytesOf<float>({1})}});
  EXPECT_EQ(Load({Wanted("bf16", 3), Wanted("f16", 3), Wanted("f64", 2), Wanted("f32", 2),
                  Wanted("absent", 2, true)}),
            "");
  auto values = values_.begin();
  EXPECT_THAT(*values++, ElementsAre(1.5f, -2.f, std::ldexp(1.f, 127)));
  EXPECT_THAT(*values++, ElementsAre(1.5f, -2.f, std::ldexp(1.f, -24)));
  EXPECT_THAT(*values++, ElementsAre(0.1f, -1e30f));
  EXPECT_THAT(*values, ElementsAre(0.1f, 0.f));
  EXPECT_TRUE(std::signbit((*values++)[1]));
  EXPECT_EQ((*values)[0], kUntouched) << "an absent optional tensor keeps its value";
}

TEST_F(WeightFolderTest, IndexDecidesWhereATensorLies) {
  WriteRaw(dir_ / "new.safetensors", {{"a", "F32", {1}, BytesOf<float>({2})}});
  WriteRaw(dir_ / "old.safetensors",
           {{"a", "F32", {1}, BytesOf<float>({1})}, {"b", "F32", {1}, BytesOf<float>({3})}});
  WriteIndex({{"a", "new.safetensors"}, {"b", "old.safetensors"}});
  EXPECT_EQ(Load({Wanted("a", 1), Wanted("b", 1)}), "");
  EXPECT_THAT(values_.front(), ElementsAre(2.f));
  EXPECT_THAT(values_.back(), ElementsAre(3.f));
  fs::remove(dir_ / kWeightIndexFile);
  EXPECT_THAT(Load({Wanted("a", 1)}), HasSubstr("tensor a is in both new.safetensors and old.safetensors"));
  WriteIndex({{"a", "none.safetensors"}});
  EXPECT_THAT(Load({Wanted("a", 1)}), HasSubstr("none.safetensors"));
  WriteIndex({{"c", "new.safetensors"}});
  EXPECT_THAT(Load({Wanted("c", 1)}), HasSubstr("new.safetensors: lacks tensor c"));
  std::ofstream(dir_ / kWeightIndexFile) << "{\"weight_map\": ";
  EXPECT_THAT(Load({Wanted("a", 1)}), HasSubstr("index.json: is damaged"));
  WriteIndex({{"a", 7}});
  EXPECT_THAT(Load({Wanted("a", 1)}), HasSubstr("weight_map of a is no file name"));
}

TEST_F(WeightFolderTest, NamesWhatDoesNotFit) {
  WriteRaw(dir_ / "model.safetensors", {{"a", "F32", {2}, BytesOf<float>({1, 2})},
                                        {"i", "I64", {1}, BytesOf<int64_t>({1})},
                                        {"rotary.inv_freq", "F32", {1}, BytesOf<float>({1})}});
  EXPECT_EQ(Load({Wanted("a", 3), Wanted("i", 1), Wanted("m", 4)}),
            dir_.string() +
                ": holds another model than the settings describe: of 3 tensors 1 missing, 1 unknown, 1 "
                "misshaped, 1 of "
                "a type that cannot be read\n"
                "  missing: m [4]\n"
                "  misshaped: a is [2] and must be [3]\n"
                "  unreadable: i is of type I64 and must be F32, BF16, F16 or F64\n"
                "  unknown: rotary.inv_freq [1]");
  std::vector<DiskTensor> many = {Wanted("a", 2)};
  for (int i = 0; i < 30; ++i) many.push_back(Wanted(Format("x%d", i), 1));
  const std::string text = Load(many);
  EXPECT_THAT(text, HasSubstr("30 missing, 2 unknown"));
  EXPECT_THAT(text, testing::EndsWith("\n  missing: x19 [1]\n  and 12 more"));
}

TEST_F(WeightFolderTest, FoldersWithoutWeights) {
  EXPECT_THAT(Load({Wanted("a", 1)}), HasSubstr("holds no safetensors files"));
  EXPECT_THAT(LoadFrom("/no/such", {Wanted("a", 1)}), "/no/such: no such folder");
  std::ofstream(dir_ / "f") << "x";
  EXPECT_THAT(LoadFrom((dir_ / "f").string(), {Wanted("a", 1)}), HasSubstr("is a file; give the folder"));
  fs::create_directories(dir_ / "checkpoints");
  EXPECT_THAT(Load({Wanted("a", 1)}), HasSubstr("it is the folder of a run"));
  std::ofstream(dir_ / "model.safetensors") << "short";
  EXPECT_THAT(Load({Wanted("a", 1)}), HasSubstr("model.safetensors"));
}

}  // namespace
}  // namespace unipool
