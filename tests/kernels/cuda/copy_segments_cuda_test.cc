#include <algorithm>
#include <random>

#include "kernels/copy_segments.h"
#include "tests/kernels/cuda/cuda_bits.h"
#include "tests/kernels/cuda/cuda_case.h"

namespace unipool {
namespace {

using CudaCopySegments = CudaTest;

struct Place {
  int64_t from, to, bytes;
};

// Segments of these sizes, somewhere in their arrays, in another order in one than in the other, and at
// multiples of `alignment` bytes.
std::vector<Place> Places(std::mt19937_64& random, const std::vector<int64_t>& sizes, int64_t alignment) {
  std::vector<Place> places;
  for (const int64_t bytes : sizes) places.push_back({0, 0, bytes});
  for (int64_t Place::*side : {&Place::from, &Place::to}) {
    std::shuffle(places.begin(), places.end(), random);
    int64_t at = static_cast<int64_t>(random() % 3) * alignment;
    for (Place& place : places) {
      place.*side = at;
      at += (place.bytes + alignment - 1) / alignment * alignment +
            static_cast<int64_t>(random() % 2) * alignment;
    }
  }
  return places;
}

void CopyAndCompare(const std::vector<int64_t>& sizes, int64_t alignment, int64_t offset = 0) {
  SCOPED_TRACE(testing::Message() << sizes.size() << " segments at multiples of " << alignment << " + "
                                  << offset);
  std::mt19937_64 random(sizes.size() + alignment);
  const std::vector<Place> places = Places(random, sizes, alignment);
  int64_t size = 40;
  for (const Place& place : places) size = std::max(size, std::max(place.from, place.to) + place.bytes + 40);
  std::vector<uint8_t> from(size), to(size);
  for (uint8_t& byte : from) byte = static_cast<uint8_t>(random());
  for (uint8_t& byte : to) byte = static_cast<uint8_t>(random());
  std::vector<uint8_t> expected = to;
  for (const Place& place : places)
    for (int64_t i = 0; i < place.bytes; ++i) expected[place.to + i] = from[place.from + i];
  ForEachCudaRun([&](CudaRun& run) {
    uint8_t *source = run.Put(from, "from", offset), *target = run.Put(to, "to", 0);
    std::vector<Segment> segments;
    for (const Place& place : places)
      segments.push_back({source + place.from, target + place.to, place.bytes});
    CopySegments(run.stream(), segments);
    segments.assign(segments.size(), {});  // gone before a device has run anything
    EXPECT_EQ(run.Get(target, size), expected);
  });
}

// Sizes around the width of an access and around a block's tile, which is 32 KiB.
TEST_F(CudaCopySegments, EverySizeAndAlignment) {
  const std::vector<int64_t> sizes = {0, 1, 15, 16, 17, 33, 4095, 4096, 32767, 32768, 32769, 70001};
  for (const int64_t alignment : {1, 2, 4, 8, 16}) CopyAndCompare(sizes, alignment);
  for (const int64_t offset : {1, 2, 4, 8}) CopyAndCompare(sizes, 16, offset);
}

// One launch takes 144.
TEST_F(CudaCopySegments, MoreThanALaunchTakes) {
  for (const int64_t count : {0, 143, 144, 145, 400}) {
    std::vector<int64_t> sizes(count);
    for (int64_t i = 0; i < count; ++i) sizes[i] = i % 7 * 31;
    CopyAndCompare(sizes, 1);
  }
}

}  // namespace
}  // namespace unipool
