// Which sgemm is fastest on expert products? Times OpenBLAS, BLIS, oneDNN (dnnl_sgemm, and the matmul
// primitive with weights packed beforehand) and this project's own kernels/gemm on one thread, on rows x D x
// 4D. W [4D, D] is row-major:
//
//   forward    y = x W^T
//   input      dx = dy W
//   weight     dW += dy^T x
//
//   warm       the same weight in every call
//   cold       64 weights in turn, so that every call fetches its own from memory
//
// Prints GFLOP/s, the best of several passes. Libraries that are not installed are skipped by name.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <dnnl.hpp>
#include <functional>
#include <string>
#include <vector>

#include "kernels/gemm.h"
#include "tools/bench/thread_time.h"

namespace {

enum Op { kForward, kInput, kWeight };
constexpr const char* kOpNames[] = {"forward", "input", "weight"};

// Row-major c [m, n] = op(a) op(b) + beta c.
using Sgemm = std::function<void(bool ta, bool tb, int m, int n, int k, const float* a, const float* b,
                                 float beta, float* c)>;

using CblasSgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float,
                            float*, int);

Sgemm LoadCblas(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  auto* sgemm = library ? reinterpret_cast<CblasSgemm>(dlsym(library, "cblas_sgemm")) : nullptr;
  if (!sgemm) {
    std::printf("# skipped: %s is not installed\n", path);
    return nullptr;
  }
  return
      [sgemm](bool ta, bool tb, int m, int n, int k, const float* a, const float* b, float beta, float* c) {
        sgemm(101, ta ? 112 : 111, tb ? 112 : 111, m, n, k, 1, a, ta ? m : k, b, tb ? k : n, beta, c, n);
      };
}

void OneDnn(bool ta, bool tb, int m, int n, int k, const float* a, const float* b, float beta, float* c) {
  dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, 1, a, ta ? m : k, b, tb ? k : n, beta, c, n);
}

double Now() {
  return unipool::ThreadSeconds();
}

// GFLOP/s of `call(i)`, i = 0, 1, ...: the best of passes over `count` calls, for at least `seconds` in all.
double Rate(double flops, int count, double seconds, const std::function<void(int)>& call) {
  for (int i = 0; i < count; ++i) call(i);
  double best = 1e30;
  const double begin = Now();
  do {
    const double start = Now();
    for (int i = 0; i < count; ++i) call(i);
    best = std::min(best, (Now() - start) / count);
  } while (Now() - begin < seconds);
  return flops / best * 1e-9;
}

// The matmul primitive with weights in the layout it prefers; one primitive per shape, made before the clock
// starts.
class PackedMatmul {
 public:
  PackedMatmul(int m, int n, int k, int num_weights) : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using Md = dnnl::memory::desc;
    using Tag = dnnl::memory::format_tag;
    const auto f32 = dnnl::memory::data_type::f32;
    source_ = Md({m, k}, f32, Tag::ab);
    result_ = Md({m, n}, f32, Tag::ab);
    dnnl::matmul::primitive_desc desc(dnnl::matmul::desc(source_, Md({k, n}, f32, Tag::any), result_),
                                      engine_);
    matmul_ = dnnl::matmul(desc);
    for (int i = 0; i < num_weights; ++i) weights_.emplace_back(desc.weights_desc(), engine_);
    for (auto& weight : weights_) {
      auto* data = static_cast<float*>(weight.get_data_handle());
      for (size_t j = 0; j < desc.weights_desc().get_size() / sizeof(float); ++j) data[j] = 0.01f;
    }
  }
  void Run(int weight, float* x, float* y) {
    dnnl::memory source(source_, engine_, x), result(result_, engine_, y);
    matmul_.execute(stream_,
                    {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weights_[weight]}, {DNNL_ARG_DST, result}});
    stream_.wait();
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::memory::desc source_, result_;
  dnnl::matmul matmul_;
  std::vector<dnnl::memory> weights_;
};

struct Arrays {
  std::vector<float> x, y, w;
};

void RunOp(const Sgemm& sgemm, Op op, int rows, int d, Arrays& arrays, int weight) {
  const int f = 4 * d;
  float* w = arrays.w.data() + static_cast<size_t>(weight) * d * f;
  if (op == kForward) sgemm(false, true, rows, f, d, arrays.x.data(), w, 0, arrays.y.data());
  if (op == kInput) sgemm(false, false, rows, d, f, arrays.y.data(), w, 0, arrays.x.data());
  if (op == kWeight) sgemm(true, false, f, d, rows, arrays.y.data(), arrays.x.data(), 1, w);
}

void MeasurePeaks(const std::vector<std::pair<std::string, Sgemm>>& libraries) {
  const int n = 2048;
  std::vector<float> a(n * n, 0.5f), b(n * n, 0.25f), c(n * n);
  for (const auto& [name, sgemm] : libraries) {
    std::printf("# sgemm %d^3 %-12s %6.1f GFLOP/s\n", n, name.c_str(),
                Rate(2.0 * n * n * n, 1, 1.0,
                     [&](int) { sgemm(false, false, n, n, n, a.data(), b.data(), 0, c.data()); }));
  }
  const size_t bytes = 256 << 20;
  std::vector<char> from(bytes, 1), to(bytes, 2);
  const double gb = Rate(2.0 * bytes, 1, 1.0,
                         [&](int i) { __builtin_memcpy(to.data() + (i & 1), from.data(), bytes - 1); });
  std::printf("# copy %.1f GB/s (read + written)\n", gb);
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 0.1;  // per cell
  const int num_weights = 64;
  std::vector<int> dims = {256, 768, 1024};
  if (argc > 2) dims = {std::atoi(argv[2])};
  std::vector<std::pair<std::string, Sgemm>> libraries;
  for (auto [name, path] : {std::pair{"openblas", "libopenblas.so.0"}, {"blis", "libblis.so.4"}}) {
    if (Sgemm sgemm = LoadCblas(path)) libraries.emplace_back(name, sgemm);
  }
  libraries.emplace_back("dnnl_sgemm", OneDnn);

  libraries.emplace_back(
      "own", [](bool ta, bool tb, int m, int n, int k, const float* a, const float* b, float beta, float* c) {
        using unipool::Trans;
        unipool::GemmStrided<float>(ta ? Trans::kYes : Trans::kNo, tb ? Trans::kYes : Trans::kNo, {m, n, k},
                                    1, a, ta ? m : k, b, tb ? k : n, beta, c, n);
      });

  MeasurePeaks(libraries);

  std::printf("%-8s %5s %5s", "op", "D", "rows");
  for (const auto& [name, sgemm] : libraries) std::printf(" %12s %6s", name.c_str(), "cold");
  std::printf(" %12s %6s\n", "dnnl packed", "cold");
  for (int d : dims) {
    Arrays arrays{std::vector<float>(512 * d, 0.01f), std::vector<float>(512 * 4 * d, 0.01f),
                  std::vector<float>(static_cast<size_t>(num_weights) * d * 4 * d, 0.01f)};
    for (Op op : {kForward, kInput, kWeight}) {
      for (int rows : {1, 4, 16, 32, 64, 128, 256, 512}) {
        const double flops = 2.0 * rows * d * 4 * d;
        std::printf("%-8s %5d %5d", kOpNames[op], d, rows);
        for (const auto& [name, sgemm] : libraries) {
          const double warm = Rate(flops, 4, seconds, [&](int) { RunOp(sgemm, op, rows, d, arrays, 0); });
          const double cold =
              Rate(flops, num_weights, seconds, [&](int i) { RunOp(sgemm, op, rows, d, arrays, i); });
          std::printf(" %12.1f %6.1f", warm, cold);
        }
        if (op != kWeight) {  // packed weights make no sense where the weight is the result
          const bool forward = op == kForward;
          PackedMatmul matmul(rows, forward ? 4 * d : d, forward ? d : 4 * d, num_weights);
          float* in = forward ? arrays.x.data() : arrays.y.data();
          float* out = forward ? arrays.y.data() : arrays.x.data();
          const double warm = Rate(flops, 4, seconds, [&](int) { matmul.Run(0, in, out); });
          const double cold = Rate(flops, num_weights, seconds, [&](int i) { matmul.Run(i, in, out); });
          std::printf(" %12.1f %6.1f", warm, cold);
        }
        std::printf("\n");
        std::fflush(stdout);
      }
    }
  }
}
