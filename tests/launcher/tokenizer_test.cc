#include "launcher/tokens/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "launcher/tokens/bpe_merger.h"
#include "launcher/tokens/piece_splitter.h"
#include "runtime/errors.h"
#include "tests/launcher/data_test_files.h"
#include "tests/launcher/sha256.h"

namespace unipool {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::shared_ptr<const Tokenizer> Gpt2() {
  return MakeTokenizer(
      {.kind = "gpt2", .vocab = TestData("gpt2-vocab.json"), .merges = TestData("gpt2-merges.txt")});
}

std::vector<int32_t> Ids(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> ids;
  tokenizer.Encode(text, ids);
  return ids;
}

std::string Utf8(uint32_t c) {
  std::string s;
  if (c < 0x80) return std::string(1, static_cast<char>(c));
  const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  s.push_back(static_cast<char>((0xFF00 >> (more + 1) & 0xFF) | c >> 6 * more));
  for (int i = more - 1; i >= 0; --i) s.push_back(static_cast<char>(0x80 | (c >> 6 * i & 0x3F)));
  return s;
}

// Text of runs of letters, digits, marks and blanks of many scripts.
std::string RandomText(std::mt19937_64& random, int num_runs) {
  const std::vector<std::pair<uint32_t, uint32_t>> ranges = {
      {'a', 'z'},       {'A', 'Z'},         {'0', '9'},     {0x20, 0x20},     {0x20, 0x2F},
      {0x09, 0x0D},     {0xA0, 0x17F},      {0x370, 0x5FF}, {0x2000, 0x206F}, {0x3000, 0x30FF},
      {0x4E00, 0x4FFF}, {0x1F300, 0x1F64F}, {0, 0x1F},      {0xE000, 0xE010}};
  std::string text;
  for (int run = 0; run < num_runs; ++run) {
    const auto [low, high] = ranges[random() % ranges.size()];
    for (auto left = random() % 6 + 1; left > 0; --left) text += Utf8(low + random() % (high - low + 1));
  }
  return text;
}

TEST(ByteTokenizer, IdsAreTheBytes) {
  const std::shared_ptr<const Tokenizer> tokenizer = MakeTokenizer({.kind = "bytes"});
  std::string all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<char>(255 - i));
  const std::vector<int32_t> ids = Ids(*tokenizer, all);
  for (int i = 0; i < 256; ++i) EXPECT_EQ(ids[i], 255 - i);
  EXPECT_EQ(tokenizer->Decode(ids), all);
  EXPECT_EQ(tokenizer->vocab_size(), 256);
  EXPECT_EQ(tokenizer->end_of_text(), -1);
}

TEST(Gpt2Tokenizer, GoldenStrings) {
  SKIP_WITHOUT_TEST_DATA("gpt2-golden.jsonl");
  const std::shared_ptr<const Tokenizer> tokenizer = Gpt2();
  EXPECT_EQ(tokenizer->vocab_size(), 50257);
  EXPECT_EQ(tokenizer->end_of_text(), 50256);
  std::ifstream file(TestData("gpt2-golden.jsonl"));
  int count = 0;
  for (std::string line; std::getline(file, line); ++count) {
    const nlohmann::json golden = nlohmann::json::parse(line);
    const auto text = golden.at("text").get<std::string>();
    const auto ids = golden.at("ids").get<std::vector<int32_t>>();
    EXPECT_EQ(Ids(*tokenizer, text), ids) << "line " << count + 1;
    EXPECT_EQ(tokenizer->Decode(ids), text) << "line " << count + 1;
  }
  EXPECT_EQ(count, 206);
}

TEST(Gpt2Tokenizer, TinyShakespeare) {
  SKIP_WITHOUT_TEST_DATA("tinyshakespeare.txt");
  const std::string text = ReadFile(TestData("tinyshakespeare.txt"));
  const std::vector<int32_t> ids = Ids(*Gpt2(), text);
  ASSERT_EQ(ids.size(), 338025u);
  std::string bytes;
  for (const int32_t id : ids) {
    bytes.push_back(static_cast<char>(id & 255));
    bytes.push_back(static_cast<char>(id >> 8));
  }
  EXPECT_EQ(Sha256::Hex(bytes), "25c01b32b32f41897a6359dd222ec114992dc30c357bcafbfe6c56672f76cd31");
}

TEST(Gpt2Tokenizer, DecodesWhatItEncodedAndAppends) {
  SKIP_WITHOUT_TEST_DATA("gpt2-vocab.json");
  const std::shared_ptr<const Tokenizer> tokenizer = Gpt2();
  std::mt19937_64 random(std::random_device{}());
  std::vector<int32_t> ids;
  std::string all;
  for (int i = 0; i < 300; ++i) {
    const std::string text = RandomText(random, 1 + static_cast<int>(random() % 60));
    ASSERT_EQ(FirstInvalidUtf8(text), -1);
    tokenizer->Encode(text, ids);
    all += text;
    ASSERT_EQ(tokenizer->Decode(ids), all);
  }
}

TEST(Gpt2Tokenizer, ThreadsAndTwoTokenizersShareNothing) {
  SKIP_WITHOUT_TEST_DATA("gpt2-vocab.json");
  TemporaryFolder folder;
  const std::shared_ptr<const Tokenizer> tokenizer = Gpt2();
  // The same vocabulary without merges: only single bytes. Both use this thread's cache in turn.
  const std::shared_ptr<const Tokenizer> other =
      MakeTokenizer({.kind = "gpt2",
                     .vocab = TestData("gpt2-vocab.json"),
                     .merges = WriteFile(folder / "none", "#version: 0.2\n")});
  const std::string text = "The quick brown fox, 1984's fox, it's the fox.";
  const std::vector<int32_t> ids = Ids(*tokenizer, text);
  EXPECT_EQ(Ids(*other, text).size(), text.size());
  EXPECT_EQ(Ids(*tokenizer, text), ids);
  std::vector<std::thread> threads;
  std::vector<std::vector<int32_t>> results(4);
  for (auto& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) tokenizer->Encode(text, result);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) {
    ASSERT_EQ(result.size(), 200 * ids.size());
    for (size_t i = 0; i < result.size(); ++i) ASSERT_EQ(result[i], ids[i % ids.size()]);
  }
}

// One piece of 300,000 bytes each: work that grows with the square would run into the time limit.
TEST(Gpt2Tokenizer, LongPieces) {
  SKIP_WITHOUT_TEST_DATA("gpt2-vocab.json");
  const std::shared_ptr<const Tokenizer> tokenizer = Gpt2();
  std::mt19937_64 random(std::random_device{}());
  for (const char* kind : {"letters", "newlines", "marks"}) {
    std::string text;
    for (int i = 0; i < 300000; ++i) {
      text.push_back(*kind == 'l' ? static_cast<char>('a' + random() % 26) : *kind == 'n' ? '\n' : '=');
    }
    const std::vector<int32_t> ids = Ids(*tokenizer, text);
    EXPECT_LT(ids.size(), text.size()) << kind;
    EXPECT_EQ(tokenizer->Decode(ids), text) << kind;
  }
}

TEST(Gpt2Tokenizer, RefusesBytesThatAreNotUtf8) {
  SKIP_WITHOUT_TEST_DATA("gpt2-vocab.json");
  const std::shared_ptr<const Tokenizer> tokenizer = Gpt2();
  EXPECT_THAT([&] { Ids(*tokenizer, "good \xC0\x80"); },
              ThrowsMessage<UserError>(HasSubstr("0xc0 at offset 5")));
}

TEST(Gpt2Tokenizer, BadFilesAreNamed) {
  TemporaryFolder folder;
  nlohmann::json vocab;  // bytes, then "ab", then "abc"
  for (uint32_t byte = 0, next = 0x100; byte < 256; ++byte) {
    const bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    vocab[Utf8(itself ? byte : next++)] = byte;
  }
  vocab["ab"] = 256;
  vocab["abc"] = 257;
  const auto make = [&](const std::string& merges) {
    return MakeTokenizer({.kind = "gpt2",
                          .vocab = WriteFile(folder / "v", vocab.dump()),
                          .merges = WriteFile(folder / "m", merges)});
  };
  EXPECT_EQ(Ids(*make("#version: 0.2\na b\nab c\n"), "xabcab"), (std::vector<int32_t>{'x', 257, 256}));
  EXPECT_THAT([&] { make("a b\nab\n"); },
              ThrowsMessage<UserError>(HasSubstr("m, line 2: \"ab\" is not two tokens")));
  EXPECT_THAT([&] { make("a c\n"); },
              ThrowsMessage<UserError>(HasSubstr("a token that the vocabulary lacks")));
  EXPECT_THAT([&] { make("ab c\n"); }, ThrowsMessage<UserError>(HasSubstr("no earlier line makes")));
  EXPECT_THAT([&] { make("a b\na b\n"); }, ThrowsMessage<UserError>(HasSubstr("an earlier line makes")));
  vocab["abc"] = 256;
  EXPECT_THAT([&] { make(""); }, ThrowsMessage<UserError>(HasSubstr("the ids must be 0 to 257, each once")));
  vocab["abc"] = 257;
  vocab.erase("a");
  vocab["aa"] = 97;
  EXPECT_THAT([&] { make(""); },
              ThrowsMessage<UserError>(HasSubstr("byte 97 (shown as \"a\") has no token")));
  vocab = nlohmann::json::array();
  EXPECT_THAT([&] { make(""); }, ThrowsMessage<UserError>(HasSubstr("is not a JSON object")));
}

TEST(MakeTokenizer, WrongFlagsAreSentences) {
  EXPECT_THAT([] { MakeTokenizer({.kind = "gpt3"}); },
              ThrowsMessage<UserError>(HasSubstr("--tokenizer gpt3 is unknown; give gpt2, bytes or a file")));
  EXPECT_THAT(
      [] { MakeTokenizer({.kind = "gpt2"}); },
      ThrowsMessage<UserError>(::testing::AllOf(HasSubstr("--vocab FILE"), HasSubstr("--merges FILE"))));
  EXPECT_THAT([] { MakeTokenizer({.kind = "bytes", .vocab = "v"}); },
              ThrowsMessage<UserError>(HasSubstr("neither")));
  EXPECT_THAT([] { MakeTokenizer({.kind = "gpt2", .vocab = "/nowhere/v", .merges = "m"}); },
              ThrowsMessage<UserError>(HasSubstr("/nowhere/v: cannot be opened")));
}

// All merges of a small alphabet, merged as the definition says: the lowest-ranked pair of neighbours, all of
// its occurrences from the left, until none is left.
TEST(BpeMerger, IsTheDefinitionForShortAndLongPieces) {
  std::mt19937_64 random(std::random_device{}());
  for (int round = 0; round < 20; ++round) {
    BpeMerger merger;
    std::vector<std::string> tokens = {"a", "b", "c"};
    for (int i = 0; i < 3; ++i) merger.SetByte(static_cast<uint8_t>('a' + i), i);
    std::map<std::pair<int32_t, int32_t>, std::pair<int, int32_t>> rules;  // pair to rank, result
    while (tokens.size() < 60) {
      const auto left = static_cast<int32_t>(random() % tokens.size()),
                 right = static_cast<int32_t>(random() % tokens.size());
      const std::string merged = tokens[left] + tokens[right];
      if (std::find(tokens.begin(), tokens.end(), merged) != tokens.end()) continue;
      const auto id = static_cast<int32_t>(tokens.size());
      rules[{left, right}] = {id, id};
      tokens.push_back(merged);
      ASSERT_TRUE(merger.AddMerge(left, right, id));
      ASSERT_FALSE(merger.AddMerge(left, right, id));
    }
    for (const size_t length : {1, 2, 3, 20, 48, 49, 300}) {
      std::string piece;
      std::vector<int32_t> expected;
      for (size_t i = 0; i < length; ++i) {
        expected.push_back(static_cast<int32_t>(random() % 3));
        piece.push_back(static_cast<char>('a' + expected.back()));
      }
      for (;;) {
        auto best = rules.end();
        for (size_t i = 0; i + 1 < expected.size(); ++i) {
          const auto rule = rules.find({expected[i], expected[i + 1]});
          if (rule != rules.end() && (best == rules.end() || rule->second.first < best->second.first))
            best = rule;
        }
        if (best == rules.end()) break;
        std::vector<int32_t> next;
        for (size_t i = 0; i < expected.size(); ++i) {
          const bool here = i + 1 < expected.size() && best->first == std::pair(expected[i], expected[i + 1]);
          next.push_back(here ? best->second.second : expected[i]);
          if (here) ++i;
        }
        expected = next;
      }
      std::vector<int32_t> ids;
      merger.Merge(piece, ids);
      EXPECT_EQ(ids, expected) << piece;
    }
  }
}

TEST(PieceSplitter, WhiteSpaceIsUnicodes) {
  const auto pieces = [](const std::string& text) {
    std::vector<std::string> list;
    PieceSplitter().Split(text, [&](std::string_view piece) { list.emplace_back(piece); });
    return list;
  };
  using List = std::vector<std::string>;
  EXPECT_EQ(pieces("it's 12\xC2\xBDth  day\n\n x"),
            (List{"it", "'s", " 12\xC2\xBD", "th", " ", " day", "\n\n", " x"}));
  // A no-break space is white space, the Mongolian vowel separator and a control character are not.
  EXPECT_EQ(pieces("a\xC2\xA0"
                   "b"),
            (List{"a", "\xC2\xA0", "b"}));
  EXPECT_EQ(pieces("a \xE1\xA0\x8E"
                   "b"),
            (List{"a", " \xE1\xA0\x8E", "b"}));
  EXPECT_EQ(pieces("a \x1C"
                   "b"),
            (List{"a", " \x1C", "b"}));
}

TEST(FirstInvalidUtf8, AgreesWithTheRules) {
  EXPECT_EQ(FirstInvalidUtf8(""), -1);
  for (uint32_t c = 0; c <= 0x10FFFF; c += c < 0x900 ? 1 : 61) {
    const bool surrogate = c >= 0xD800 && c <= 0xDFFF;
    EXPECT_EQ(FirstInvalidUtf8("0123456789" + Utf8(c) + "z"), surrogate ? 10 : -1) << c;
  }
  for (const char* bad : {"\x80", "\xC1\xBF", "\xC3", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
                          "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xE2\x82", "\xFF", "\xE2\x28\xA1"}) {
    EXPECT_EQ(FirstInvalidUtf8(std::string("ok ") + bad), 3);
  }
}

TEST(Sha256, KnownAnswers) {  // FIPS 180-4 examples
  EXPECT_EQ(Sha256::Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256::Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

}  // namespace
}  // namespace unipool
