#include "launcher/data/indexed_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <functional>
#include <random>

#include "launcher/data/indexed_dataset_writer.h"
#include "runtime/errors.h"
#include "tests/launcher/data_test_files.h"

namespace unipool {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

template <typename T>
std::string Raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// A small index written out by hand, so that the reader is checked against the format and not against the
// writer: three sequences of 2, 0 and 3 tokens in documents {0}, {}, {1, 2}.
struct HandMade {
  std::string magic = std::string("MMIDIDX\0\0", 9);
  uint64_t version = 1;
  uint8_t code = 4;
  uint64_t sequences = 3, entries = 4;
  std::vector<int32_t> lengths = {2, 0, 3};
  std::vector<int64_t> offsets = {0, 8, 8}, documents = {0, 1, 1, 3};
  std::string modes;
  std::string bin = Raw(70000) + Raw(1) + Raw(2) + Raw(3) + Raw(4);

  std::string Write(const std::string& prefix) const {
    std::string idx = magic + Raw(version) + Raw(code) + Raw(sequences) + Raw(entries);
    for (const int32_t length : lengths) idx += Raw(length);
    for (const int64_t offset : offsets) idx += Raw(offset);
    for (const int64_t document : documents) idx += Raw(document);
    WriteFile(prefix + ".idx", idx + modes);
    WriteFile(prefix + ".bin", bin);
    return prefix;
  }
};

TEST(IndexedDataset, ReadsTheFormat) {
  TemporaryFolder folder;
  for (const std::string modes : {"", "\1\2\3"}) {
    HandMade made;
    made.modes = modes;
    const IndexedDataset dataset(made.Write(folder / "p"));
    EXPECT_EQ(dataset.num_sequences(), 3);
    EXPECT_EQ(dataset.num_documents(), 3);
    EXPECT_EQ(dataset.num_tokens(), 5);
    EXPECT_EQ(dataset.sequence_begin(2), 2);
    EXPECT_EQ(dataset.sequence_begin(3), 5);
    EXPECT_EQ(dataset.sequence_length(2), 3);
    EXPECT_EQ(dataset.document_begin(2), 1);
    std::vector<int32_t> tokens(5, -7);
    dataset.Read(0, tokens, 70001);
    EXPECT_EQ(tokens, (std::vector<int32_t>{70000, 1, 2, 3, 4}));
    std::vector<int32_t> two(2, -7);
    dataset.Read(2, two, 5);
    EXPECT_EQ(two, (std::vector<int32_t>{2, 3}));
  }
}

template <typename T>
void CheckCode(uint8_t code, const std::string& prefix) {
  HandMade made;
  made.code = code;
  made.offsets = {0, 2 * sizeof(T), 2 * sizeof(T)};
  const auto most = static_cast<int64_t>(std::min<uint64_t>(std::numeric_limits<T>::max(), 1 << 20));
  made.bin = Raw(static_cast<T>(0)) + Raw(static_cast<T>(most)) + Raw(static_cast<T>(7)) +
             Raw(static_cast<T>(-3)) + Raw(static_cast<T>(9));
  const IndexedDataset dataset(made.Write(prefix));
  std::vector<int32_t> tokens(3, -7);
  dataset.Read(0, tokens, 1 << 30);
  EXPECT_EQ(tokens, (std::vector<int32_t>{0, static_cast<int32_t>(most), 7})) << int{code};
  EXPECT_THAT([&] { dataset.Read(0, tokens, most); },
              ThrowsMessage<UserError>(AllOf(HasSubstr(".bin: token 1 is id " + std::to_string(most) + ","),
                                             HasSubstr("model.vocab = " + std::to_string(most)))));
  if (std::is_signed_v<T>) {
    EXPECT_THAT([&] { dataset.Read(2, tokens, 1 << 30); },
                ThrowsMessage<UserError>(HasSubstr("token 3 is id -3,")));
  }
}

TEST(IndexedDataset, AllIntegerCodes) {
  TemporaryFolder folder;
  CheckCode<uint8_t>(1, folder / "p");
  CheckCode<int8_t>(2, folder / "p");
  CheckCode<int16_t>(3, folder / "p");
  CheckCode<int32_t>(4, folder / "p");
  CheckCode<int64_t>(5, folder / "p");
  CheckCode<uint16_t>(8, folder / "p");
}

TEST(IndexedDataset, RefusesWhatIsDamaged) {
  const std::vector<std::pair<std::function<void(HandMade&)>, std::string>> cases = {
      {[](HandMade& m) { m.magic[3] = 'X'; }, "p.idx: does not begin with \"MMIDIDX\""},
      {[](HandMade& m) { m.version = 2; }, "p.idx: has version 2; only version 1"},
      {[](HandMade& m) { m.code = 6; }, "p.idx: has element code 6"},
      {[](HandMade& m) { m.code = 0; }, "p.idx: has element code 0"},
      {[](HandMade& m) { m.code = 9; }, "p.idx: has element code 9"},
      {[](HandMade& m) { m.sequences = 5; }, "p.idx: has 102 bytes, but its header says 5 sequences"},
      {[](HandMade& m) { m.sequences = ~uint64_t{0} / 12; }, "cut off or damaged"},
      {[](HandMade& m) { m.entries = uint64_t{1} << 61; }, "cut off or damaged"},
      {[](HandMade& m) { m.documents.pop_back(); }, "p.idx: has 94 bytes"},
      {[](HandMade& m) { m.modes = "12"; }, "p.idx: has 104 bytes"},
      {[](HandMade& m) { m.offsets[1] = 12; },
       "sequence 1 has 0 tokens from byte 12 on; it should begin at byte 8"},
      {[](HandMade& m) { m.offsets[0] = 4; }, "sequence 0"},
      {[](HandMade& m) { m.lengths[1] = -1; }, "sequence 1 has -1 tokens"},
      {[](HandMade& m) { m.documents[3] = 2; }, "must run from 0 to the number of sequences, 3"},
      {[](HandMade& m) { m.documents[0] = 1; }, "must run from 0"},
      {[](HandMade& m) { m.documents[2] = 0; }, "document entry 2 is 0, below the one before it, 1"},
      {[](HandMade& m) { m.bin.pop_back(); }, "p.bin: has 19 bytes, but"},
      {[](HandMade& m) { m.bin.clear(); }, "p.bin: has 0 bytes, but"}};
  for (const auto& [damage, message] : cases) {
    TemporaryFolder folder;
    HandMade made;
    damage(made);
    made.Write(folder / "p");
    EXPECT_THAT([&] { IndexedDataset dataset(folder / "p"); }, ThrowsMessage<UserError>(HasSubstr(message)));
  }
}

TEST(IndexedDataset, RefusesEveryTruncation) {
  TemporaryFolder folder;
  HandMade().Write(folder / "p");
  const std::string whole = ReadFile(folder / "p.idx");
  for (size_t size = 0; size < whole.size(); ++size) {
    WriteFile(folder / "p.idx", whole.substr(0, size));
    EXPECT_THAT([&] { IndexedDataset dataset(folder / "p"); }, ThrowsMessage<UserError>(HasSubstr("p.idx: ")))
        << size;
  }
  std::filesystem::remove(folder / "p.idx");
  EXPECT_THAT([&] { IndexedDataset dataset(folder / "p"); },
              ThrowsMessage<UserError>(HasSubstr("p.idx: cannot be opened: No such file")));
}

TEST(IndexedDatasetWriter, WritesWhatTheReaderReads) {
  std::mt19937_64 random(std::random_device{}());
  for (const TokenType type : {TokenType::kUint16, TokenType::kInt32}) {
    TemporaryFolder folder;
    std::vector<int32_t> all, document_lengths;
    {
      IndexedDatasetWriter writer(folder / "p", type);
      for (int chunk = 0; chunk < 5; ++chunk) {
        std::vector<uint8_t> bytes;
        std::vector<int32_t> lengths;
        for (auto documents = random() % 20; documents > 0; --documents) {
          std::vector<int32_t> ids(random() % 3 == 0 ? 0 : random() % 50);
          for (int32_t& id : ids) id = static_cast<int32_t>(random() % 65000);
          AppendTokens(ids, type, bytes);
          lengths.push_back(static_cast<int32_t>(ids.size()));
          all.insert(all.end(), ids.begin(), ids.end());
        }
        writer.Add(bytes, lengths);
        document_lengths.insert(document_lengths.end(), lengths.begin(), lengths.end());
      }
      writer.Finish();
    }
    EXPECT_FALSE(std::filesystem::exists(folder / "p.bin.part"));
    const IndexedDataset dataset(folder / "p");
    EXPECT_EQ(dataset.type(), type);
    ASSERT_EQ(dataset.num_documents(), static_cast<int64_t>(document_lengths.size()));
    for (int64_t d = 0; d < dataset.num_documents(); ++d) {
      const int64_t first = dataset.document_begin(d), last = dataset.document_begin(d + 1);
      ASSERT_EQ(last - first, document_lengths[d] > 0 ? 1 : 0);  // no sequence for an empty document
      if (last > first) {
        EXPECT_EQ(dataset.sequence_length(first), document_lengths[d]);
      }
    }
    std::vector<int32_t> tokens(all.size(), -7);
    dataset.Read(0, tokens, 65000);
    EXPECT_EQ(tokens, all);
  }
}

TEST(IndexedDatasetWriter, LeavesNothingUnfinished) {
  TemporaryFolder folder;
  WriteFile(folder / "p.idx", "old index");
  WriteFile(folder / "p.bin", "old tokens");
  {
    IndexedDatasetWriter writer(folder / "p", TokenType::kUint16);
    writer.Add(std::vector<uint8_t>{1, 0, 2, 0}, std::vector<int32_t>{2});
  }
  EXPECT_EQ(ReadFile(folder / "p.idx"), "old index");
  EXPECT_EQ(ReadFile(folder / "p.bin"), "old tokens");
  EXPECT_FALSE(std::filesystem::exists(folder / "p.bin.part"));
  EXPECT_THAT([&] { IndexedDatasetWriter writer(folder / "no/p", TokenType::kUint16); },
              ThrowsMessage<UserError>(HasSubstr("no/p.lock: cannot be written: No such file")));
}

// A limit on file sizes acts like a full disk: write fails in the middle.
TEST(IndexedDatasetWriter, FullDiskIsASentence) {
  TemporaryFolder folder;
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {.rlim_cur = 1000, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  {
    IndexedDatasetWriter writer(folder / "p", TokenType::kUint16);
    EXPECT_THAT([&] { writer.Add(std::vector<uint8_t>(2000), std::vector<int32_t>{1000}); },
                ThrowsMessage<UserError>(HasSubstr("p.bin.part: cannot be written: File too large")));
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(TokenTypeFor, IsMegatronsChoice) {
  EXPECT_EQ(TokenTypeFor(256), TokenType::kUint16);
  EXPECT_EQ(TokenTypeFor(50257), TokenType::kUint16);
  EXPECT_EQ(TokenTypeFor(65499), TokenType::kUint16);
  EXPECT_EQ(TokenTypeFor(65500), TokenType::kInt32);
}

}  // namespace
}  // namespace unipool
