#include "tests/kernels/cuda/cuda_case.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "tests/kernels/cuda/cuda_backend.h"

namespace unipool {
namespace {

constexpr double kBf16Rounding = 0x1p-8;  // half a unit in the last of 8 bits

int64_t Count(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

Tensor MakeTensor(void* data, DType dtype, const std::vector<int64_t>& shape) {
  Tensor tensor(data, dtype, {0});
  tensor.num_dims = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), tensor.dims.begin());
  return tensor;
}

// To nearest, ties to even, by looking at both neighbours: not how kernels do it.
uint16_t RoundToBf16(double value) {
  const auto single = static_cast<float>(value);
  const auto below = static_cast<uint16_t>(std::bit_cast<uint32_t>(single) >> 16);
  const auto as_double = [](uint32_t bits) { return double{std::bit_cast<float>(bits << 16)}; };
  const double low = std::abs(as_double(below)), high = std::abs(as_double(below + 1u)),
               wanted = std::abs(value);
  if (wanted - low != high - wanted) return wanted - low < high - wanted ? below : below + 1;
  return below % 2 == 0 ? below : below + 1;
}

std::vector<char> Encode(DType dtype, const std::vector<double>& values) {
  std::vector<char> bytes(values.size() * SizeOf(dtype));
  const auto write = [&](auto convert) {
    for (size_t i = 0; i < values.size(); ++i) {
      const auto value = convert(values[i]);
      std::memcpy(bytes.data() + i * sizeof(value), &value, sizeof(value));
    }
  };
  switch (dtype) {
    case DType::kF32:
      write([](double x) { return static_cast<float>(x); });
      break;
    case DType::kF64:
      write([](double x) { return x; });
      break;
    case DType::kBF16:
      write(RoundToBf16);
      break;
    case DType::kI32:
      write([](double x) { return static_cast<int32_t>(x); });
      break;
    case DType::kI64:
      write([](double x) { return static_cast<int64_t>(x); });
      break;
  }
  return bytes;
}

std::vector<double> Decode(DType dtype, const std::vector<char>& bytes) {
  std::vector<double> values(bytes.size() / SizeOf(dtype));
  const auto read = [&]<class T>(T, auto convert) {
    for (size_t i = 0; i < values.size(); ++i) {
      T value;
      std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
      values[i] = convert(value);
    }
  };
  const auto plain = [](auto x) { return static_cast<double>(x); };
  switch (dtype) {
    case DType::kF32:
      read(float{}, plain);
      break;
    case DType::kF64:
      read(double{}, plain);
      break;
    case DType::kBF16:
      read(uint16_t{}, [](uint16_t x) { return double{std::bit_cast<float>(uint32_t{x} << 16)}; });
      break;
    case DType::kI32:
      read(int32_t{}, plain);
      break;
    case DType::kI64:
      read(int64_t{}, plain);
      break;
  }
  return values;
}

DType DefinitionType(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 ? DType::kF64 : dtype;
}

}  // namespace

DType CudaCase::TypeOf(const Array& array) const {
  switch (array.type) {
    case ArrayType::kData:
      return variant_.dtype;
    case ArrayType::kAccumulator:
      return AccumulatorOf(variant_.dtype);
    case ArrayType::kBF16:
      return DType::kBF16;
    case ArrayType::kF32:
      return DType::kF32;
    case ArrayType::kF64:
      return DType::kF64;
    case ArrayType::kI32:
      return DType::kI32;
    case ArrayType::kI64:
      return DType::kI64;
  }
  LOG(FATAL) << "an array without a type";
}

std::vector<double> CudaCase::Random(const Shape& shape, double low, double high) {
  std::vector<double> values(Count(shape));
  for (double& value : values) value = low + (high - low) * static_cast<double>(random_() >> 11) * 0x1p-53;
  return values;
}

CudaCase::Handle CudaCase::Add(Array array) {
  const DType dtype = TypeOf(array);
  CHECK_EQ(static_cast<int64_t>(array.values.size()), Count(array.shape)) << array.name;
  if (array.in) {
    array.values = Decode(dtype, Encode(dtype, array.values));
  } else if (dtype == DType::kI32 || dtype == DType::kI64) {
    array.values.assign(array.values.size(), -1);  // all bits set, as the back ends' poison
  }
  arrays_.push_back(std::move(array));
  return {static_cast<int>(arrays_.size()) - 1};
}

CudaCase::Handle CudaCase::In(const char* name, const Shape& shape, double low, double high, ArrayType type) {
  return Add({name, shape, type, true, false, {}, Random(shape, low, high), {}, {}});
}
CudaCase::Handle CudaCase::InValues(const char* name, const Shape& shape, std::vector<double> values,
                                    ArrayType type) {
  return Add({name, shape, type, true, false, {}, std::move(values), {}, {}});
}
CudaCase::Handle CudaCase::Out(const char* name, const Shape& shape, Bound bound, ArrayType type) {
  const std::vector<double> poison(Count(shape), std::numeric_limits<double>::quiet_NaN());
  return Add({name, shape, type, false, true, bound, poison, {}, {}});
}
CudaCase::Handle CudaCase::InOut(const char* name, const Shape& shape, double low, double high, Bound bound,
                                 ArrayType type) {
  return Add({name, shape, type, true, true, bound, Random(shape, low, high), {}, {}});
}
CudaCase::Handle CudaCase::InOutValues(const char* name, const Shape& shape, std::vector<double> values,
                                       Bound bound, ArrayType type) {
  return Add({name, shape, type, true, true, bound, std::move(values), {}, {}});
}

void CudaCase::RunDefinition(const Call& call) {
  MemoryMeter meter;
  Stream stream(meter);
  std::vector<std::vector<char>> memory;
  CaseTensors tensors;
  for (const Array& array : arrays_) {
    const DType dtype = DefinitionType(TypeOf(array));
    memory.push_back(Encode(dtype, array.values));
    memory.back().reserve(1);  // not null without elements
    tensors.tensors_.push_back(MakeTensor(memory.back().data(), dtype, array.shape));
  }
  call(stream, tensors);
  for (size_t i = 0; i < arrays_.size(); ++i) {
    if (arrays_[i].out) arrays_[i].expected = Decode(DefinitionType(TypeOf(arrays_[i])), memory[i]);
  }
}

void CudaCase::Compare(const Array& array, const std::vector<char>& bytes) const {
  const DType dtype = TypeOf(array);
  const std::vector<double> actual = Decode(dtype, bytes);
  const double rounding = dtype == DType::kBF16 ? kBf16Rounding : 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double expected = array.expected[i];
    const double bound = (array.bound.relative + rounding) * std::abs(expected) + array.bound.absolute;
    ASSERT_TRUE(std::abs(actual[i] - expected) <= bound)
        << "element " << i << " of " << array.name << " is " << actual[i] << ", the definition gives "
        << expected << ", bound " << bound;
  }
}

void CudaCase::RunOnce(const Call& call, int run) {
  const std::unique_ptr<CudaBackend> backend = MakeCudaBackend(run);
  CaseTensors tensors;
  for (const Array& array : arrays_) {
    const DType dtype = TypeOf(array);
    const std::vector<char> bytes = Encode(dtype, array.values);
    const int64_t offset = variant_.unaligned && array.type == ArrayType::kData ? SizeOf(dtype) : 0;
    char* data =
        static_cast<char*>(backend->Allocate(static_cast<int64_t>(bytes.size()) + offset, array.name)) +
        offset;
    if (array.in) backend->CopyIn(data, bytes.data(), static_cast<int64_t>(bytes.size()));
    tensors.tensors_.push_back(MakeTensor(data, dtype, array.shape));
  }
  call(backend->stream(), tensors);
  for (const std::string& damage : backend->Damage()) ADD_FAILURE() << damage;
  for (size_t i = 0; i < arrays_.size(); ++i) {
    Array& array = arrays_[i];
    std::vector<char> bytes(array.values.size() * SizeOf(TypeOf(array)));
    backend->CopyOut(bytes.data(), tensors.tensors_[i].data, static_cast<int64_t>(bytes.size()));
    if (!array.out) {
      EXPECT_TRUE(bytes == Encode(TypeOf(array), array.values))
          << "the input " << array.name << " was changed";
      continue;
    }
    Compare(array, bytes);
    if (run == 0) array.first_bytes = bytes;
    EXPECT_TRUE(bytes == array.first_bytes) << array.name << " depends on the order of threads, or on chance";
  }
}

void CudaCase::Run(const Call& call) {
  RunDefinition(call);
  for (int run = 0; run < NumCudaRuns() && !testing::Test::HasFailure(); ++run) {
    SCOPED_TRACE(CudaRunName(run));
    try {
      RunOnce(call, run);
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
      return;
    }
  }
}

void CudaTest::SetUp() {
  if (const std::string reason = WhyNoCuda(); !reason.empty()) GTEST_SKIP() << reason;
}

void CudaBlasTest::SetUp() {
  if (const std::string reason = WhyNoBlas(); !reason.empty()) GTEST_SKIP() << reason;
}

const std::vector<CaseVariant>& CaseVariants() {
  static const std::vector<CaseVariant> variants = {
      {DType::kF32, false}, {DType::kBF16, false}, {DType::kBF16, true}};
  return variants;
}

std::string NameOf(const CaseVariant& variant) {
  return std::string(NameOf(variant.dtype)) + (variant.unaligned ? ", not aligned to 16 bytes" : "");
}

}  // namespace unipool
