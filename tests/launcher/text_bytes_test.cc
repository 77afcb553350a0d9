// How much text the tokens of a validation are, beside texts of known lengths.
#include "launcher/data/text_bytes.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "launcher/tokens/byte_tokenizer.h"

namespace unipool {
namespace {

// Token i is i bytes long; 5 ends a document.
class Lengths : public Tokenizer {
 public:
  void Encode(std::string_view, std::vector<int32_t>&) const override {}
  std::string Decode(std::span<const int32_t> ids) const override {
    return std::string(static_cast<size_t>(ids[0]), 'x');
  }
  int32_t vocab_size() const override { return 7; }
  int32_t end_of_text() const override { return 5; }
};

class TextBytes : public testing::Test {
 protected:
  ~TextBytes() override {
    for (const std::string& path : paths_) std::filesystem::remove(path);
  }
  // A text is read as bytes, so its bytes are the ids.
  std::string Write(const std::string& ids) {
    paths_.push_back(testing::TempDir() + "text_bytes" + std::to_string(paths_.size()) + ".txt");
    std::ofstream(paths_.back(), std::ios::binary) << ids;
    return paths_.back();
  }
  static std::unique_ptr<TokenDataset> Open(const std::vector<std::string>& sources) {
    return OpenDataset({.train = {"x"}, .valid = sources, .sequential = true, .seq_length = 3, .vocab = 256},
                       Split::kValid);
  }
  std::vector<std::string> paths_;
};

TEST_F(TextBytes, TokensThatArePredictedCount) {
  // Samples 1234 and 4563: 2 + 3 + 4, and 0 (an end) + 6 + 3 bytes.
  const auto dataset = Open({Write("\x01\x02\x03\x04\x05\x06\x03")});
  EXPECT_DOUBLE_EQ(BytesPerToken(*dataset, 1, 3, Lengths()), 3);
  EXPECT_DOUBLE_EQ(BytesPerToken(*dataset, 2, 3, Lengths()), 3);
  EXPECT_DOUBLE_EQ(BytesPerToken(*Open({Write("\x01\x02\x02\x02")}), 1, 3, Lengths()), 2);
}

TEST_F(TextBytes, IdsBeyondTheTokenizerHaveNone) {
  EXPECT_DOUBLE_EQ(BytesPerToken(*Open({Write("\x01\x06\x07\x63")}), 1, 3, Lengths()), 2);
  EXPECT_DOUBLE_EQ(BytesPerToken(*Open({Write("\x01\x05\x05\x05")}), 1, 3, Lengths()), 0);
}

TEST_F(TextBytes, SourcesCountByTheirShares) {
  const std::string four = Write("\x01\x04\x04\x04"), two = Write("\x01\x02\x02\x02");
  const auto dataset = Open({"0.75 " + four, "0.25 " + two});
  EXPECT_DOUBLE_EQ(BytesPerToken(*dataset, dataset->samples_per_epoch(), 3, Lengths()), 3.5);
}

TEST_F(TextBytes, AByteIsAByte) {
  EXPECT_DOUBLE_EQ(BytesPerToken(*Open({Write("any text")}), 2, 3, ByteTokenizer()), 1);
}

}  // namespace
}  // namespace unipool
