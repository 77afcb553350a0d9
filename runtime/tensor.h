// A view of numbers: where they lie, of which type they are, in which shape. A tensor owns nothing (a Buffer
// does, runtime/buffer.h). It is copied by value, and is always row-major and contiguous.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "runtime/errors.h"

namespace unipool {

// The CPU trains in kF32. kF64 is the same code in double precision, which the gradient tests use.
enum class DType : uint8_t { kF32, kF64, kBF16, kI32, kI64 };
int64_t SizeOf(DType dtype);      // bytes
const char* NameOf(DType dtype);  // as safetensors spells it: F32, F64, BF16, I32, I64
// The type in which kernels sum numbers of `dtype`, and in which they keep statistics and weight gradients of
// them. It is F32 for BF16, and otherwise `dtype` itself.
constexpr DType AccumulatorOf(DType dtype) {
  return dtype == DType::kBF16 ? DType::kF32 : dtype;
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int num_dims = 0;
  std::array<int64_t, 4> dims{};

  Tensor() = default;
  Tensor(void* data, DType dtype, std::initializer_list<int64_t> shape);

  bool empty() const { return data == nullptr; }
  int64_t dim(int i) const { return dims[i]; }
  int64_t rows() const { return dims[0]; }
  int64_t size() const;  // number of elements
  int64_t bytes() const { return size() * SizeOf(dtype); }
  std::string ShapeString() const;  // "[2, 3]"

  // A typed pointer to the data. REQUIRES: T is the dtype's type.
  template <class T>
  T* as() const {
    DCHECK(DTypeOf<T>::value == dtype) << NameOf(dtype);
    return static_cast<T*>(data);
  }
  // Rows [begin, begin + count) of the first dim.
  Tensor Rows(int64_t begin, int64_t count) const;
  // The same elements in another shape. REQUIRES: equal element counts.
  Tensor Reshape(std::initializer_list<int64_t> shape) const;
};

// Runs `body.template operator()<T>()`, where T is the floating type of `dtype`: float or double. A CHECK
// fails for another dtype. So an operation that is missing for a type is an error and never a silent
// fallback.
template <class Body>
void DispatchFloat(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF32:
      body.template operator()<float>();
      return;
    case DType::kF64:
      body.template operator()<double>();
      return;
    default:
      LOG(FATAL) << "no CPU kernel for dtype " << NameOf(dtype);
  }
}

}  // namespace unipool
