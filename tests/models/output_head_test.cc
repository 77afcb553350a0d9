// Into which chunks the head cuts its tokens. What it computes: the tests of the language model.
#include "models/output_head.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

int64_t Chunk(int64_t padded_vocab, int64_t tokens, Device device) {
  return OutputHead::ChunkTokens(tokens, OutputHead::MostTokens(padded_vocab, device), device);
}

TEST(OutputHead, ChunksOfADeviceAreEvenAndWholeTiles) {
  EXPECT_EQ(Chunk(51200, 16384, Device::kCuda), 4096);
  EXPECT_EQ(Chunk(51200, 5000, Device::kCuda), 5000) << "all at once";
  EXPECT_EQ(Chunk(51200, 5300, Device::kCuda), 2816) << "not 5120 and 180";
  EXPECT_EQ(Chunk(256, 16384, Device::kCuda), 16384);
  EXPECT_EQ(Chunk(int64_t{1} << 27, 1000, Device::kCuda), 256) << "a tile at least";
  for (const int64_t tokens : {1, 255, 256, 257, 9999, 65536}) {
    const int64_t chunk = Chunk(51200, tokens, Device::kCuda);
    EXPECT_TRUE(chunk == tokens || chunk % 256 == 0) << tokens;
    EXPECT_LE(chunk * 51200, int64_t{1} << 28);
    const int64_t chunks = (tokens + chunk - 1) / chunk;
    EXPECT_LT(chunk - (tokens - (chunks - 1) * chunk), 256 * chunks) << tokens << ": the last is as large";
  }
}

TEST(OutputHead, ChunksOfAProcessorHaveEnoughTokensToPayForTheWeights) {
  EXPECT_EQ(Chunk(51200, 4096, Device::kCpu), 64);
  EXPECT_EQ(Chunk(1024, 4096, Device::kCpu), 512);
  EXPECT_EQ(Chunk(1024, 100, Device::kCpu), 100);
}

TEST(OutputHead, ChunksAreAsLargeAsTheSettingsSay) {
  EXPECT_EQ(OutputHead::MostTokens(51200, int64_t{1} << 30, Device::kCuda), 20736);
  EXPECT_EQ(OutputHead::ChunkTokens(65536, 20736, Device::kCuda), 16384);
  EXPECT_EQ(OutputHead::ChunkTokens(1000, 300, Device::kCuda), 256) << "even";
  EXPECT_EQ(OutputHead::ChunkTokens(1000, 100, Device::kCuda), 100) << "no more than was asked for";
  EXPECT_EQ(OutputHead::ChunkTokens(1000, 7, Device::kCpu), 7);
}

}  // namespace
}  // namespace unipool
