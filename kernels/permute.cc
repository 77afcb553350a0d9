#include "kernels/permute.h"

#include <algorithm>
#include <cstring>

#include "kernels/check_tensor.h"
#include "kernels/cpu/fast_exp.h"
#include "kernels/cpu/vector_reduce.h"
#include "kernels/cuda/launchers.h"

namespace unipool {
namespace {

int64_t CheckedRow(int64_t row, int64_t rows) {
  CHECK(row >= 0 && row < rows) << "row " << row << " of " << rows;
  return row;
}

// The row of a token's choice, or -1 where it was not sent.
int64_t SentRow(int64_t row, int64_t rows) {
  return row == -1 ? -1 : CheckedRow(row, rows);
}

struct Choices {
  int64_t num_tokens, top_k, width, num_rows;
};

// What kernels on this device take where rows of type `from` arrive as `to`: on the CPU there is one type.
DType Converted(const Stream& stream, DType from, DType to) {
  return stream.device() == Device::kCuda ? to : from;
}

// Shapes of the kernels between tokens and rows: row_of [T, K], per_token [T, D], rows [N, D].
Choices CheckChoices(const char* kernel, const Stream& stream, const Tensor& rows, const Tensor& row_of,
                     const Tensor& per_token) {
  const Choices c = {row_of.rows(), row_of.dim(1), per_token.dim(1), rows.rows()};
  CheckTensor(kernel, row_of, DType::kI32, {c.num_tokens, c.top_k});
  CheckTensor(kernel, per_token, Converted(stream, rows.dtype, per_token.dtype), {c.num_tokens, c.width});
  CheckTensor(kernel, rows, rows.dtype, {c.num_rows, c.width});
  return c;
}

// Bytes of the rows that (t, k) pairs name, each read or written once.
double SentBytes(const Tensor& rows, const Tensor& row_of) {
  const double choices = row_of.size();
  return rows.rows() < choices ? rows.bytes() : choices * rows.dim(1) * SizeOf(rows.dtype);
}

template <class T>
void AddScaled(int64_t width, const T* from, T weight, const T* base, T* to) {
#pragma GCC ivdep
  for (int64_t j = 0; j < width; ++j) to[j] = MulAdd(weight, from[j], base[j]);
}

template <class T>
void UnpermuteToken(const Choices& c, const T* rows, const int32_t* row_of, const T* weights,
                    const T* residual, T* out) {
  const T* base = residual;
  for (int64_t k = 0; k < c.top_k; ++k) {
    const int64_t row = SentRow(row_of[k], c.num_rows);
    if (row < 0) continue;
    AddScaled(c.width, rows + row * c.width, weights[k], base, out);
    base = out;
  }
  if (base != out && c.width > 0) std::memcpy(out, residual, c.width * sizeof(T));
}

template <class T>
void UnpermuteTokenBackward(const Choices& c, const T* dout, const T* rows, const int32_t* row_of,
                            const T* weights, T* drows, T* dweights) {
  for (int64_t k = 0; k < c.top_k; ++k) {
    const int64_t row = SentRow(row_of[k], c.num_rows);
    dweights[k] = 0;
    if (row < 0) continue;
    const T* y = rows + row * c.width;
    T* dy = drows + row * c.width;
    dweights[k] = VectorSum<T>(c.width, [=](auto at) { return at(dout) * at(y); });
    const T weight = weights[k];
#pragma GCC ivdep
    for (int64_t j = 0; j < c.width; ++j) dy[j] = weight * dout[j];
  }
}

}  // namespace

void Permute(Stream& stream, const Tensor& src, const Tensor& index, const Tensor& dst) {
  const int64_t n = index.rows(), width = src.dim(1), row_bytes = width * SizeOf(src.dtype);
  CheckTensor("Permute src", src, src.dtype, {src.rows(), width});
  CheckTensor("Permute index", index, DType::kI32, {n});
  CheckTensor("Permute dst", dst, Converted(stream, src.dtype, dst.dtype), {n, width});
  KernelScope scope(stream, Op::kPermute, 0,
                    static_cast<double>(dst.bytes()) + dst.size() * SizeOf(src.dtype) + index.bytes());
  if (stream.device() == Device::kCuda) return cuda::GatherRows(stream, src, index, dst);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = CheckedRow(index.as<int32_t>()[i], src.rows());
    std::memcpy(static_cast<char*>(dst.data) + i * row_bytes,
                static_cast<const char*>(src.data) + row * row_bytes, row_bytes);
  }
}

void Unpermute(Stream& stream, const Tensor& rows, const Tensor& row_of, const Tensor& weights,
               const Tensor& residual, const Tensor& out) {
  const Choices c = CheckChoices("Unpermute row_of, out or rows", stream, rows, row_of, out);
  CheckTensor("Unpermute weights", weights, AccumulatorOf(rows.dtype), {c.num_tokens, c.top_k});
  CheckTensor("Unpermute residual", residual, out.dtype, {c.num_tokens, c.width});
  KernelScope scope(stream, Op::kPermute, 2.0 * row_of.size() * c.width,
                    SentBytes(rows, row_of) + 2.0 * out.bytes() + weights.bytes() + row_of.bytes());
  if (stream.device() == Device::kCuda) {
    return cuda::Unpermute(stream, rows, row_of, weights, residual, out);
  }
  DispatchFloat(rows.dtype, [&]<class T>() {
    for (int64_t t = 0; t < c.num_tokens; ++t) {
      UnpermuteToken(c, rows.as<T>(), row_of.as<int32_t>() + t * c.top_k, weights.as<T>() + t * c.top_k,
                     residual.as<T>() + t * c.width, out.as<T>() + t * c.width);
    }
  });
}

void UnpermuteBackward(Stream& stream, const Tensor& dout, const Tensor& rows, const Tensor& row_of,
                       const Tensor& weights, const Tensor& drows, const Tensor& dweights) {
  const Choices c = CheckChoices("UnpermuteBackward row_of, dout or rows", stream, rows, row_of, dout);
  CheckTensor("UnpermuteBackward weights", weights, AccumulatorOf(rows.dtype), {c.num_tokens, c.top_k});
  CheckTensor("UnpermuteBackward drows", drows, rows.dtype, {c.num_rows, c.width});
  CheckTensor("UnpermuteBackward dweights", dweights, AccumulatorOf(rows.dtype), {c.num_tokens, c.top_k});
  KernelScope scope(stream, Op::kPermute, 3.0 * row_of.size() * c.width,
                    2 * SentBytes(rows, row_of) + dout.bytes() + 2.0 * weights.bytes() + row_of.bytes());
  if (stream.device() == Device::kCuda) {
    return cuda::UnpermuteBackward(stream, dout, rows, row_of, weights, drows, dweights);
  }
  DispatchFloat(rows.dtype, [&]<class T>() {
    for (int64_t t = 0; t < c.num_tokens; ++t) {
      UnpermuteTokenBackward(c, dout.as<T>() + t * c.width, rows.as<T>(), row_of.as<int32_t>() + t * c.top_k,
                             weights.as<T>() + t * c.top_k, drows.as<T>(), dweights.as<T>() + t * c.top_k);
    }
  });
}

void PermuteBackward(Stream& stream, const Tensor& rows, const Tensor& row_of, const Tensor& out) {
  const Choices c = CheckChoices("PermuteBackward row_of, out or rows", stream, rows, row_of, out);
  KernelScope scope(stream, Op::kPermute, static_cast<double>(row_of.size()) * c.width,
                    SentBytes(rows, row_of) + 1.0 * out.bytes() + row_of.bytes());
  if (stream.device() == Device::kCuda) return cuda::Unpermute(stream, rows, row_of, Tensor{}, Tensor{}, out);
  DispatchFloat(rows.dtype, [&]<class T>() {
    for (int64_t t = 0; t < out.rows(); ++t) {
      T* to = out.as<T>() + t * c.width;
      bool is_first = true;
      for (int64_t i = t * c.top_k; i < (t + 1) * c.top_k; ++i) {
        const int64_t row = SentRow(row_of.as<int32_t>()[i], c.num_rows);
        if (row < 0) continue;
        const T* from = rows.as<T>() + row * c.width;
        if (is_first) {
          std::copy_n(from, c.width, to);
        } else {
#pragma GCC ivdep
          for (int64_t j = 0; j < c.width; ++j) to[j] += from[j];
        }
        is_first = false;
      }
      if (is_first) std::fill_n(to, c.width, T{0});
    }
  });
}

}  // namespace unipool
