#include "tools/bench/cuda_timing.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <numeric>

#include "kernels/gemm.h"

namespace unipool {
namespace {

constexpr double kSecondsPerRow = 0.2;
constexpr int kFewestCalls = 5;
// Random numbers repeat after so many elements, which no kernel can profit from.
constexpr int64_t kBlockElements = (4 << 20) + 1001;

void Check(cudaError_t error) {
  CHECK(error == cudaSuccess) << cudaGetErrorString(error);
}

uint16_t ToBf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// `make()` n times, as `T`.
template <class T, class Make>
std::vector<char> Block(int64_t n, Make make) {
  std::vector<char> bytes(n * sizeof(T));
  for (int64_t i = 0; i < n; ++i) {
    const T value = make();
    std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
  }
  return bytes;
}

}  // namespace

std::string WhyNoGpu() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return count > 0 ? "" : "no device";
}

CudaBench::CudaBench(std::string filter)
    : filter_(std::move(filter)), stream_([this] {
        Check(cudaStreamCreate(&queue_));
        Check(cudaEventCreate(&begin_));
        Check(cudaEventCreate(&end_));
        try {
          blas_ = std::make_unique<cuda::Blas>(queue_);
        } catch (const UserError& error) {
          why_no_blas_ = error.what();
        }
        return Stream(meter_, CudaQueue{.stream = queue_, .blas = blas_.get(), .memory = this});
      }()) {
  cudaDeviceProp properties;
  int driver = 0;
  Check(cudaGetDeviceProperties(&properties, 0));
  Check(cudaDriverGetVersion(&driver));
  copy_bytes_per_second_ = CopyBytesPerSecond();
  if (has_blas()) gemm_flops_per_second_ = GemmFlopsPerSecond();
  std::printf("%s, sm_%d%d, L2 %d MiB, driver for CUDA %d.%d\n", properties.name, properties.major,
              properties.minor, properties.l2CacheSize >> 20, driver / 1000, driver % 1000 / 10);
  std::printf("copy (read + write) %.0f GB/s\n", copy_bytes_per_second_ * 1e-9);
  if (has_blas()) {
    std::printf("dense bf16 product 8192^3 %.0f TFLOP/s, cuBLAS %s\n\n", gemm_flops_per_second_ * 1e-12,
                blas_->Version().c_str());
  } else {
    std::printf("dense product: not measured, no cuBLAS (%s)\n\n", why_no_blas_.c_str());
  }
  std::printf("| %-44s | %10s | %8s | %7s | %8s | %7s |\n", "kernel", "us", "GB/s", "of copy", "TFLOP/s",
              "of gemm");
  std::printf("|---|---|---|---|---|---|\n");
}

CudaBench::~CudaBench() {
  Clear();
  stream_ = Stream(meter_);  // gives its scratch memory back
  blas_.reset();
  cudaEventDestroy(begin_);
  cudaEventDestroy(end_);
  cudaStreamDestroy(queue_);
}

void* CudaBench::Allocate(int64_t bytes) {
  void* data = nullptr;
  Check(cudaMalloc(&data, bytes));
  return data;
}

void CudaBench::Free(void* data) {
  Check(cudaStreamSynchronize(queue_));
  Check(cudaFree(data));
}

void CudaBench::Zero(void* data, int64_t bytes) {
  Check(cudaMemset(data, 0, bytes));
  Check(cudaDeviceSynchronize());
}

void CudaBench::Clear() {
  for (void* array : arrays_) Free(array);
  arrays_.clear();
}

Tensor CudaBench::New(DType dtype, std::initializer_list<int64_t> shape) {
  Tensor tensor(nullptr, dtype, shape);
  tensor.data = Allocate(tensor.bytes());
  arrays_.push_back(tensor.data);
  return tensor;
}

void CudaBench::FillWith(const Tensor& tensor, const std::vector<char>& block) {
  char* data = static_cast<char*>(tensor.data);
  const int64_t all = tensor.bytes();
  int64_t filled = std::min(static_cast<int64_t>(block.size()), all);
  Check(cudaMemcpy(data, block.data(), filled, cudaMemcpyHostToDevice));
  while (filled < all) {
    const int64_t bytes = std::min(filled, all - filled);
    Check(cudaMemcpy(data + filled, data, bytes, cudaMemcpyDeviceToDevice));
    filled += bytes;
  }
}

Tensor CudaBench::RandomIn(DType dtype, std::initializer_list<int64_t> shape, float low, float high) {
  const Tensor tensor = New(dtype, shape);
  const int64_t n = std::min(tensor.size(), kBlockElements);
  std::uniform_real_distribution<float> uniform(low, high);
  const auto number = [&] { return uniform(random_); };
  switch (dtype) {
    case DType::kF32:
      FillWith(tensor, Block<float>(n, number));
      break;
    case DType::kF64:
      FillWith(tensor, Block<double>(n, number));
      break;
    case DType::kBF16:
      FillWith(tensor, Block<uint16_t>(n, [&] { return ToBf16(number()); }));
      break;
    default:
      LOG(FATAL) << "no random " << NameOf(dtype);
  }
  return tensor;
}

Tensor CudaBench::Random(DType dtype, std::initializer_list<int64_t> shape) {
  return RandomIn(dtype, shape, -1, 1);
}

Tensor CudaBench::RandomPositive(DType dtype, std::initializer_list<int64_t> shape) {
  return RandomIn(dtype, shape, 0, 1);
}

Tensor CudaBench::RandomBelow(int64_t limit, std::initializer_list<int64_t> shape) {
  const Tensor tensor = New(DType::kI32, shape);
  std::uniform_int_distribution<int32_t> uniform(0, static_cast<int32_t>(limit - 1));
  FillWith(tensor, Block<int32_t>(tensor.size(), [&] { return uniform(random_); }));
  return tensor;
}

Tensor CudaBench::RandomOrder(std::initializer_list<int64_t> shape) {
  std::vector<int32_t> order(Tensor(nullptr, DType::kI32, shape).size());
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random_);
  return Given(DType::kI32, shape, order.data());
}

Tensor CudaBench::Given(DType dtype, std::initializer_list<int64_t> shape, const void* host) {
  const Tensor tensor = New(dtype, shape);
  Check(cudaMemcpy(tensor.data, host, tensor.bytes(), cudaMemcpyHostToDevice));
  return tensor;
}

double CudaBench::MedianSeconds(const std::function<void()>& work) {
  work();
  work();
  std::vector<float> milliseconds;
  double total = 0;
  while (total < kSecondsPerRow || milliseconds.size() < kFewestCalls) {
    Check(cudaEventRecord(begin_, queue_));
    work();
    Check(cudaEventRecord(end_, queue_));
    Check(cudaEventSynchronize(end_));
    Check(cudaEventElapsedTime(&milliseconds.emplace_back(), begin_, end_));
    total += milliseconds.back() * 1e-3;
  }
  const auto middle = milliseconds.begin() + static_cast<int64_t>(milliseconds.size() / 2);
  std::nth_element(milliseconds.begin(), middle, milliseconds.end());
  return *middle * 1e-3;
}

double CudaBench::CopyBytesPerSecond() {
  constexpr int64_t kBytes = int64_t{1} << 30;
  const Tensor from = Random(DType::kF32, {kBytes / 4}), to = New(DType::kF32, {kBytes / 4});
  const double seconds = MedianSeconds(
      [&] { Check(cudaMemcpyAsync(to.data, from.data, kBytes, cudaMemcpyDeviceToDevice, queue_)); });
  Clear();
  return 2.0 * kBytes / seconds;
}

double CudaBench::GemmFlopsPerSecond() {
  constexpr int kSize = 8192;
  const Tensor a = Random(DType::kBF16, {kSize, kSize}), b = Random(DType::kBF16, {kSize, kSize});
  const Tensor c = New(DType::kBF16, {kSize, kSize});
  const double seconds = MedianSeconds([&] { Gemm(stream_, Trans::kNo, a, Trans::kYes, b, 0, c); });
  Clear();
  return 2.0 * kSize * kSize * kSize / seconds;
}

double CudaBench::Run(const std::string& name, const std::function<void()>& kernel) {
  if (name.find(filter_) == std::string::npos) return 0;
  Profile profile;
  stream_.set_profile(&profile);
  kernel();
  stream_.set_profile(nullptr);
  const OpCost cost = profile.Total();
  const double seconds = MedianSeconds(kernel);
  const double bytes = cost.bytes / seconds, flops = cost.flops / seconds;
  const std::string of_gemm = has_blas() ? Format("%.1f%%", 100 * flops / gemm_flops_per_second_) : "-";
  std::printf("| %-44s | %10.1f | %8.0f | %6.1f%% | %8.1f | %7s |\n", name.c_str(), seconds * 1e6,
              bytes * 1e-9, 100 * bytes / copy_bytes_per_second_, flops * 1e-12, of_gemm.c_str());
  std::fflush(stdout);
  return seconds;
}

}  // namespace unipool
