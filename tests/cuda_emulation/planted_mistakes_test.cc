// Kernels with one mistake each: the emulation and the harness must report every one of them.
#include <gtest/gtest-spi.h>

#include <functional>

#include "kernels/cuda/mma.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using cuda::Launch;
using cuda::LaunchShape;
using emulation::ThreadOrder;
constexpr ThreadOrder kOrders[] = {ThreadOrder::kAscending, ThreadOrder::kDescending, ThreadOrder::kRandom};

// The float arrays in and out [size], in[i] = i, and what one run of a kernel made of them.
struct Outcome {
  std::string error;   // of the kernel
  std::string damage;  // outside arrays
  std::vector<float> out;
};

template <class... P>
Outcome RunPlanted(ThreadOrder order, int64_t size, const LaunchShape& shape, void (*kernel)(P...)) {
  emulation::GuardedMemory memory;
  emulation::Machine machine(order, 5, memory);
  MemoryMeter meter;
  Stream stream(meter, CudaQueue{.stream = machine.stream(), .blas = nullptr, .memory = &memory});
  float* in = static_cast<float*>(memory.Allocate(size * sizeof(float), "in"));
  float* out = static_cast<float*>(memory.Allocate(size * sizeof(float), "out"));
  for (int64_t i = 0; i < size; ++i) in[i] = static_cast<float>(i);
  Outcome outcome;
  try {
    Launch("planted", kernel, shape, stream, in, out);
  } catch (const emulation::KernelError& error) {
    outcome.error = error.what();
  }
  for (const std::string& damage : memory.Damage()) outcome.damage += damage + "\n";
  outcome.out.assign(out, out + size);
  return outcome;
}

// Reported in every order of threads, with the kernel's name.
void ExpectError(const std::string& text, int64_t size, const LaunchShape& shape,
                 void (*kernel)(float*, float*)) {
  for (const ThreadOrder order : kOrders) {
    const Outcome outcome = RunPlanted(order, size, shape, kernel);
    EXPECT_NE(outcome.error.find(text), std::string::npos)
        << "expected " << text << ", got " << outcome.error;
    EXPECT_NE(outcome.error.find("kernel planted"), std::string::npos) << outcome.error;
  }
}

// No error, but results that depend on the order.
void ExpectOrderMatters(int64_t size, const LaunchShape& shape, void (*kernel)(float*, float*)) {
  const Outcome first = RunPlanted(ThreadOrder::kAscending, size, shape, kernel);
  const Outcome second = RunPlanted(ThreadOrder::kDescending, size, shape, kernel);
  EXPECT_EQ(first.error + second.error, "");
  EXPECT_NE(std::memcmp(first.out.data(), second.out.data(), size * sizeof(float)), 0);
}

constexpr LaunchShape OneBlock(int threads, int64_t shared_bytes = 0) {
  return {.grid = 1, .block = static_cast<unsigned>(threads), .shared_bytes = shared_bytes};
}

void Copy(float* in, float* out) {
  out[threadIdx.x] = in[threadIdx.x];
}
void Fill(float*, float* out) {
  out[threadIdx.x] = 1;
}
void Reverse(float* in, float* out) {
  UNIPOOL_SHARED(float, tile, [64]);
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[63 - threadIdx.x];
}

TEST(CudaEmulation, KernelsWithoutMistakesRun) {
  for (const ThreadOrder order : kOrders) {
    const Outcome outcome = RunPlanted(order, 64, OneBlock(64), &Reverse);
    EXPECT_EQ(outcome.error + outcome.damage, "");
    for (int i = 0; i < 64; ++i) EXPECT_EQ(outcome.out[i], 63 - i);
  }
}

TEST(CudaEmulation, ReadBehindTheEnd) {
  ExpectError("thread (3, 0, 0): reads 4 bytes behind the end of in (256 bytes)", 64, OneBlock(4),
              [](float* in, float* out) {
                if (threadIdx.x == 3) out[0] = in[65];
              });
}

TEST(CudaEmulation, WriteBehindTheEnd) {
  ExpectError("writes 0 bytes behind the end of out", 64, OneBlock(65), &Fill);
}

TEST(CudaEmulation, WriteWithinTheLastAlignment) {
  const Outcome outcome = RunPlanted(
      ThreadOrder::kAscending, 63, OneBlock(1), +[](float*, float* out) { out[63] = 1; });
  EXPECT_NE(outcome.damage.find("written 0 bytes behind the end of out (252 bytes)"), std::string::npos)
      << outcome.damage;
}

TEST(CudaEmulation, WriteBeforeTheBeginning) {
  const Outcome outcome = RunPlanted(
      ThreadOrder::kAscending, 64, OneBlock(1), +[](float*, float* out) { out[-2] = 1; });
  EXPECT_NE(outcome.damage.find("bytes before the beginning of out"), std::string::npos) << outcome.damage;
}

TEST(CudaEmulation, ReadBeforeTheBeginningIsNan) {
  const Outcome outcome = RunPlanted(
      ThreadOrder::kAscending, 64, OneBlock(1), +[](float* in, float* out) { out[0] = in[-1]; });
  EXPECT_TRUE(std::isnan(outcome.out[0]));
}

TEST(CudaEmulation, MisalignedAccess) {
  ExpectError("misaligned access", 64, OneBlock(1),
              [](float* in, float* out) { cuda::StorePack(out, cuda::LoadPack<4>(in + 1)); });
  ExpectError("misaligned access", 64, OneBlock(1), [](float* in, float* out) {
    *reinterpret_cast<float4*>(out + 2) = *reinterpret_cast<const float4*>(in);
  });
}

TEST(CudaEmulation, MissingBarrier) {
  ExpectOrderMatters(64, OneBlock(64), [](float* in, float* out) {
    UNIPOOL_SHARED(float, tile, [64]);
    tile[threadIdx.x] = in[threadIdx.x];
    out[threadIdx.x] = tile[63 - threadIdx.x];
  });
}

TEST(CudaEmulation, MissingBarrierBeforeReuse) {
  ExpectOrderMatters(128, OneBlock(64), [](float* in, float* out) {
    UNIPOOL_SHARED(float, tile, [64]);
    for (int part = 0; part < 2; ++part) {
      tile[threadIdx.x] = in[part * 64 + threadIdx.x];
      __syncthreads();
      out[part * 64 + threadIdx.x] = tile[63 - threadIdx.x];
    }
  });
}

TEST(CudaEmulation, OrderOfFloatingPointAtomics) {
  ExpectOrderMatters(64, OneBlock(64), [](float* in, float* out) {
    if (threadIdx.x == 0) out[0] = 0;
    __syncthreads();
    atomicAdd(out, 1.0f / (3.0f + in[threadIdx.x]));
  });
}

TEST(CudaEmulation, OrderOfBlocks) {
  ExpectOrderMatters(64, {.grid = 4, .block = 1},
                     [](float*, float* out) { out[0] = static_cast<float>(blockIdx.x); });
}

TEST(CudaEmulation, BarrierThatAPartReaches) {
  ExpectError("does not reach: it is at its end", 64, OneBlock(64), [](float* in, float* out) {
    if (threadIdx.x >= 40) return;
    __syncthreads();
    out[threadIdx.x] = in[threadIdx.x];
  });
}

TEST(CudaEmulation, TwoBarriersInTheBranches) {
  ExpectError("at the barrier of", 64, OneBlock(64), [](float* in, float* out) {
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      out[0] = in[0];
      __syncthreads();
    }
  });
}

TEST(CudaEmulation, ShuffleWithAMissingLane) {
  ExpectError("waits for lane", 64, OneBlock(64), [](float* in, float* out) {
    if (threadIdx.x == 37) return;
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, in[threadIdx.x], 1);
  });
}

TEST(CudaEmulation, WarpThatIsNotWhole) {
  ExpectError("no thread of the block", 64, OneBlock(40),
              [](float* in, float* out) { out[threadIdx.x] = cuda::WarpSum(in[threadIdx.x]); });
}

TEST(CudaEmulation, ShuffleFromALaneOutsideTheMask) {
  ExpectError("which its mask lacks", 64, OneBlock(32), [](float* in, float* out) {
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, in[threadIdx.x], 20);
  });
}

TEST(CudaEmulation, MaskWithoutTheOwnLane) {
  ExpectError("mask lacks the own lane", 64, OneBlock(32),
              [](float* in, float* out) { out[threadIdx.x] = __shfl_sync(0xffffu, in[threadIdx.x], 0); });
}

TEST(CudaEmulation, UninitialisedSharedMemoryIsNan) {
  for (int blocks : {1, 3}) {
    const Outcome outcome = RunPlanted(
        ThreadOrder::kAscending, 64,
        {.grid = static_cast<unsigned>(blocks), .block = 32, .shared_bytes = 400},
        +[](float* in, float* out) {
          UNIPOOL_SHARED(float, tile, [64]);
          float* dynamic = cuda::DynamicShared<float>();
          out[threadIdx.x] = tile[threadIdx.x];
          out[32 + threadIdx.x] = dynamic[threadIdx.x];
          tile[threadIdx.x] = dynamic[threadIdx.x] = in[threadIdx.x];
        });
    for (int i = 0; i < 64; ++i)
      EXPECT_TRUE(std::isnan(outcome.out[i])) << blocks << " blocks, element " << i;
  }
}

TEST(CudaEmulation, SharedMemoryOverrun) {
  ExpectError("outside the shared array tile", 64, OneBlock(32), [](float* in, float* out) {
    UNIPOOL_SHARED(float, tile, [32]);
    float* row = tile;
    row[threadIdx.x + 1] = in[threadIdx.x];
    out[threadIdx.x] = row[0];
  });
  ExpectError("index", 64, OneBlock(32), [](float* in, float* out) {
    UNIPOOL_SHARED(float, tile, [2][16]);
    tile[0][threadIdx.x] = in[threadIdx.x];
    out[threadIdx.x] = tile[0][0];
  });
  ExpectError("behind the end of dynamic shared memory", 64, OneBlock(33, 32 * sizeof(float)),
              [](float* in, float* out) { cuda::DynamicShared<float>()[threadIdx.x] = out[0] = in[0]; });
}

// An asynchronous copy that nobody waits for has not happened.
TEST(CudaEmulation, CopyWithoutWaiting) {
  const Outcome outcome = RunPlanted(
      ThreadOrder::kAscending, 64, OneBlock(16), +[](float* in, float* out) {
        UNIPOOL_SHARED(float4, tile, [2][16]);
        for (int part = 0; part < 2; ++part) {
          cuda::CopyAsync16(&tile[part][threadIdx.x], in + 4 * threadIdx.x, part == 0 || threadIdx.x < 8);
          cuda::CommitCopies();
        }
        cuda::WaitCopies<1>();
        out[threadIdx.x] = tile[0][threadIdx.x].y;
        out[16 + threadIdx.x] = tile[1][threadIdx.x].y;
        cuda::WaitCopies<0>();
        out[32 + threadIdx.x] = tile[1][threadIdx.x].y;
      });
  EXPECT_EQ(outcome.error + outcome.damage, "");
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(outcome.out[i], 4 * i + 1);
    EXPECT_TRUE(std::isnan(outcome.out[16 + i]));
    EXPECT_EQ(outcome.out[32 + i], i < 8 ? 4 * i + 1 : 0);
  }
}

TEST(CudaEmulation, LimitsOfTheDevice) {
  ExpectError("2048 threads", 64, OneBlock(2048), &Copy);
  ExpectError("dynamic shared memory", 64, OneBlock(1, 200 << 10), &Copy);
  ExpectError("a block of 0 threads", 64, OneBlock(0), &Copy);
  ExpectError("a block of 128 threads", 64, {.grid = 1, .block = dim3(1, 1, 128)}, &Copy);
  ExpectError("the grid is too large", 64, {.grid = dim3(1, 65536), .block = 1}, &Copy);
}

UNIPOOL_KERNEL((48, 2), Bounded, float* in, float* out) {
  out[threadIdx.x] = in[threadIdx.x];
}

// A driver refuses blocks larger than what the kernel was compiled for.
TEST(CudaEmulation, LaunchBounds) {
  EXPECT_EQ(RunPlanted(ThreadOrder::kAscending, 64, OneBlock(48), &Bounded).error, "");
  for (const LaunchShape& shape : {OneBlock(49), LaunchShape{.grid = 1, .block = dim3(7, 7)}}) {
    EXPECT_EQ(RunPlanted(ThreadOrder::kAscending, 64, shape, &Bounded).error,
              "kernel planted: a block of 49 threads, and at most 48 by its launch bounds");
  }
}

template <int kFloats>
struct Block {
  float values[kFloats];
};
template <int kFloats>
UNIPOOL_KERNEL((1), TakesBlock, float* in, char sign, Block<kFloats> block) {
  in[0] = sign == '-' ? -block.values[kFloats - 1] : block.values[kFloats - 1];
}

// 4096 bytes with the gap in front of the block, and 4 more.
TEST(CudaEmulation, BytesOfArguments) {
  emulation::GuardedMemory memory;
  emulation::Machine machine(ThreadOrder::kAscending, 5, memory);
  MemoryMeter meter;
  Stream stream(meter, CudaQueue{.stream = machine.stream(), .blas = nullptr, .memory = &memory});
  float* in = static_cast<float*>(memory.Allocate(sizeof(float), "in"));
  Block<1021> block = {};
  block.values[1020] = 5;
  Launch("planted", &TakesBlock<1021>, OneBlock(1), stream, in, '-', block);
  EXPECT_EQ(in[0], -5);
  try {
    Launch("planted", &TakesBlock<1022>, OneBlock(1), stream, in, '-', Block<1022>{});
    FAIL() << "the launch was taken";
  } catch (const emulation::KernelError& error) {
    EXPECT_STREQ(error.what(), "kernel planted: 4100 bytes of arguments, and at most 4096");
  }
}

void HasStaticMemory(float* in, float* out) {
  UNIPOOL_SHARED(float, tile, [5000]);
  tile[0] = in[0];
  out[0] = tile[0];
}

// A driver gives a block 48 KiB of both together unless the launch asks for more.
TEST(CudaEmulation, StaticAndDynamicSharedMemoryTogether) {
  EXPECT_EQ(RunPlanted(ThreadOrder::kAscending, 64, OneBlock(1, 28 << 10), &HasStaticMemory).error, "");
  ExpectError("20000 bytes of static and 32768 of dynamic shared memory, and at most 49152 together", 64,
              OneBlock(1, 32 << 10), &HasStaticMemory);
  EXPECT_EQ(RunPlanted(ThreadOrder::kAscending, 64, OneBlock(1, 100 << 10), &HasStaticMemory).error, "");
  ExpectError("at most 166912 together", 64, OneBlock(1, 150 << 10), &HasStaticMemory);
}

// What the harness says about a case, instead of failing.
std::string Failures(const std::function<void(CudaCase&)>& body) {
  testing::TestPartResultArray results;
  {
    testing::ScopedFakeTestPartResultReporter reporter(
        testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &results);
    CudaCase c({DType::kF32, false}, 1);
    body(c);
  }
  std::string text;
  for (int i = 0; i < results.size(); ++i) text += std::string(results.GetTestPartResult(i).message()) + "\n";
  return text;
}

void ExpectCaseFails(const std::string& text, void (*kernel)(float*, float*), int threads = 8) {
  const std::string failures = Failures([&](CudaCase& c) {
    const auto in = c.In("in", {8}, 1, 2), out = c.Out("out", {8}, {.relative = 1e-6});
    c.Run([&](Stream& stream, const CaseTensors& t) {
      if (stream.device() == Device::kCpu) return void(std::memcpy(t[out].data, t[in].data, t[in].bytes()));
      Launch("planted", kernel, OneBlock(threads), stream, t[in].as<float>(), t[out].as<float>());
    });
  });
  if (text.empty()) {
    EXPECT_EQ(failures, "");
  } else {
    EXPECT_NE(failures.find(text), std::string::npos) << "expected " << text << ", got " << failures;
  }
}

TEST(CudaCaseHarness, SeesMistakes) {
  ExpectCaseFails("", &Copy);
  ExpectCaseFails("element 7 of out is", &Copy, 7);
  ExpectCaseFails("reads 0 bytes behind the end of in", &Copy, 9);
  ExpectCaseFails("element 0 of out is",
                  [](float* in, float* out) { out[threadIdx.x] = in[threadIdx.x] * 1.00001f; });
  ExpectCaseFails("the input in was changed", [](float* in, float* out) {
    out[threadIdx.x] = in[threadIdx.x];
    if (threadIdx.x == 3) in[3] = 0;
  });
  ExpectCaseFails("before the beginning of out", [](float* in, float* out) {
    out[threadIdx.x] = in[threadIdx.x];
    if (threadIdx.x == 3) out[-1] = 0;
  });
  ExpectCaseFails("depends on the order", [](float* in, float* out) {
    UNIPOOL_SHARED(int, first, [1]);
    first[0] = static_cast<int>(threadIdx.x);
    out[threadIdx.x] = in[threadIdx.x] * (1.0f + 1e-7f * static_cast<float>(first[0] == 0));
    __syncthreads();
    if (threadIdx.x == 0) out[0] = in[0] * (first[0] == 0 ? 1.0f : 1.0000002f);
  });
}

}  // namespace
}  // namespace unipool
