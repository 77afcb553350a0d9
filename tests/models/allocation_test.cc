// After two steps a training step takes no memory: every way to get some from the C library is counted, and
// every mapping. (Buffers reserve address space once and touch it as they need it, without a call.)
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "tests/models/layouts.h"

namespace {
struct Counts {
  int64_t heap = 0, mappings = 0;
  bool operator==(const Counts&) const = default;
};
thread_local Counts counts;  // of this thread
}  // namespace

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kCanCount = false;  // sanitizers have their own allocation functions
#else
constexpr bool kCanCount = true;

// The C library's functions under these names; operator new calls malloc.
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* data, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);

void* malloc(size_t bytes) {
  ++counts.heap;
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  ++counts.heap;
  return __libc_calloc(count, bytes);
}
void* realloc(void* data, size_t bytes) {
  ++counts.heap;
  return __libc_realloc(data, bytes);
}
void* memalign(size_t alignment, size_t bytes) {
  ++counts.heap;
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  ++counts.heap;
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** data, size_t alignment, size_t bytes) {
  ++counts.heap;
  *data = __libc_memalign(alignment, bytes);
  return *data ? 0 : ENOMEM;
}
void* mmap(void* address, size_t bytes, int protection, int flags, int file, off_t offset) {
  ++counts.mappings;
  using Function = void* (*)(void*, size_t, int, int, int, off_t);
  static const auto next = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "mmap"));
  return next(address, bytes, protection, flags, file, offset);
}
}  // extern "C"
#endif

namespace unipool {
namespace {

// What `work` takes on this thread.
template <class Work>
Counts CountsOf(Work work) {
  const Counts before = counts;
  work();
  return {counts.heap - before.heap, counts.mappings - before.mappings};
}

void* volatile sink;  // so that the compiler cannot leave an allocation out

TEST(AllocationCounter, SeesEveryWay) {
  if (!kCanCount) GTEST_SKIP() << "a sanitizer counts allocations itself";
  EXPECT_EQ(CountsOf([] {}), Counts{});
  auto frees = [](auto allocate) {
    return CountsOf([&] {
      void* data = allocate();
      sink = data;
      std::free(data);
    });
  };
  const Counts one{.heap = 1};
  EXPECT_EQ(frees([] { return std::malloc(10); }), one);
  EXPECT_EQ(frees([] { return std::calloc(10, 10); }), one);
  EXPECT_EQ(frees([] { return std::realloc(nullptr, 10); }), one);
  EXPECT_EQ(frees([] { return std::aligned_alloc(64, 128); }), one);
  EXPECT_EQ(frees([] {
              void* data = nullptr;
              EXPECT_EQ(posix_memalign(&data, 64, 128), 0);
              return data;
            }),
            one);
  EXPECT_EQ(CountsOf([] {
              std::vector<int> values(100);
              sink = values.data();
            }),
            one);
  EXPECT_EQ(CountsOf([] { std::make_shared<std::string>(100, 'x'); }).heap, 2);
  MemoryMeter memory;
  EXPECT_GE(CountsOf([&] { Buffer::Reserve(memory, MemoryKind::kScratch, 1 << 20); }).mappings, 1);
  EXPECT_NE(CountsOf([&] { Buffer::Allocate(memory, MemoryKind::kScratch, 1 << 24); }), Counts{});
}

// What steps 2.. of a rank take, with samples that change; `planted` allocates in the midst of it.
Counts SteadyCounts(const Config& config, World& world, bool planted) {
  TrainingEngine engine(config, world);
  std::vector<int32_t> tokens;
  tokens.reserve(1 << 16);
  Counts total;
  for (int64_t step = 0; step < 8; ++step) {
    const Tensor samples = SamplesOf(engine, config, 7, step, tokens);
    const Counts taken = CountsOf([&] {
      engine.TrainStep(step, config.train().lr(), samples);
      engine.ReplaceExpertsIfDue(step + 1);
      if (planted) sink = std::make_unique<int>(3).get();
    });
    if (step < 2) continue;
    total.heap += taken.heap;
    total.mappings += taken.mappings;
  }
  return total;
}

void CheckWorld(int ranks, const Layout& layout,
                ParallelConfig::Placement placement = ParallelConfig::CONTIGUOUS) {
  if (!kCanCount) GTEST_SKIP() << "a sanitizer counts allocations itself";
  std::vector<SmallModel> models = PresetKinds();
  models.push_back({.scope = BalanceScope::MICROBATCH, .experts = 7, .top_k = 2});
  models.push_back({.scope = BalanceScope::RANK, .experts = 7});
  for (const SmallModel& small : models) {
    if (!layout.layers.empty() &&
        std::accumulate(layout.layers.begin(), layout.layers.end(), 0) != small.layers)
      continue;
    SCOPED_TRACE(NameOf(small) + ", " + NameOf(layout));
    Config config = Laid(TrainingConfigOf(small), layout);
    config.mutable_parallel()->set_placement(placement);
    config.mutable_parallel()->set_replace_every(100);  // beyond the last step
    for (bool planted : {false, true}) {
      std::vector<Counts> taken(ranks);
      ASSERT_EQ(RunWorld({.num_threads = ranks},
                         [&](World& world) { taken[world.rank()] = SteadyCounts(config, world, planted); }),
                0);
      for (int rank = 0; rank < ranks; ++rank) {
        EXPECT_EQ(taken[rank].heap, planted ? 6 : 0) << "rank " << rank;
        EXPECT_EQ(taken[rank].mappings, 0) << "rank " << rank;
      }
    }
  }
}

TEST(Allocation, NoneInASteadyStepOfOneRank) {
  CheckWorld(1, {});
}
TEST(Allocation, NoneInASteadyStepOfTwoRanks) {
  CheckWorld(2, {});
}
TEST(Allocation, NoneInASteadyStepOfTwoStages) {
  CheckWorld(2, {.stages = 2});
}
TEST(Allocation, NoneInASteadyStepOfUnevenStages) {
  CheckWorld(2, {.stages = 2, .layers = {4, 1}});
}
TEST(Allocation, NoneInASteadyStepWithExpertsOfStages) {
  CheckWorld(2, {.stages = 2, .experts = ParallelConfig::PER_STAGE});
}
TEST(Allocation, NoneInASteadyStepWithPlacedExperts) {
  CheckWorld(2, {}, ParallelConfig::SLOT_AWARE);
}

}  // namespace
}  // namespace unipool
