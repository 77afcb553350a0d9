// A tokenizer as one file: what goes through it comes out the same, and what is another's is told.
#include "launcher/tokens/tokenizer_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "launcher/tokens/gpt2_tokenizer.h"
#include "runtime/errors.h"
#include "tests/launcher/data_test_files.h"

namespace unipool {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;
using Json = nlohmann::json;

std::vector<int32_t> Ids(const TokenizerFile& file, std::string_view text) {
  std::vector<int32_t> ids;
  file.tokenizer->Encode(text, ids);
  return ids;
}

// Bytes, "th", " the" and the end of a text; ids in an order of their own.
TokenizerOptions SmallOptions(const TemporaryFolder& folder, const std::string& merges = "t h\nth e\n") {
  Json vocab;
  for (int byte = 0; byte < 256; ++byte) vocab[ShownByte(static_cast<uint8_t>(byte))] = 255 - byte;
  vocab["th"] = 257;
  vocab["the"] = 256;
  vocab["<|endoftext|>"] = 258;
  return {.kind = "gpt2",
          .vocab = WriteFile(folder / "vocab.json", vocab.dump()),
          .merges = WriteFile(folder / "merges.txt", merges)};
}

TEST(TokenizerFile, OfBytes) {
  const TemporaryFolder folder;
  const TokenizerFile file = TokenizerFileFor({.kind = "bytes"});
  EXPECT_EQ(file.name, "bytes");
  EXPECT_EQ(file.vocab_size, 256);
  const TokenizerFile read = ReadTokenizerFile(WriteFile(folder / "t.json", file.text));
  EXPECT_EQ(read.name, "bytes");
  EXPECT_EQ(read.text, file.text);
  EXPECT_EQ(Ids(read, "\xff\x01z"), (std::vector<int32_t>{255, 1, 'z'}));  // no UTF-8 is needed
  // Other programs see byte-level BPE without merges, whose ids are the bytes.
  const Json json = Json::parse(file.text);
  EXPECT_EQ(json["model"]["type"], "BPE");
  EXPECT_EQ(json["model"]["merges"].size(), 0);
  EXPECT_EQ(json["model"]["vocab"].size(), 256);
  EXPECT_EQ(json["model"]["vocab"]["A"], 'A');
  EXPECT_EQ(json["model"]["vocab"]["\u0120"], ' ');
  EXPECT_EQ(json["pre_tokenizer"]["type"], "ByteLevel");
}

TEST(TokenizerFile, OfVocabularyAndMerges) {
  const TemporaryFolder folder;
  const TokenizerFile file = TokenizerFileFor(SmallOptions(folder));
  EXPECT_THAT(file.name, testing::StartsWith("gpt2, 259 tokens, "));
  EXPECT_EQ(file.vocab_size, 259);
  EXPECT_EQ(Ids(file, "the"), (std::vector<int32_t>{256}));
  const std::string path = WriteFile(folder / "a.tokenizer.json", file.text);
  for (const TokenizerFile& read : {ReadTokenizerFile(path), TokenizerFileFor({.kind = path})}) {
    EXPECT_EQ(read.name, file.name);
    EXPECT_EQ(read.text, file.text);
    EXPECT_EQ(Ids(read, "the thx"), Ids(file, "the thx"));
    EXPECT_EQ(read.tokenizer->end_of_text(), 258);
  }
  // Newer files have merges as pairs, in another layout of the text; the tokenizer is the same.
  Json json = Json::parse(file.text);
  json["model"]["merges"] = Json::array({{"t", "h"}, {"th", "e"}});
  json["model"].erase("byte_fallback");
  const TokenizerFile other = ReadTokenizerFile(WriteFile(folder / "b.json", json.dump()));
  EXPECT_EQ(other.name, file.name);
  EXPECT_EQ(Ids(other, "the thx"), Ids(file, "the thx"));
  EXPECT_NE(TokenizerFileFor(SmallOptions(folder, "t h\n")).name, file.name);
}

TEST(TokenizerFile, WhatIsAnotherTokenizerIsTold) {
  const TemporaryFolder folder;
  const Json sound = Json::parse(TokenizerFileFor(SmallOptions(folder)).text);
  const auto expect = [&](const std::string& text, const std::string& sentence) {
    const std::string path = WriteFile(folder / "bad.json", text);
    EXPECT_THAT([&] { ReadTokenizerFile(path); }, ThrowsMessage<UserError>(HasSubstr(sentence))) << text;
    EXPECT_THAT([&] { ReadTokenizerFile(path); }, ThrowsMessage<UserError>(HasSubstr(path)));
  };
  const auto changed = [&](const char* pointer, const Json& value) {
    Json json = sound;
    json[Json::json_pointer(pointer)] = value;
    return json.dump();
  };
  expect("", "no JSON object");
  expect("[1]", "no JSON object");
  expect("{", "no JSON object");
  expect("{}", "its model is none, not BPE");
  expect(std::string(100000, '['), "no JSON object");
  expect(changed("/model/type", "Unigram"), "its model is Unigram");
  expect(changed("/pre_tokenizer", nullptr), "its pre_tokenizer is none");
  expect(changed("/pre_tokenizer/type", "Metaspace"), "its pre_tokenizer is Metaspace");
  expect(changed("/pre_tokenizer/add_prefix_space", true), "add_prefix_space");
  expect(changed("/pre_tokenizer/use_regex", false), "use_regex");
  expect(changed("/normalizer", {{"type", "NFC"}}), "normalizer");
  expect(changed("/model/byte_fallback", true), "byte_fallback");
  expect(changed("/model/dropout", 0.1), "dropout");
  expect(changed("/model/vocab", 7), "no vocabulary");
  expect(changed("/model/merges", "t h"), "no list of merges");
  expect(changed("/model/merges", {7}), "is not two tokens");
  expect(changed("/model/vocab/a", 1000), "the ids must be 0 to 258");
  expect(changed("/model/vocab/a", "x"), "the ids must be 0 to 258");
  expect(changed("/added_tokens/0/id", 300), "adds a token \"<|endoftext|>\" that its vocabulary lacks");
  expect(changed("/added_tokens/0", 300), "adds a token");
  EXPECT_THAT([&] { ReadTokenizerFile(folder / "none.json"); },
              ThrowsMessage<UserError>(HasSubstr("none.json")));
  EXPECT_FALSE(FindTokenizerFile(folder / "none.json"));
  EXPECT_THAT([&] { TokenizerFileFor({.kind = "x.json", .vocab = "v"}); },
              ThrowsMessage<UserError>(HasSubstr("takes neither")));
}

TEST(TokenizerFile, OfGpt2) {
  SKIP_WITHOUT_TEST_DATA("gpt2-vocab.json");
  const TemporaryFolder folder;
  const TokenizerFile file = TokenizerFileFor(
      {.kind = "gpt2", .vocab = TestData("gpt2-vocab.json"), .merges = TestData("gpt2-merges.txt")});
  EXPECT_EQ(file.vocab_size, 50257);
  const TokenizerFile read = ReadTokenizerFile(WriteFile(folder / "t.json", file.text));
  EXPECT_EQ(read.name, file.name);
  EXPECT_EQ(Ids(read, "Hello world"), (std::vector<int32_t>{15496, 995}));
}

}  // namespace
}  // namespace unipool
