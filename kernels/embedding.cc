#include "kernels/embedding.h"

#include <algorithm>
#include <cstring>

#include "kernels/check_tensor.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/scratch.h"

namespace unipool {
namespace {

int64_t CheckedToken(const Tensor& tokens, int64_t t, int64_t vocabulary) {
  const int64_t token = tokens.as<int32_t>()[t];
  CHECK(token >= 0 && token < vocabulary)
      << "token " << token << " at " << t << " of a vocabulary of " << vocabulary;
  return token;
}

}  // namespace

void EmbeddingForward(Stream& stream, const Tensor& tokens, const Tensor& table, const Tensor& out) {
  const int64_t num_tokens = tokens.rows(), width = table.dim(1);
  CheckTensor("EmbeddingForward tokens", tokens, DType::kI32, {num_tokens});
  CheckTensor("EmbeddingForward table", table, table.dtype, {table.rows(), width});
  const bool on_cuda = stream.device() == Device::kCuda;
  CheckTensor("EmbeddingForward out", out, on_cuda ? out.dtype : table.dtype, {num_tokens, width});
  KernelScope scope(stream, Op::kEmbedding, 0,
                    tokens.bytes() + out.bytes() + static_cast<double>(out.size()) * SizeOf(table.dtype));
  if (on_cuda) return cuda::GatherRows(stream, table, tokens, out);
  const int64_t row_bytes = width * SizeOf(table.dtype);
  for (int64_t t = 0; t < num_tokens; ++t) {
    const int64_t token = CheckedToken(tokens, t, table.rows());
    std::memcpy(static_cast<char*>(out.data) + t * row_bytes,
                static_cast<const char*>(table.data) + token * row_bytes, row_bytes);
  }
}

// Keys of 8 bytes in tiles, twice, and of the later rounds; rows of the later rounds, to whole keys.
int64_t EmbeddingBackwardScratchBytes(Device device, int64_t num_tokens, int64_t width) {
  if (device != Device::kCuda) return 0;
  const int64_t num_keys = cuda::CeilDiv(num_tokens, cuda::kEmbeddingTile) * cuda::kEmbeddingTile;
  const int64_t num_later = cuda::NumLaterRows(num_tokens);
  return 8 * (2 * num_keys + num_later + cuda::CeilDiv(num_later * width, 2));
}

void EmbeddingBackward(Stream& stream, const Tensor& tokens, const Tensor& dout, const Tensor& dtable) {
  const int64_t num_tokens = tokens.rows(), width = dtable.dim(1);
  CheckTensor("EmbeddingBackward tokens", tokens, DType::kI32, {num_tokens});
  CheckTensor("EmbeddingBackward dtable", dtable, AccumulatorOf(dout.dtype), {dtable.rows(), width});
  CheckTensor("EmbeddingBackward dout", dout, dout.dtype, {num_tokens, width});
  const double touched_bytes = std::min(dout.size(), dtable.size()) * SizeOf(dtable.dtype);
  KernelScope scope(stream, Op::kEmbedding, dout.size(), tokens.bytes() + dout.bytes() + 2 * touched_bytes);
  if (stream.device() == Device::kCuda) return cuda::EmbeddingBackward(stream, tokens, dout, dtable);
  DispatchFloat(dtable.dtype, [&]<class T>() {
    for (int64_t t = 0; t < num_tokens; ++t) {
      const T* from = dout.as<T>() + t * width;
      T* to = dtable.as<T>() + CheckedToken(tokens, t, dtable.rows()) * width;
#pragma GCC ivdep
      for (int64_t j = 0; j < width; ++j) to[j] += from[j];
    }
  });
}

}  // namespace unipool
