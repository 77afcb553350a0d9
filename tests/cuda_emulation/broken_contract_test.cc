// Kernels that take indices from memory end the job when an index names nothing, instead of reading there.
#include <gtest/gtest.h>

#include "kernels/cuda/launchers.h"
#include "tests/cuda_emulation/machine.h"

namespace unipool {
namespace {

class BrokenContract : public testing::Test {
 protected:
  Tensor Zeros(DType dtype, std::initializer_list<int64_t> shape) {
    Tensor tensor(nullptr, dtype, shape);
    tensor.data = memory_.Allocate(tensor.bytes(), "array");
    std::memset(tensor.data, 0, tensor.bytes());
    return tensor;
  }
  // An I32 tensor of three zeros and `last`.
  Tensor Indices(std::initializer_list<int64_t> shape, int32_t last) {
    const Tensor tensor = Zeros(DType::kI32, shape);
    tensor.as<int32_t>()[3] = last;
    return tensor;
  }
  template <class Kernel>
  void ExpectRefusal(const std::string& contract, Kernel kernel) {
    try {
      kernel();
      ADD_FAILURE() << "nothing reported that " << contract;
    } catch (const emulation::KernelError& error) {
      EXPECT_NE(std::string(error.what()).find("breaks the contract: " + contract), std::string::npos)
          << error.what();
    }
  }

  emulation::GuardedMemory memory_;
  emulation::Machine machine_{emulation::ThreadOrder::kAscending, 1, memory_};
  MemoryMeter meter_;
  Stream stream_{meter_, CudaQueue{.stream = machine_.stream(), .blas = nullptr, .memory = &memory_}};
};

TEST_F(BrokenContract, Rows) {
  const Tensor rows = Zeros(DType::kF32, {4, 8}), other = Zeros(DType::kF32, {4, 8});
  const Tensor weights = Zeros(DType::kF32, {4, 1});
  for (const int32_t index : {-1, 4}) {
    const Tensor indices = Indices({4}, index);
    ExpectRefusal("an index names a row", [&] { cuda::GatherRows(stream_, rows, indices, other); });
  }
  for (const int32_t index : {-2, 4}) {
    const Tensor row_of = Indices({4, 1}, index);
    ExpectRefusal("row_of names a row or is -1",
                  [&] { cuda::Unpermute(stream_, rows, row_of, weights, other, other); });
    ExpectRefusal("row_of names a row or is -1",
                  [&] { cuda::UnpermuteBackward(stream_, other, rows, row_of, weights, rows, weights); });
  }
}

TEST_F(BrokenContract, RouterChoices) {
  const Tensor logits = Zeros(DType::kF32, {2, 8}), dlogits = Zeros(DType::kF32, {2, 8});
  const Tensor visible = Zeros(DType::kF32, {8}), dchosen = Zeros(DType::kF32, {2, 2});
  for (const int32_t index : {-1, 8}) {
    ExpectRefusal("experts of RouterScoresBackward are in [0, M)", [&] {
      cuda::RouterScoresBackward(stream_, {.kind = RouterKind::kSigmoid}, logits, Tensor{}, visible, logits,
                                 {.experts = Indices({2, 2}, index),
                                  .dchosen = dchosen,
                                  .aux = visible,
                                  .dlogits = dlogits,
                                  .dsigma = Tensor{},
                                  .importance = Tensor{}});
    });
  }
}

TEST_F(BrokenContract, VisibleExperts) {
  const Tensor x = Zeros(DType::kF32, {2, 8}), weight = Zeros(DType::kF32, {8, 8});
  const Tensor visible = Zeros(DType::kF32, {8});
  visible.as<float>()[5] = 1;
  ExpectRefusal("K experts are visible", [&] {
    cuda::RouterForward(stream_, {.kind = RouterKind::kSigmoid},
                        {.x = x, .weight = weight, .visible = visible},
                        {.logits = Zeros(DType::kF32, {2, 8}),
                         .scores = Zeros(DType::kF32, {2, 8}),
                         .score_sum = Zeros(DType::kF64, {8}),
                         .experts = Zeros(DType::kI32, {2, 2}),
                         .weights = Zeros(DType::kF32, {2, 2}),
                         .counts = Zeros(DType::kI64, {8}),
                         .num_off = Zeros(DType::kI64, {1})});
  });
}

TEST_F(BrokenContract, Vocabulary) {
  const Tensor table = Zeros(DType::kF32, {6, 8}), out = Zeros(DType::kF32, {4, 8});
  const Tensor logits = Zeros(DType::kF32, {4, 6}), losses = Zeros(DType::kF64, {4});
  for (const int32_t id : {-1, 6}) {
    const Tensor ids = Indices({4}, id);
    ExpectRefusal("tokens are in the vocabulary", [&] { cuda::EmbeddingBackward(stream_, ids, out, table); });
    ExpectRefusal("targets are in the vocabulary",
                  [&] { cuda::CrossEntropy(stream_, logits, ids, 1, losses); });
  }
}

}  // namespace
}  // namespace unipool
