#include "launcher/tokens/tokenize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>

#include "launcher/data/indexed_dataset.h"
#include "launcher/tokens/tokenize_input.h"
#include "launcher/tokens/tokenize_pipeline.h"
#include "runtime/errors.h"
#include "tests/launcher/data_test_files.h"
#include "tests/launcher/sha256.h"

namespace unipool {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TokenizeOptions Gpt2Options(const std::string& input, const std::string& prefix) {
  TokenizeOptions options;
  options.input = {input};
  options.output_prefix = prefix;
  options.tokenizer = {
      .kind = "gpt2", .vocab = TestData("gpt2-vocab.json"), .merges = TestData("gpt2-merges.txt")};
  return options;
}

TokenizeOptions ByteOptions(std::vector<std::string> inputs, const std::string& prefix) {
  TokenizeOptions options;
  options.input = std::move(inputs);
  options.output_prefix = prefix;
  options.tokenizer.kind = "bytes";
  options.threads = 1;
  return options;
}

struct Corpus {
  const char* file;
  const char* bin;
  const char* idx;
};

class CorpusTest : public ::testing::TestWithParam<Corpus> {};

// The digests that Megatron-LM's preprocessor gives, for one thread and for several.
TEST_P(CorpusTest, IsMegatronsByteForByte) {
  SKIP_WITHOUT_TEST_DATA(GetParam().file);
  TemporaryFolder folder;
  std::string input = TestData(GetParam().file);
  if (input.ends_with(".xz")) {
    if (std::system(("xz -dc " + input + " > " + folder.path() + "/in.jsonl").c_str()) != 0) {
      GTEST_SKIP() << "xz is not on this machine";
    }
    input = folder / "in.jsonl";
  }
  TokenizeOptions options = Gpt2Options(input, folder / "out");
  const bool large = std::filesystem::file_size(input) > (20 << 20);
  for (const int threads : large ? std::vector{0} : std::vector{1, 3}) {
    options.threads = threads;
    EXPECT_EQ(Tokenize(options), folder / "out_text_document");
    EXPECT_EQ(Sha256::Hex(ReadFile(folder / "out_text_document.bin")), GetParam().bin)
        << threads << " threads";
    EXPECT_EQ(Sha256::Hex(ReadFile(folder / "out_text_document.idx")), GetParam().idx)
        << threads << " threads";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Tokenize, CorpusTest,
    ::testing::Values(
        Corpus{"pile-sample.jsonl", "9fe642ec129fdcf57d3f7854f460cb52550f4150fcd35522133d96799e9e57c0",
               "d86adfa4c29c42d9ac8fb85c65b75b0967506ec83b86dc6bf7021df3245eff21"},
        Corpus{"books-valid.jsonl.xz", "b7ef1df8f8cca465937a105e90989de2e2454e760016ed7e7e05328565ea77af",
               "1ed8ae83128de535de926df1ea57da231b4855f603fff66219ebda7739938178"},
        Corpus{"books-train.jsonl.xz", "09acfb953738849041fc90773bda275f7d62b0e0ad2043affe1e3a2b30e4cc95",
               "fb5a32479937c1ac9ca6fe3f6c991460df89ababef3f0b6a4f0243d469b299c5"}),
    [](const auto& info) {
      const std::string name = info.param.file;
      return name.substr(0, name.find('-')) + name.substr(name.find('-') + 1, 5);
    });

// Documents of several files in order, empty texts, blank lines, \u escapes, a last line without an end; any
// thread count.
TEST(Tokenize, BytesOfSeveralFiles) {
  TemporaryFolder folder;
  std::mt19937_64 random(std::random_device{}());
  std::string expected;
  std::vector<int32_t> lengths;
  std::vector<std::string> inputs;
  for (int file = 0; file < 3; ++file) {
    std::string lines;
    for (int i = 0; i < 3000; ++i) {
      const std::string text = i % 7 == 0
                                   ? ""
                                   : std::string(random() % 900, static_cast<char>('a' + random() % 26)) +
                                         " \"\n\xC3\xA9\xF0\x9F\x98\x80";
      lines +=
          nlohmann::json{{"meta", {{"text", "inner"}, {"n", 1}}}, {"text", text}, {"z", {1, "text"}}}.dump(
              -1, ' ', i % 2 == 0);
      lines += i % 11 == 0 ? "\r\n\n" : i == 2999 ? "" : "\n";
      expected += text;
      lengths.push_back(static_cast<int32_t>(text.size()));
    }
    inputs.push_back(WriteFile(folder / ("in" + std::to_string(file)), lines));
  }
  std::string first_bin, first_idx;
  for (const int threads : {1, 2, 5}) {
    TokenizeOptions options = ByteOptions(inputs, folder / ("out" + std::to_string(threads)));
    options.threads = threads;
    Tokenize(options);
    const std::string prefix = options.output_prefix + "_text_document";
    const IndexedDataset dataset(prefix);
    EXPECT_EQ(dataset.type(), TokenType::kUint16);
    std::vector<int32_t> tokens(expected.size(), -7);
    ASSERT_EQ(dataset.num_tokens(), static_cast<int64_t>(expected.size()));
    dataset.Read(0, tokens, 256);
    EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), expected.begin(),
                           [](int32_t id, char byte) { return id == static_cast<uint8_t>(byte); }));
    ASSERT_EQ(dataset.num_documents(), static_cast<int64_t>(lengths.size()));
    for (int64_t d = 0, begin = 0; d < dataset.num_documents(); begin += lengths[d++]) {
      ASSERT_EQ(dataset.sequence_begin(dataset.document_begin(d)), begin);
    }
  }
}

TEST(Tokenize, EndOfTextCanBeLeftOut) {
  SKIP_WITHOUT_TEST_DATA("gpt2-vocab.json");
  TemporaryFolder folder;
  const std::string input = WriteFile(folder / "in",
                                      "{\"text\": \"ab<|endoftext|>\", \"body\": \"x\"}\n{\"body\": "
                                      "\"y\", \"text\": \"\"}\n");
  const auto tokens = [&](const TokenizeOptions& options) {
    Tokenize(options);
    const IndexedDataset dataset(options.output_prefix + "_" + options.key + "_document");
    EXPECT_EQ(dataset.num_documents(), 2);
    std::vector<int32_t> ids(dataset.num_tokens(), -7);
    dataset.Read(0, ids, 50257);
    return ids;
  };
  TokenizeOptions options = Gpt2Options(input, folder / "out");
  const std::vector<int32_t> with = tokens(options);
  options.append_eod = false;
  const std::vector<int32_t> without = tokens(options);
  ASSERT_EQ(with.size(), without.size() + 1);
  EXPECT_EQ(with.back(), 50256);
  EXPECT_EQ(std::count(without.begin(), without.end(), 50256), 0);
  options.key = "body";
  options.append_eod = true;
  // Ids 0, 1, ... are '!', '"', ...
  EXPECT_EQ(tokens(options), (std::vector<int32_t>{'x' - '!', 50256, 'y' - '!', 50256}));
}

TEST(Tokenize, BadLinesAreNamed) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{\"text\": \"a\"", "line 3: is not JSON"},
      {"plain text", "line 3: is not JSON at its byte 1"},
      {"[\"text\", \"a\"]", "line 3: is not a JSON object"},
      {"\"text\"", "line 3: is not a JSON object"},
      {"{\"body\": \"a\"}", "line 3: has no key \"text\""},
      {"{\"meta\": {\"text\": \"a\"}}", "line 3: has no key \"text\""},
      {"{\"text\": 5}", "line 3: has a value at \"text\" that is not a string"},
      {"{\"text\": [\"a\"]}", "line 3: has a value at \"text\" that is not a string"},
      {"{\"text\": \"\\ud800\"}", "surrogate"},
      {"{\"text\": \"\\udc00 a\"}", "surrogate"},
      {"{\"text\": \"\xFF\"}", "ill-formed UTF-8"},
      {"{\"text\": \"a\"} {}", "line 3: is not JSON"}};
  for (const auto& [line, message] : cases) {
    TemporaryFolder folder;
    const std::string good = "{\"text\": \"good\"}\n";
    const std::string first = WriteFile(folder / "first", good + good + good);
    const std::string second = WriteFile(folder / "second", good + "\n" + line + "\n" + good + "bad too\n");
    EXPECT_THAT(
        [&] {
          Tokenize(ByteOptions({first, second}, folder / "out"));
        },
        ThrowsMessage<UserError>(AllOf(HasSubstr("/second, line 3: "), HasSubstr(message))));
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      EXPECT_TRUE(entry.path() == first || entry.path() == second) << entry.path();
    }
  }
}

TEST(Tokenize, BadLinesCanBeSkipped) {
  TemporaryFolder folder;
  const std::string good = "{\"text\": \"good\"}\n";
  const std::string input = WriteFile(
      folder / "in", good + "{\"text\": null}\n" + good + "no json\n{\"text\": \"\\ud800\"}\n" + good);
  TokenizeOptions options = ByteOptions({input}, folder / "out");
  EXPECT_THAT(
      [&] { Tokenize(options); },
      ThrowsMessage<UserError>(AllOf(HasSubstr("/in, line 2: has a value"), HasSubstr("--skip_bad_lines"))));
  options.skip_bad_lines = true;
  ::testing::internal::CaptureStderr();
  Tokenize(options);
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(
      said, AllOf(HasSubstr("skipped 3 bad lines beside 3 good ones"), HasSubstr("/in, line 2: has a value"),
                  HasSubstr("/in, line 4: is not JSON"), HasSubstr("/in, line 5: "), HasSubstr("surrogate")));
  const IndexedDataset dataset(folder / "out_text_document");
  EXPECT_EQ(dataset.num_documents(), 3);
  EXPECT_EQ(dataset.num_tokens(), 12);
  options.input = {WriteFile(folder / "worse", "no json\n7\n")};
  options.output_prefix = folder / "none";
  EXPECT_THAT([&] { Tokenize(options); }, ThrowsMessage<UserError>(HasSubstr("none of the 2 lines is good")));
  EXPECT_FALSE(std::filesystem::exists(folder / "none_text_document.bin"));
}

// Of many bad lines the first few are told, whichever thread met them.
TEST(Tokenize, TheFirstBadLinesAreTold) {
  TemporaryFolder folder;
  std::string lines = "{\"text\": \"good\"}\n";
  for (int i = 2; i <= 60000; ++i)
    lines += "{\"text\": " + std::to_string(i) + ", \"more\": \"some more text\"}\n";
  TokenizeOptions options = ByteOptions({WriteFile(folder / "in", lines)}, folder / "out");
  options.skip_bad_lines = true;
  options.threads = 3;
  ::testing::internal::CaptureStderr();
  Tokenize(options);
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(said, AllOf(HasSubstr("skipped 59999 bad lines"), HasSubstr("line 2: "), HasSubstr("line 6: "),
                          Not(HasSubstr("line 7: ")), HasSubstr("and 59994 more")));
}

TEST(Tokenize, WrongFlagsAreAllNamedAtOnce) {
  TokenizeOptions options;
  options.key = "";
  options.threads = -1;
  EXPECT_THAT(
      [&] { Tokenize(options); },
      ThrowsMessage<UserError>(AllOf(HasSubstr("--input is empty"), HasSubstr("--output_prefix is empty"),
                                     HasSubstr("--key is empty"), HasSubstr("--threads=-1"))));
  options = ByteOptions({"/nowhere/a.jsonl", "b.jsonl.xz", "/tmp"}, "/nowhere/out");
  options.append_eod = true;
  EXPECT_THAT([&] { Tokenize(options); },
              ThrowsMessage<UserError>(
                  AllOf(HasSubstr("--input /nowhere/a.jsonl: no such file"),
                        HasSubstr("--input b.jsonl.xz: no such file"), HasSubstr("--input /tmp: is a folder"),
                        HasSubstr("there is no folder /nowhere"), HasSubstr("--append_eod"))));
}

// What json.dumps writes: \u escapes and pairs of them, separators, keys twice, numbers that JSON has not.
TEST(ExtractText, ReadsWhatPythonWrites) {
  const std::string huge(400, '9');
  const std::pair<std::string, std::string> cases[] = {
      {R"({"text": "a", "score": NaN})", "a"},
      {R"({"score": -Infinity, "text": "a NaN, -Infinity 1e400", "more": [Infinity, {"x":NaN}]})",
       "a NaN, -Infinity 1e400"},
      {R"({"id":)" + huge + R"(,"text":"b"})", "b"},
      {R"({"id":-)" + huge + R"(.5e-7 , "text":"b", "x": 1e400, "y": 0})", "b"},
      {R"({"q\"": NaN, "text": "\\\"NaN"})", "\\\"NaN"},
      {R"({"text": "\ud83d\ude00 \u00e9 \u0000"})", std::string("\xF0\x9F\x98\x80 \xC3\xA9 \0", 9)},
      {"{\"text\": \"\xF0\x9F\x98\x80\"}", "\xF0\x9F\x98\x80"},
      {R"({"text": "first", "text": "last"})", "last"},
  };
  for (const auto& [line, expected] : cases) {
    std::string text = "before";
    EXPECT_NO_THROW(ExtractText(line, "text", text)) << line;
    EXPECT_EQ(text, expected) << line;
  }
  for (const std::string line :
       {R"({"text": "a", "x": nan})", R"({"text": "a", "x": 01})", R"({"text": "a", "x": 1.})",
        R"({"text": "a", "x": +1})", R"({"text": "a", "x": NaNs})", R"({"text": NaN})",
        R"({"text": "a", "x": Inf})", R"({"text": "a", NaN: 1})", R"({"text": "a)"}) {
    std::string text;
    EXPECT_THROW(ExtractText(line, "text", text), UserError) << line;
  }
}

TEST(LineReader, ChunksAreWholeLines) {
  TemporaryFolder folder;
  std::mt19937_64 random(std::random_device{}());
  std::vector<std::string> paths, contents;
  for (int file = 0; file < 4; ++file) {
    std::string text;
    for (int line = 0; line < 40 * file; ++line) text += std::string(random() % 60, 'x') + "\n";
    if (file % 2 == 1) text += "last";
    contents.push_back(text);
    paths.push_back(WriteFile(folder / std::to_string(file), text));
  }
  for (const size_t chunk_bytes : {1, 7, 64, 100000}) {
    LineReader reader(paths, chunk_bytes);
    std::map<std::string, std::string> read;
    std::map<std::string, int64_t> lines;
    for (LineChunk chunk; reader.Next(chunk);) {
      EXPECT_EQ(chunk.first_line, lines[chunk.path] + 1);
      lines[chunk.path] += std::count(chunk.text.begin(), chunk.text.end(), '\n');
      read[chunk.path] += chunk.text;
      EXPECT_TRUE(chunk.text.ends_with("\n") || read[chunk.path].ends_with("last"));
    }
    for (size_t i = 0; i < paths.size(); ++i) EXPECT_EQ(read[paths[i]], contents[i]);
  }
}

TEST(OrderedPipeline, KeepsOrderAndBounds) {
  for (const int threads : {1, 2, 7}) {
    OrderedPipeline<int, int> pipeline;
    std::atomic<int> open{0}, most{0};
    int given = 0;
    std::vector<int> finished;
    pipeline.next = [&](int& item) {
      if (given == 500) return false;
      item = given++;
      most = std::max<int>(most, ++open);
      return true;
    };
    pipeline.work = [](int& item) {
      if (item % 13 == 0) std::this_thread::sleep_for(std::chrono::microseconds(300));
      return item * item;
    };
    pipeline.finish = [&](int& result) {
      finished.push_back(result);
      --open;
    };
    pipeline.Run(threads);
    ASSERT_EQ(finished.size(), 500u);
    for (int i = 0; i < 500; ++i) ASSERT_EQ(finished[i], i * i);
    EXPECT_LE(most, 2 * threads);
  }
}

TEST(OrderedPipeline, ThrowsTheFirstErrorOfTheItems) {
  for (int round = 0; round < 20; ++round) {
    OrderedPipeline<int, int> pipeline;
    int given = 0;
    std::vector<int> finished;
    pipeline.next = [&](int& item) { return (item = given++) < 100; };
    pipeline.work = [](int& item) {
      if (item == 30) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (item >= 30) throw UserError("item " + std::to_string(item));
      return item;
    };
    pipeline.finish = [&](int& result) { finished.push_back(result); };
    EXPECT_THAT([&] { pipeline.Run(4); }, ThrowsMessage<UserError>("item 30"));
    EXPECT_EQ(finished.size(), 30u);
  }
}

}  // namespace
}  // namespace unipool
