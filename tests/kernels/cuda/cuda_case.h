// One comparison of a CUDA kernel with its definition: the same call runs on the CPU in double, on inputs
// rounded to the dtype under test, and on the back end, several times in different orders. Outputs start as
// NaN, nothing outside arrays may change, inputs must stay as they were, all runs must give the same bits,
// and every output must lie within its own bound of the definition.
//
//   using CudaSwiglu = CudaTest;
//   TEST_F(CudaSwiglu, Forward) {
//     ForEachCase(RowShapes(), [](CudaCase& c, const RowShape& shape) {
//       const auto gate_up = c.In("gate_up", {shape.rows, 2 * shape.width}, -3, 3);
//       const auto activation = c.Out("activation", {shape.rows, shape.width}, {.relative = 1e-6});
//       c.Run([&](Stream& s, const CaseTensors& t) { SwigluForward(s, t[gate_up], t[activation]); });
//     });
//   }
//
// Names: cases that would keep compute-sanitizer busy for minutes end in "Large" and have a small one beside
// them; suites that make processes end in "DeathTest". tools/gpu/gpu_check.sh leaves both out under the
// sanitizer.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "runtime/stream.h"
#include "tests/kernels/cuda/cuda_shapes.h"

namespace unipool {

// |actual - expected| <= relative * |expected| + absolute, for what the kernel computes in F32; the rounding
// of a BF16 output is added.
struct Bound {
  double relative = 0, absolute = 0;
};

// The type of an array: that under test, its accumulator, or the same in all cases. The definition computes
// F32 and BF16 in F64.
enum class ArrayType { kData, kAccumulator, kBF16, kF32, kF64, kI32, kI64 };

// How a case is run: the dtype under test; whether data arrays begin one element behind a 16-byte boundary.
struct CaseVariant {
  DType dtype;
  bool unaligned;
};

class CaseTensors;

class CudaCase {
 public:
  struct Handle {
    int index;
  };
  using Shape = std::vector<int64_t>;
  using Call = std::function<void(Stream&, const CaseTensors&)>;

  CudaCase(const CaseVariant& variant, uint64_t seed) : variant_(variant), random_(seed) {}
  DType dtype() const { return variant_.dtype; }
  bool unaligned() const { return variant_.unaligned; }
  std::mt19937_64& random() { return random_; }

  // Inputs at random in [low, high), or given.
  Handle In(const char* name, const Shape& shape, double low, double high, ArrayType type = ArrayType::kData);
  Handle InValues(const char* name, const Shape& shape, std::vector<double> values, ArrayType type);
  // Outputs, NaN before the call. Integers must be equal.
  Handle Out(const char* name, const Shape& shape, Bound bound, ArrayType type = ArrayType::kData);
  // Both: added to, or overwritten in place.
  Handle InOut(const char* name, const Shape& shape, double low, double high, Bound bound,
               ArrayType type = ArrayType::kData);
  Handle InOutValues(const char* name, const Shape& shape, std::vector<double> values, Bound bound,
                     ArrayType type);

  // Runs `call` everywhere and compares; failures are gtest failures. May be called once.
  void Run(const Call& call);

 private:
  friend class CaseTensors;
  struct Array {
    std::string name;
    Shape shape;
    ArrayType type;
    bool in, out;
    Bound bound;
    std::vector<double> values;     // rounded to its type
    std::vector<double> expected;   // after the definition ran
    std::vector<char> first_bytes;  // after the first run
  };
  Handle Add(Array array);
  DType TypeOf(const Array& array) const;
  void RunDefinition(const Call& call);
  void RunOnce(const Call& call, int run);
  void Compare(const Array& array, const std::vector<char>& bytes) const;
  std::vector<double> Random(const Shape& shape, double low, double high);

  CaseVariant variant_;
  std::mt19937_64 random_;
  std::vector<Array> arrays_;
};

// The tensors of one run.
class CaseTensors {
 public:
  const Tensor& operator[](CudaCase::Handle handle) const { return tensors_[handle.index]; }

 private:
  friend class CudaCase;
  std::vector<Tensor> tensors_;
};

// Skips, by name and with the reason, where kernels cannot run.
class CudaTest : public testing::Test {
 protected:
  void SetUp() override;
};

// The same where cuBLAS cannot.
class CudaBlasTest : public testing::Test {
 protected:
  void SetUp() override;
};

const std::vector<CaseVariant>& CaseVariants();
std::string NameOf(const CaseVariant& variant);

// `body` for every shape in every variant. Shapes are printed by their operator<<.
template <class Shape, class Body>
void ForEachCase(const std::vector<Shape>& shapes, Body body) {
  ASSERT_FALSE(shapes.empty());
  uint64_t seed = 1;
  for (const Shape& shape : shapes) {
    for (const CaseVariant& variant : CaseVariants()) {
      SCOPED_TRACE(testing::Message() << shape << ", " << NameOf(variant));
      CudaCase c(variant, ++seed);
      body(c, shape);
      if (testing::Test::HasFailure()) return;
    }
  }
}

template <class Shape, class Body>
void ForEachCase(std::initializer_list<Shape> shapes, Body body) {
  ForEachCase(std::vector<Shape>(shapes), body);
}

}  // namespace unipool
