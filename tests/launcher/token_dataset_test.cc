#include "launcher/data/token_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <thread>

#include "launcher/data/indexed_dataset_writer.h"
#include "runtime/errors.h"
#include "tests/launcher/data_test_files.h"

namespace unipool {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// A dataset whose token t is first_id + t, so that a sample tells where it was cut.
std::string WriteCounting(const std::string& prefix, const std::vector<int32_t>& lengths, int32_t first_id) {
  IndexedDatasetWriter writer(prefix, TokenType::kInt32);
  std::vector<int32_t> ids(std::accumulate(lengths.begin(), lengths.end(), 0));
  std::iota(ids.begin(), ids.end(), first_id);
  std::vector<uint8_t> bytes;
  AppendTokens(ids, TokenType::kInt32, bytes);
  writer.Add(bytes, lengths);
  writer.Finish();
  return prefix;
}

std::vector<int32_t> Sample(const TokenDataset& dataset, int64_t sample, int64_t s) {
  std::vector<int32_t> tokens(s + 1, -7);
  dataset.Read(sample, tokens);
  return tokens;
}

// Reads a sample that must be of consecutive ids; returns the first.
int32_t FirstId(const TokenDataset& dataset, int64_t sample, int64_t s) {
  const std::vector<int32_t> tokens = Sample(dataset, sample, s);
  for (int64_t i = 0; i <= s; ++i) EXPECT_EQ(tokens[i], tokens[0] + i) << "sample " << sample;
  return tokens[0];
}

DatasetOptions Options(std::vector<std::string> train, int64_t s) {
  DatasetOptions options;
  options.train = std::move(train);
  options.split = "1,0,0";
  options.seq_length = s;
  options.seed = std::random_device{}();
  options.vocab = 1 << 30;
  return options;
}

TEST(TokenDataset, SequentialCutsTheStream) {
  TemporaryFolder folder;
  // Samples cross documents.
  const std::string prefix = WriteCounting(folder / "p", {3, 0, 50, 1, 1, 48}, 1000);
  for (const char* name : {"p", "p.bin", "p.idx"}) {
    DatasetOptions options = Options({folder / name}, 10);
    options.sequential = true;
    const auto dataset = OpenDataset(options, Split::kTrain);
    EXPECT_EQ(dataset->num_tokens(), 103);
    EXPECT_EQ(dataset->samples_per_epoch(), 10);
    for (int64_t j = 0; j < 35; ++j) EXPECT_EQ(FirstId(*dataset, j, 10), 1000 + j % 10 * 10);
  }
  // 101 tokens are 10 samples, 100 are 9: the last token of a sample is the first of the next.
  for (const int32_t tokens : {100, 101}) {
    WriteCounting(folder / "q", {tokens}, 0);
    EXPECT_EQ(OpenDataset(Options({folder / "q"}, 10), Split::kTrain)->samples_per_epoch(),
              tokens == 101 ? 10 : 9);
  }
}

TEST(TokenDataset, TextIsBytes) {
  TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 256; ++i) text.push_back(static_cast<char>(255 - i));
  DatasetOptions options = Options({WriteFile(folder / "t.txt", text)}, 255);
  options.vocab = 256;
  const auto dataset = OpenDataset(options, Split::kTrain);
  const std::vector<int32_t> tokens = Sample(*dataset, 0, 255);
  for (int i = 0; i < 256; ++i) EXPECT_EQ(tokens[i], 255 - i);
  options.vocab = 200;
  EXPECT_THAT(
      [&] { OpenDataset(options, Split::kTrain); },
      ThrowsMessage<UserError>(AllOf(HasSubstr("t.txt: token 0 is id 255"), HasSubstr("model.vocab = 200"))));
}

TEST(TokenDataset, EachEpochIsAPermutationOfItsOwn) {
  TemporaryFolder folder;
  const DatasetOptions options = Options({WriteCounting(folder / "p", {4001}, 0)}, 10);
  const auto dataset = OpenDataset(options, Split::kTrain);
  ASSERT_EQ(dataset->samples_per_epoch(), 400);
  std::vector<std::vector<int32_t>> epochs;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<int32_t> order;
    for (int64_t j = 0; j < 400; ++j) order.push_back(FirstId(*dataset, epoch * 400 + j, 10));
    epochs.push_back(order);
    std::sort(order.begin(), order.end());
    for (int i = 0; i < 400; ++i) ASSERT_EQ(order[i], 10 * i) << "epoch " << epoch;
    // Shuffled: of 400 samples about one stays in place, and about one follows its neighbour.
    int in_place = 0, neighbours = 0;
    for (int i = 0; i + 1 < 400; ++i) {
      in_place += epochs.back()[i] == 10 * i;
      neighbours += epochs.back()[i + 1] == epochs.back()[i] + 10;
    }
    EXPECT_LT(in_place, 15);
    EXPECT_LT(neighbours, 15);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  DatasetOptions other = options;
  ++other.seed;
  const auto reseeded = OpenDataset(other, Split::kTrain);
  int same = 0;
  for (int64_t j = 0; j < 400; ++j) same += FirstId(*reseeded, j, 10) == epochs[0][j];
  EXPECT_LT(same, 15);
}

TEST(TokenDataset, SplitCutsBetweenSequences) {
  TemporaryFolder folder;
  // 10 sequences of 20 + i tokens; shares 7, 2, 1 cut after sequences 7 and 9.
  std::vector<int32_t> lengths(10);
  std::iota(lengths.begin(), lengths.end(), 20);
  WriteCounting(folder / "p", lengths, 0);
  DatasetOptions options = Options({folder / "p"}, 5);
  options.split = "7,2,1";
  options.sequential = true;
  const std::vector<int64_t> ends = {161, 216, 245};  // 20+..+26, +27+28, +29
  int64_t begin = 0;
  for (const Split split : {Split::kTrain, Split::kValid, Split::kTest}) {
    const auto dataset = OpenDataset(options, split);
    const int64_t end = ends[static_cast<size_t>(split)];
    EXPECT_EQ(dataset->num_tokens(), end - begin);
    EXPECT_EQ(FirstId(*dataset, 0, 5), begin);
    EXPECT_LE(FirstId(*dataset, dataset->samples_per_epoch() - 1, 5) + 5, end - 1);
    begin = end;
  }
}

TEST(TokenDataset, SplitCutsTextBetweenBytes) {
  TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 200; ++i) text.push_back(static_cast<char>(i));
  DatasetOptions options = Options({WriteFile(folder / "t", text)}, 9);
  options.split = "80, 15, 5";
  options.sequential = true;
  EXPECT_EQ(FirstId(*OpenDataset(options, Split::kTrain), 0, 9), 0);
  EXPECT_EQ(FirstId(*OpenDataset(options, Split::kValid), 0, 9), 160);
  EXPECT_EQ(OpenDataset(options, Split::kValid)->num_tokens(), 30);
  EXPECT_EQ(FirstId(*OpenDataset(options, Split::kTest), 0, 9), 190);
  options.seq_length = 10;
  EXPECT_THAT(
      [&] { OpenDataset(options, Split::kTest); },
      ThrowsMessage<UserError>(AllOf(
          HasSubstr("its test split (data.split 80, 15, 5, cut between its bytes) has 10 of 200 tokens"),
          HasSubstr("model.seq_length + 1 = 11"))));
}

TEST(TokenDataset, OwnValidationSources) {
  TemporaryFolder folder;
  WriteCounting(folder / "p", {100}, 0);
  WriteCounting(folder / "v", {50}, 500);
  DatasetOptions options = Options({folder / "p"}, 10);
  options.valid = {folder / "v"};
  options.split = "1,1,1";
  options.sequential = true;
  EXPECT_EQ(OpenDataset(options, Split::kTrain)->num_tokens(), 100);
  EXPECT_EQ(FirstId(*OpenDataset(options, Split::kValid), 0, 10), 500);
  EXPECT_THAT([&] { OpenDataset(options, Split::kTest); },
              ThrowsMessage<UserError>(HasSubstr("no test split")));
}

TEST(TokenDataset, BlendsKeepTheirSharesAndEpochs) {
  TemporaryFolder folder;
  WriteCounting(folder / "a", {101}, 0);
  WriteCounting(folder / "b", {1001}, 1000000);
  const auto dataset =
      OpenDataset(Options({"0.75 " + (folder / "a"), "0.25 " + (folder / "b")}, 10), Split::kTrain);
  EXPECT_EQ(dataset->samples_per_epoch(), 110);
  std::vector<int32_t> from_a, from_b;
  for (int64_t j = 0; j < 400; ++j) {
    const int32_t first = FirstId(*dataset, j, 10);
    (first < 1000000 ? from_a : from_b).push_back(first);
  }
  ASSERT_EQ(from_a.size(), 300u);
  ASSERT_EQ(from_b.size(), 100u);
  for (size_t epoch = 0; epoch < 30; ++epoch) {  // of the 10 samples of a
    EXPECT_EQ(std::set<int32_t>(from_a.begin() + 10 * epoch, from_a.begin() + 10 * epoch + 10).size(), 10u);
  }
  EXPECT_EQ(std::set<int32_t>(from_b.begin(), from_b.end()).size(), 100u);
  // Without weights each source gets as much as it has, and an epoch of the blend is one of each.
  const auto by_size = OpenDataset(Options({folder / "a", folder / "b"}, 10), Split::kTrain);
  std::set<int32_t> seen;
  for (int64_t j = 0; j < by_size->samples_per_epoch(); ++j) seen.insert(FirstId(*by_size, j, 10));
  EXPECT_EQ(seen.size(), 110u);
}

// The whole split is each sample of each source once, and sources count by their weights; fewer samples are
// the first of the blend.
TEST(TokenDataset, PortionsOfAnEvaluation) {
  TemporaryFolder folder;
  WriteCounting(folder / "a", {101}, 0);
  WriteCounting(folder / "b", {1001}, 1000000);
  const auto portions = [&](const std::string& weight_a, const std::string& weight_b, int64_t num_samples) {
    const auto dataset =
        OpenDataset(Options({weight_a + (folder / "a"), weight_b + (folder / "b")}, 10), Split::kTrain);
    EXPECT_EQ(dataset->source_name(1), folder / "b");
    std::vector<std::pair<int64_t, double>> list;
    for (const auto& portion : dataset->Portions(num_samples))
      list.emplace_back(portion.num_samples, portion.share);
    return list;
  };
  using List = std::vector<std::pair<int64_t, double>>;
  EXPECT_EQ(portions("3 ", "1 ", 110), (List{{10, 0.75}, {100, 0.25}}));
  EXPECT_EQ(portions("", "", 110), (List{{10, 10. / 110}, {100, 100. / 110}}));
  EXPECT_EQ(portions("3 ", "1 ", 8), (List{{6, 0.75}, {2, 0.25}}));
  EXPECT_EQ(portions("3 ", "1 ", 1), (List{{1, 1}, {0, 0}}));

  // Those are the samples that the blend gives.
  const auto blend = OpenDataset(Options({"3 " + (folder / "a"), "1 " + (folder / "b")}, 10), Split::kTrain);
  std::multiset<int32_t> by_source, in_order;
  for (int64_t j = 0; j < 57; ++j) in_order.insert(FirstId(*blend, j, 10));
  std::vector<int32_t> tokens(11);
  for (int source = 0; source < 2; ++source) {
    for (int64_t i = 0; i < blend->Portions(57)[source].num_samples; ++i) {
      blend->ReadOf(source, i, tokens);
      by_source.insert(tokens[0]);
    }
  }
  EXPECT_EQ(by_source, in_order);
  const auto single = OpenDataset(Options({folder / "a"}, 10), Split::kTrain);
  EXPECT_EQ(single->Portions(7)[0].num_samples, 7);
  EXPECT_EQ(single->Portions(7)[0].share, 1);
}

// Four threads that share a dataset, each asking for every fourth sample backwards, and a dataset opened anew
// in the middle of the run read what one reader reads.
TEST(TokenDataset, OrderDoesNotDependOnWhoAsksAndResumes) {
  TemporaryFolder folder;
  WriteCounting(folder / "a", {701}, 0);
  WriteCounting(folder / "b", {300, 2700}, 1000000);
  const DatasetOptions options = Options({"3 " + (folder / "a"), "1 " + (folder / "b")}, 7);
  constexpr int64_t kSamples = 3000;
  std::vector<int32_t> expected;
  const auto dataset = OpenDataset(options, Split::kTrain);
  for (int64_t j = 0; j < kSamples; ++j) expected.push_back(FirstId(*dataset, j, 7));
  EXPECT_GT(std::set<int32_t>(expected.begin(), expected.end()).size(), 300u);

  const auto shared = OpenDataset(options, Split::kTrain);
  std::vector<int32_t> read(kSamples, -7);
  std::vector<std::thread> ranks;
  for (int64_t rank = 0; rank < 4; ++rank) {
    ranks.emplace_back([&, rank] {
      for (int64_t j = kSamples - 4 + rank; j >= 0; j -= 4) read[j] = FirstId(*shared, j, 7);
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(read, expected);

  const auto resumed = OpenDataset(options, Split::kTrain);
  for (int64_t j = kSamples / 2; j < kSamples; ++j) ASSERT_EQ(FirstId(*resumed, j, 7), expected[j]);
}

TEST(TokenDataset, VocabularyTooSmallIsSeenAtOnce) {
  TemporaryFolder folder;
  WriteCounting(folder / "p", {20, 30}, 0);
  DatasetOptions options = Options({folder / "p"}, 10);
  options.vocab = 50;
  EXPECT_NO_THROW(OpenDataset(options, Split::kTrain));
  options.vocab = 49;
  EXPECT_THAT(
      [&] { OpenDataset(options, Split::kTrain); },
      ThrowsMessage<UserError>(AllOf(HasSubstr("p.bin: token 49 is id 49"), HasSubstr("model.vocab = 49"))));
}

TEST(TokenDataset, ASplitWithoutAShareIsNamed) {
  TemporaryFolder folder;
  WriteCounting(folder / "p", {100, 100}, 0);
  DatasetOptions options = Options({folder / "p"}, 10);
  const auto problem = [&](const std::string& split, Split which) {
    options.split = split;
    try {
      OpenDataset(options, which);
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(problem("50,50,0", Split::kTest),
              AllOf(HasSubstr("there is no test split, since data.split 50,50,0 gives it no share"),
                    HasSubstr("--split valid data.valid=FILE")));
  EXPECT_THAT(problem("50,0,50", Split::kValid), HasSubstr("or sources of its own in data.valid"));
  EXPECT_THAT(problem("0,50,50", Split::kTrain), HasSubstr("there is no training split"));
  EXPECT_EQ(problem("50,50,0", Split::kValid), "");
  EXPECT_THAT(problem("98,1,1", Split::kTest), HasSubstr("but one sample takes")) << "a small share is one";
}

TEST(TokenDataset, AllWrongSourcesAreNamed) {
  TemporaryFolder folder;
  WriteCounting(folder / "short", {5}, 0);
  WriteFile(folder / "lonely.bin", "xx");
  WriteFile(folder / "cut.idx", "MMIDIDX");
  WriteFile(folder / "cut.bin", "");
  WriteFile(folder / "t.xz", "xx");
  WriteCounting(folder / "made_text_document", {50}, 0);
  EXPECT_THAT(
      [&] {
        OpenDataset(Options({folder / "nowhere", folder / "short", folder / "lonely", folder / "cut",
                             folder / "t.xz", folder / "made"},
                            10),
                    Split::kTrain);
      },
      ThrowsMessage<UserError>(AllOf(HasSubstr("/nowhere: no such file"),
                                     HasSubstr("short.bin: its training split (data.split 1,0,0, cut between "
                                               "its 1 sequences) has 5 of 5 tokens"),
                                     HasSubstr("lonely.idx: cannot be opened"),
                                     HasSubstr("cut.idx: has 7 bytes"), HasSubstr("xz -dk"),
                                     HasSubstr("did you mean " + (folder / "made_text_document")))));
  EXPECT_THAT([] { OpenDataset(Options({}, 10), Split::kTrain); },
              ThrowsMessage<UserError>(HasSubstr("data.train is empty")));
}

}  // namespace
}  // namespace unipool
