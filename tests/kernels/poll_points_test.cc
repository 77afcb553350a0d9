// Kernels that take long let the rank's transport move data in between (runtime/poll_point.h).
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/gemm.h"
#include "kernels/grouped_gemm.h"
#include "runtime/poll_point.h"
#include "tests/kernels/test_array.h"

namespace unipool {
namespace {

using Clock = std::chrono::steady_clock;

// The longest time without a poll point, as a share of the work's time; the least of some tries, since other
// programs also take time.
double LongestSilence(const std::function<void()>& work) {
  double least = 1;
  for (int attempt = 0; attempt < 7; ++attempt) {
    Clock::duration longest{};
    const auto begin = Clock::now();
    auto last = begin;
    const auto look = [&] {
      const auto now = Clock::now();
      longest = std::max(longest, now - last);
      last = now;
    };
    {
      const ThreadPoll poll(look, std::chrono::nanoseconds(0));
      work();
    }
    look();
    least =
        std::min(least, std::chrono::duration<double>(longest) / std::chrono::duration<double>(last - begin));
  }
  return least;
}

Array<float> Numbers(std::initializer_list<int64_t> shape) {
  std::mt19937_64 random(7);
  return RandomArray<float>(random, shape, -1, 1);
}

TEST(PollPoints, AreInProducts) {
  TestStream stream;
  const Array<float> a = Numbers({768, 512}), b = Numbers({768, 512});
  Array<float> c({768, 768}), d({512, 512});
  const auto product = [&](Trans ta, Trans tb, const Array<float>& out) {
    return LongestSilence([&] { Gemm(stream, ta, a.tensor(), tb, b.tensor(), 0, out.tensor()); });
  };
  EXPECT_LT(product(Trans::kNo, Trans::kYes, c), 0.2);
  EXPECT_LT(product(Trans::kYes, Trans::kNo, d), 0.2);
}

TEST(PollPoints, AreInProductsOfExperts) {
  TestStream stream;
  const Array<float> x = Numbers({256, 256}), w = Numbers({8, 512, 256});
  Array<float> y({256, 512});
  const std::vector<int64_t> offsets = {0, 10, 40, 80, 120, 150, 190, 230, 256};
  EXPECT_LT(LongestSilence([&] { GroupedGemmForward(stream, offsets, x.tensor(), w.tensor(), y.tensor()); }),
            0.4);
}

TEST(PollPoints, AreInAttention) {
  TestStream stream;
  const AttentionShape shape{
      .num_sequences = 2, .sequence_length = 256, .num_heads = 8, .num_kv_heads = 4, .head_size = 32};
  const Array<float> qkv = Numbers({shape.tokens(), shape.qkv_size()}),
                     dout = Numbers({shape.tokens(), shape.out_size()});
  Array<float> out({shape.tokens(), shape.out_size()}), lse({shape.tokens(), shape.num_heads});
  Array<float> dqkv({shape.tokens(), shape.qkv_size()});
  EXPECT_LT(
      LongestSilence([&] { AttentionForward(stream, shape, qkv.tensor(), out.tensor(), lse.tensor()); }),
      0.3);
  EXPECT_LT(LongestSilence([&] {
              AttentionBackward(stream, shape, qkv.tensor(), out.tensor(), lse.tensor(), dout.tensor(),
                                dqkv.tensor());
            }),
            0.3);
}

TEST(PollPoints, AreInCrossEntropy) {
  TestStream stream;
  const Array<float> logits = Numbers({64, 4096});
  const Array<int32_t> targets({64}, 5);
  Array<double> losses({64});
  EXPECT_LT(
      LongestSilence([&] { CrossEntropy(stream, logits.tensor(), targets.tensor(), 0, losses.tensor()); }),
      0.3);
}

}  // namespace
}  // namespace unipool
