// Which tokenizer the data of a run has.
#include "launcher/data/data_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "launcher/data/indexed_dataset_writer.h"
#include "launcher/tokens/gpt2_tokenizer.h"
#include "runtime/errors.h"
#include "tests/launcher/data_test_files.h"

namespace unipool {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

class DataTokenizer : public testing::Test {
 protected:
  DataTokenizer() {
    WriteFile(folder_ / "text.txt", "some text");
    nlohmann::json vocab;
    for (int byte = 0; byte < 256; ++byte) vocab[ShownByte(static_cast<uint8_t>(byte))] = byte;
    vocab["th"] = 256;
    other_ = TokenizerFileFor({.kind = "gpt2",
                               .vocab = WriteFile(folder_ / "v", vocab.dump()),
                               .merges = WriteFile(folder_ / "m", "t h\n")});
  }
  // A dataset of one document; text "": it tells no tokenizer.
  void WriteDataset(const std::string& name, const std::string& tokenizer) const {
    IndexedDatasetWriter writer(folder_ / name, TokenType::kUint16);
    const uint8_t bytes[4] = {1, 0, 2, 0};
    const int32_t length = 2;
    writer.Add(bytes, {&length, 1});
    if (!tokenizer.empty()) writer.SetTokenizer(tokenizer);
    writer.Finish();
  }
  Config With(const std::vector<std::string>& train, const std::vector<std::string>& valid = {},
              int vocab = 300) const {
    Config config;
    config.mutable_model()->set_vocab(vocab);
    for (const std::string& name : train) config.mutable_data()->add_train(folder_ / name);
    for (const std::string& name : valid) config.mutable_data()->add_valid(folder_ / name);
    return config;
  }
  const TemporaryFolder folder_;
  TokenizerFile other_;
};

TEST_F(DataTokenizer, IsToldByTextAndByTheFileBesideADataset) {
  EXPECT_EQ(TokenizerOfData(With({"text.txt"}))->name, "bytes");
  EXPECT_FALSE(TokenizerOfData(With({"text.txt"}, {}, 128)));  // a text of 7 bits, say
  WriteDataset("bytes", TokenizerFileFor({.kind = "bytes"}).text);
  WriteDataset("other", other_.text);
  WriteDataset("untold", "");
  EXPECT_FALSE(TokenizerOfData(With({"untold"})));
  EXPECT_EQ(TokenizerOfData(With({"bytes", "text.txt"}))->name, "bytes");
  EXPECT_EQ(TokenizerOfData(With({"untold", "other"}))->name, other_.name);
  EXPECT_EQ(TokenizerOfData(With({"untold"}, {"other.idx"}))->name, other_.name);
  // Written anew without one, a dataset does not keep its former tokenizer.
  WriteDataset("other", "");
  EXPECT_FALSE(TokenizerOfData(With({"other"})));
}

TEST_F(DataTokenizer, WhatDoesNotFitIsTold) {
  WriteDataset("other", other_.text);
  EXPECT_THAT(
      [&] {
        TokenizerOfData(With({"other", "text.txt"}));
      },
      ThrowsMessage<UserError>(AllOf(HasSubstr("data.train: " + folder_ / "text.txt"),
                                     HasSubstr("another tokenizer (bytes) than " + folder_ / "other"))));
  EXPECT_THAT([&] { TokenizerOfData(With({"other"}, {"text.txt"})); },
              ThrowsMessage<UserError>(HasSubstr("data.valid: " + folder_ / "text.txt")));
  EXPECT_THAT([&] { TokenizerOfData(With({"other"}, {}, 256)); },
              ThrowsMessage<UserError>(HasSubstr("has 257 tokens")));
}

TEST_F(DataTokenizer, OfWeights) {
  WriteFile(folder_ / "tokenizer.json", other_.text);
  std::optional<TokenizerFile> found;
  EXPECT_EQ(TakeSavedTokenizer(folder_.path(), found), "");
  EXPECT_EQ(found->name, other_.name);
  found = TokenizerFileFor({.kind = "bytes"});
  EXPECT_THAT(TakeSavedTokenizer(folder_.path(), found), HasSubstr("another tokenizer (bytes) than"));
  EXPECT_EQ(found->name, "bytes");
  EXPECT_THAT(
      [&] { CheckDataTokenizer(folder_.path(), With({"text.txt"})); },
      ThrowsMessage<UserError>(HasSubstr("unipool tokenize --tokenizer " + folder_ / "tokenizer.json")));
  WriteDataset("other", other_.text);
  CheckDataTokenizer(folder_.path(), With({"other"}));
  WriteFile(folder_ / "tokenizer.json", "{}");
  found.reset();
  EXPECT_THAT(TakeSavedTokenizer(folder_.path(), found), HasSubstr("is no tokenizer"));
  EXPECT_FALSE(found);
}

}  // namespace
}  // namespace unipool
