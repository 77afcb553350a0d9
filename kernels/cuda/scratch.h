// How large the pieces are into which CUDA kernels cut their work, where that decides how much scratch memory
// they take. The kernel reads a size here, and so does the XScratchBytes of its header. Nothing here needs
// CUDA.
#pragma once

#include <cstdint>

namespace unipool::cuda {

constexpr int64_t CeilDiv(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// AddSum: blocks. A constant, so that the order is the same on all devices; enough for the largest.
inline constexpr int64_t kMostSumPartials = 1024;
// RmsNormBackward: blocks, each with a row of dweight.
inline constexpr int64_t kMostNormPartials = 256;
// RouterForward and RouterScoresBackward: tokens of a block.
inline constexpr int kRouterTokens = 32;
// OrderRows: choices of a block.
inline constexpr int kOrderChunk = 2048;
// AttentionBackward: bytes of one row and head, and what rows are padded to: multiples of the largest tile.
inline constexpr int64_t kTermBytes = 8, kTermRows = 128;
// AttentionDecode: keys of a stretch, or more where there would be more stretches than kMostDecodeStretches.
// A stretch is a multiple of kDecodeTileKeys.
inline constexpr int kDecodeKeys = 256, kMostDecodeStretches = 64, kDecodeTileKeys = 64;
// EmbeddingBackward: keys that a block sorts. A round adds the rows of up to kEmbeddingChunk keys into one
// row.
inline constexpr int kEmbeddingTile = 1024, kEmbeddingChunk = 32;

// Rows that all rounds of EmbeddingBackward after the first have.
constexpr int64_t NumLaterRows(int64_t num_keys) {
  const int64_t num_chunks = CeilDiv(num_keys, kEmbeddingChunk);
  return num_chunks <= 1 ? 0 : num_chunks + NumLaterRows(num_chunks);
}

// Keys of a stretch of AttentionDecode.
constexpr int64_t KeysOfStretch(int64_t num_keys) {
  const int64_t wanted = CeilDiv(num_keys, kDecodeKeys);
  const int64_t stretches = wanted < kMostDecodeStretches ? wanted : kMostDecodeStretches;
  return CeilDiv(CeilDiv(num_keys, stretches), kDecodeTileKeys) * kDecodeTileKeys;
}

}  // namespace unipool::cuda
