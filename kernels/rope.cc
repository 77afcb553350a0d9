#include "kernels/rope.h"

#include <cmath>

#include "kernels/cuda/launchers.h"

namespace unipool {

void FillRopeTables(double base, const Tensor& cos, const Tensor& sin) {
  CHECK(cos.num_dims == 2 && cos.dims == sin.dims && cos.dtype == sin.dtype)
      << cos.ShapeString() << " and " << sin.ShapeString();
  const int64_t positions = cos.dim(0), half = cos.dim(1);
  DispatchFloat(cos.dtype, [&]<class T>() {
    for (int64_t i = 0; i < half; ++i) {
      const double frequency = std::pow(base, -static_cast<double>(i) / static_cast<double>(half));
      for (int64_t t = 0; t < positions; ++t) {
        cos.as<T>()[t * half + i] = static_cast<T>(std::cos(static_cast<double>(t) * frequency));
        sin.as<T>()[t * half + i] = static_cast<T>(std::sin(static_cast<double>(t) * frequency));
      }
    }
  });
}

void Rope(Stream& stream, const AttentionShape& shape, const Tensor& cos, const Tensor& sin,
          RopeDirection direction, const Tensor& qkv, int64_t first_position) {
  const int64_t half = shape.head_size / 2, heads = shape.num_heads + shape.num_kv_heads;
  const int64_t s = shape.sequence_length;
  CHECK_EQ(shape.head_size % 2, 0);
  CHECK(qkv.num_dims == 2 && qkv.dim(0) == shape.tokens() && qkv.dim(1) == shape.qkv_size())
      << qkv.ShapeString() << " for " << shape.tokens() << " tokens of " << shape.qkv_size();
  CHECK(cos.num_dims == 2 && cos.dim(1) == half && cos.dims == sin.dims)
      << cos.ShapeString() << " for half " << half;
  CHECK(cos.dtype == AccumulatorOf(qkv.dtype) && sin.dtype == cos.dtype)
      << NameOf(cos.dtype) << " and " << NameOf(sin.dtype) << " for " << NameOf(qkv.dtype);
  CHECK(first_position >= 0 && first_position + s <= cos.dim(0))
      << "positions " << first_position << " + " << s << " of " << cos.dim(0);
  const double rotated = static_cast<double>(qkv.dim(0)) * heads * shape.head_size;
  KernelScope scope(stream, Op::kRope, 3 * rotated,
                    2 * rotated * SizeOf(qkv.dtype) + 2.0 * s * half * SizeOf(cos.dtype));
  if (stream.device() == Device::kCuda)
    return cuda::Rope(stream, shape, cos, sin, direction, qkv, first_position);
  DispatchFloat(qkv.dtype, [&]<class T>() {
    const T sign = direction == RopeDirection::kForward ? T(1) : T(-1);
    for (int64_t t = 0; t < qkv.dim(0); ++t) {
      const int64_t position = first_position + t % s;
      const T* c = cos.as<T>() + position * half;
      const T* w = sin.as<T>() + position * half;
      T* head = qkv.as<T>() + t * shape.qkv_size();
      for (int64_t h = 0; h < heads; ++h, head += 2 * half) {
        T* __restrict low = head;
        T* __restrict high = head + half;
        for (int64_t i = 0; i < half; ++i) {
          const T a = low[i], b = high[i], sn = sign * w[i];
          low[i] = a * c[i] - b * sn;
          high[i] = b * c[i] + a * sn;
        }
      }
    }
  });
}

}  // namespace unipool
