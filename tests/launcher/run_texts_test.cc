// Which texts a run saw, told by its checkpoint, by the files, or by their names alone.
#include "launcher/reports/run_texts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "launcher/checkpoints/saved_state.h"
#include "launcher/config.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class RunTextsTest : public testing::Test {
 protected:
  RunTextsTest() : folder_(testing::TempDir() + "run_texts") {
    fs::remove_all(folder_);
    fs::create_directories(folder_ + "/run/checkpoints");
  }
  ~RunTextsTest() override { fs::remove_all(folder_); }
  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ + "/" + name) << text;
    return folder_ + "/" + name;
  }
  void Record(const std::string& data) const {
    fs::create_directories(folder_ + "/run/checkpoints/step-4");
    Write("run/checkpoints/step-4/training_state.json",
          SavedStateText({.step = 4, .trainer = R"({"step":4,"data":)" + data + "}"}));
  }
  RunTexts Read(const std::vector<std::string>& overrides) const {
    return ReadRunTexts(folder_ + "/run", ParseConfig("", "empty", overrides));
  }

  const std::string folder_;
};

TEST_F(RunTextsTest, TheCheckpointKnowsBetterThanTheFile) {
  const std::string book = Write("book.txt", "what it is now");
  Record("[\"" + book + ": 60 bytes, contents 12ab\"]");
  const RunTexts texts = Read({"data.train=" + book});
  ASSERT_EQ(texts.train.size(), 1u);
  EXPECT_EQ(texts.train[0].contents, "60 bytes, contents 12ab");
  EXPECT_EQ(texts.tokenizer, "bytes");
}

TEST_F(RunTextsTest, WithoutACheckpointTheFilesTell) {
  const std::string book = Write("book.txt", "abc"), same = Write("same.txt", "abc"),
                    other = Write("other.txt", "abd");
  const RunTexts a = Read({"data.train=" + book}), b = Read({"data.train=" + same}),
                 c = Read({"data.train=" + other});
  EXPECT_THAT(a.train[0].contents, HasSubstr("3 bytes, contents "));
  EXPECT_TRUE(AreSameSources(a.train, b.train));
  EXPECT_FALSE(AreSameSources(a.train, c.train));
  EXPECT_EQ(Read({"data.train=gone.txt"}).train[0].contents, "");
}

TEST_F(RunTextsTest, DatasetsAreKnownByTheirTokens) {
  Record(R"(["a.idx: 9 bytes, contents 01","a.bin: 60 bytes, contents 02","gone: absent",3])");
  for (const char* name : {"a", "a.bin", "a.idx"})
    EXPECT_EQ(Read({std::string("data.train=") + name}).train[0].contents, "60 bytes, contents 02") << name;
  EXPECT_EQ(Read({"data.valid=gone"}).valid[0].contents, "");
}

TEST_F(RunTextsTest, DamagedStatesAndWrongBlendsAreNotKnown) {
  fs::create_directories(folder_ + "/run/checkpoints/step-4");
  Write("run/checkpoints/step-4/training_state.json", "{");
  Write("run/checkpoints/step-4/tokenizer.json", "{}");
  const RunTexts texts = Read({"data.train=0.7 a b c,0.3"});
  EXPECT_FALSE(texts.train.empty());
  EXPECT_EQ(texts.train[0].contents, "");
  EXPECT_EQ(texts.tokenizer, "");
}

TEST(RunTexts, NamesDecideWhereContentsAreNotKnown) {
  const std::vector<TextSource> a = {{.name = "a", .contents = "1"}},
                                moved = {{.name = "b", .contents = "1"}},
                                other = {{.name = "a", .contents = "2"}}, unknown = {{.name = "a"}};
  EXPECT_TRUE(AreSameSources(a, moved));
  EXPECT_FALSE(AreSameSources(a, other));
  EXPECT_TRUE(AreSameSources(a, unknown));
  EXPECT_FALSE(AreSameSources(moved, unknown));
  EXPECT_FALSE(AreSameSources(a, {}));
}

TEST(RunTexts, WeightsAreShares) {
  const std::vector<TextSource> a = {{.name = "a", .weight = 0.5}, {.name = "b", .weight = 0.5}},
                                same = {{.name = "a", .weight = 2}, {.name = "b", .weight = 2}},
                                other = {{.name = "a", .weight = 0.7}, {.name = "b", .weight = 0.3}};
  EXPECT_TRUE(AreSameSources(a, same));
  EXPECT_FALSE(AreSameSources(a, other));
}

TEST(RunTexts, TheSplitMattersWhereItCuts) {
  const Config a = ParseConfig("", "a", {"data.train=x"});
  const Config scaled = ParseConfig("", "a", {"data.train=x", "data.split=96.9,3,0.1"});
  const Config other = ParseConfig("", "a", {"data.train=x", "data.split=90,10,0"});
  const RunTexts cut{.train = {{.name = "x"}}}, own{.train = {{.name = "x"}}, .valid = {{.name = "y"}}};
  EXPECT_TRUE(HaveSameTraining(a, cut, scaled, cut));
  EXPECT_TRUE(HaveSameValidation(a, cut, scaled, cut));
  EXPECT_FALSE(HaveSameTraining(a, cut, other, cut));
  EXPECT_FALSE(HaveSameValidation(a, cut, other, cut));
  EXPECT_TRUE(HaveSameTraining(a, own, other, own)) << "no split cuts a source that is used whole";
  EXPECT_TRUE(HaveSameValidation(a, own, other, own));
  EXPECT_FALSE(HaveSameTraining(a, own, a, cut));
  EXPECT_FALSE(HaveSameValidation(a, own, a, cut));
}

TEST(RunTexts, FewNamesAreTold) {
  EXPECT_EQ(NamesOf({}), "");
  EXPECT_EQ(NamesOf({{.name = "a"}, {.name = "b"}}), "a, b");
  EXPECT_EQ(NamesOf({{.name = "a"}, {.name = "b"}, {.name = "c"}, {.name = "d"}}), "a, b and 2 more");
}

}  // namespace
}  // namespace unipool
