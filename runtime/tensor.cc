#include "runtime/tensor.h"

#include <algorithm>

namespace unipool {

int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kF64:
      return 8;
    case DType::kBF16:
      return 2;
    case DType::kI32:
      return 4;
    case DType::kI64:
      return 8;
  }
  LOG(FATAL) << "unknown dtype " << static_cast<int>(dtype);
}

const char* NameOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF64:
      return "F64";
    case DType::kBF16:
      return "BF16";
    case DType::kI32:
      return "I32";
    case DType::kI64:
      return "I64";
  }
  LOG(FATAL) << "unknown dtype " << static_cast<int>(dtype);
}

Tensor::Tensor(void* data, DType dtype, std::initializer_list<int64_t> shape)
    : data(data), dtype(dtype), num_dims(static_cast<int>(shape.size())) {
  CHECK_LE(shape.size(), dims.size());
  std::copy(shape.begin(), shape.end(), dims.begin());
}

int64_t Tensor::size() const {
  if (num_dims == 0) return 0;
  int64_t count = 1;
  for (int i = 0; i < num_dims; ++i) count *= dims[i];
  return count;
}

std::string Tensor::ShapeString() const {
  std::string text = "[";
  for (int i = 0; i < num_dims; ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

Tensor Tensor::Rows(int64_t begin, int64_t count) const {
  CHECK(begin >= 0 && count >= 0 && begin + count <= dims[0])
      << "rows " << begin << " + " << count << " of " << ShapeString();
  Tensor part = *this;
  const int64_t row_bytes = dims[0] ? bytes() / dims[0] : 0;
  part.data = static_cast<char*>(data) + begin * row_bytes;
  part.dims[0] = count;
  return part;
}

Tensor Tensor::Reshape(std::initializer_list<int64_t> shape) const {
  Tensor other(data, dtype, shape);
  CHECK_EQ(other.size(), size()) << ShapeString() << " as " << other.ShapeString();
  return other;
}

}  // namespace unipool
