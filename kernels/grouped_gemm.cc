#include "kernels/grouped_gemm.h"

#include <algorithm>
#include <array>

#include "kernels/cpu/bf16_product.h"
#include "kernels/cpu/gemm_blocked.h"
#include "kernels/cpu/gemm_ranges.h"
#include "kernels/cuda/launchers.h"

namespace unipool {
namespace {

// Results beyond this do not stay in the caches until they are read again.
constexpr int64_t kStreamedBytes = 32 << 20;
// Of rows, which are written in columns: lines far apart, each of which would be read before it is written.
constexpr int64_t kStreamedRowBytes = 8 << 20;

struct Groups {
  int64_t count, outer, inner;  // E, O, I
  int64_t num_nonempty = 0;
};

void CheckAligned(const Groups& groups, std::initializer_list<const Tensor*> tensors) {
  CHECK(groups.outer % 8 == 0 && groups.inner % 8 == 0)
      << "experts of BF16 need multiples of 8, found " << groups.outer << " x " << groups.inner;
  for (const Tensor* tensor : tensors) {
    CHECK_EQ(reinterpret_cast<uintptr_t>(tensor->data) % 16, 0u) << tensor->ShapeString();
  }
}

Groups ShapeOf(const Tensor& rows_o, const Tensor& rows_i, const Tensor& w) {
  CHECK_EQ(w.num_dims, 3);
  CHECK(rows_o.num_dims == 2 && rows_i.num_dims == 2);
  Groups groups{w.dim(0), w.dim(1), w.dim(2)};
  CHECK(rows_o.dim(1) == groups.outer && rows_i.dim(1) == groups.inner && rows_o.dim(0) == rows_i.dim(0))
      << rows_o.ShapeString() << " and " << rows_i.ShapeString() << " with experts " << w.ShapeString();
  return groups;
}

// The types of the operands a, b and of the result c of a product. Returns whether it is one of BF16 numbers
// on the CPU.
bool CheckTypes(const Stream& stream, const Tensor& a, const Tensor& b, const Tensor& c, DType wanted) {
  const auto names = [&] {
    return std::string(NameOf(a.dtype)) + " " + NameOf(b.dtype) + " into " + NameOf(c.dtype);
  };
  if (stream.device() == Device::kCpu && (a.dtype == DType::kBF16 || b.dtype == DType::kBF16)) {
    CHECK(IsBf16Operand(a) && IsBf16Operand(b) && c.dtype == DType::kF32) << names();
    return true;
  }
  CHECK(a.dtype == b.dtype && c.dtype == wanted) << names();
  return false;
}

void CheckAscending(GroupOffsets offsets, int64_t num_experts, int64_t num_rows) {
  CHECK_EQ(static_cast<int64_t>(offsets.size()), num_experts + 1);
  CHECK(offsets.front() >= 0 && offsets.back() <= num_rows)
      << offsets.front() << " to " << offsets.back() << " of " << num_rows << " rows";
  for (int64_t e = 0; e < num_experts; ++e) CHECK_LE(offsets[e], offsets[e + 1]) << "group " << e;
}

Groups CheckShapes(const Stream& stream, GroupOffsets offsets, const Tensor& rows_o, const Tensor& rows_i,
                   const Tensor& w) {
  Groups groups = ShapeOf(rows_o, rows_i, w);
  if (stream.device() == Device::kCuda && w.dtype == DType::kBF16)
    CheckAligned(groups, {&rows_o, &rows_i, &w});
  CheckAscending(offsets, groups.count, rows_o.dim(0));
  CHECK_EQ(offsets.front(), 0);
  CHECK_EQ(offsets.back(), rows_o.dim(0));
  for (int64_t e = 0; e < groups.count; ++e) groups.num_nonempty += offsets[e] < offsets[e + 1];
  return groups;
}

double Flops(const Groups& groups, GroupOffsets offsets) {
  return 2.0 * static_cast<double>(offsets.back()) * groups.outer * groups.inner;
}

// Calls body(e, first row, rows, next) for each group that has rows; next is the following such group or e
// itself.
template <class Body>
void ForEachNonempty(GroupOffsets offsets, Body&& body) {
  const int64_t count = static_cast<int64_t>(offsets.size()) - 1;
  const auto next_nonempty = [&](int64_t e) {
    while (e < count && offsets[e] == offsets[e + 1]) ++e;
    return e;
  };
  for (int64_t e = next_nonempty(0); e < count;) {
    const int64_t next = next_nonempty(e + 1);
    body(e, offsets[e], offsets[e + 1] - offsets[e], next < count ? next : e);
    e = next;
  }
}

struct WeightGradCost {
  double rows = 0;      // of all slots
  double matrices = 0;  // expert matrices written, and read where they are added to
};

// at_once: an expert's matrix is touched once for all slots.
WeightGradCost CostOf(std::span<const GroupOffsets> slots, const Groups& groups,
                      std::span<const uint8_t> has_grad, bool at_once) {
  WeightGradCost cost;
  for (int64_t e = 0; e < groups.count; ++e) {
    int num_sums = 0;
    for (const GroupOffsets offsets : slots) {
      num_sums += offsets[e] < offsets[e + 1];
      cost.rows += static_cast<double>(offsets[e + 1] - offsets[e]);
    }
    if (at_once) num_sums = std::min(num_sums, 1);
    if (num_sums > 0) cost.matrices += 2 * num_sums - (has_grad[e] ? 0 : 1);
  }
  return cost;
}

// dw[e] += over all slots, each a range of k.
void Bf16WeightGradOnHost(std::span<const GroupOffsets> slots, const Tensor& dy, const Tensor& x,
                          const Tensor& dw, std::span<uint8_t> has_grad) {
  const Bf16Functions& functions = Bf16FunctionsOf(FastestBf16Unit());
  const int64_t o = dw.dim(1), i = dw.dim(2);
  for (int64_t e = 0; e < dw.dim(0); ++e) {
    std::array<Range, kMostWeightGradSlots> ranges;
    size_t count = 0;
    for (const GroupOffsets offsets : slots) {
      if (offsets[e] < offsets[e + 1]) ranges[count++] = {offsets[e], offsets[e + 1]};
    }
    if (count == 0) continue;
    Bf16Product(functions, {.m = o,
                            .n = i,
                            .a = Bf16OperandOf(dy, false),
                            .b = Bf16OperandOf(x, false),
                            .k = {ranges.data(), count},
                            .add = has_grad[e] != 0,
                            .c = dw.as<float>() + e * o * i,
                            .ldc = i});
    has_grad[e] = 1;
  }
}

// y[rows of e] = x[rows of e] * w[e]^T, or with w[e] as it lies.
void Bf16RowsOnHost(GroupOffsets offsets, const Tensor& x, const Tensor& w, Trans trans_w, const Tensor& y) {
  const Bf16Functions& functions = Bf16FunctionsOf(FastestBf16Unit());
  const Range k{0, x.dim(1)};
  ForEachNonempty(offsets, [&](int64_t e, int64_t begin, int64_t rows, int64_t) {
    const Tensor matrix = w.Rows(e, 1).Reshape({w.dim(1), w.dim(2)});
    Bf16Product(functions, {.m = rows,
                            .n = y.dim(1),
                            .a = Bf16OperandOf(x.Rows(begin, rows), true),
                            .b = Bf16OperandOf(matrix, trans_w == Trans::kYes),
                            .k = {&k, 1},
                            .c = y.as<float>() + begin * y.dim(1),
                            .ldc = y.dim(1)});
  });
}

// dw[e] += over all slots, in their order: the sum over a slot's rows, then that of the next slot. Slots of
// fewer rows than the matrix has, which are most, are taken at once.
template <class T>
void AddWeightGrads(std::span<const GroupOffsets> slots, const Tensor& dy, const Tensor& x, const Tensor& dw,
                    std::span<uint8_t> has_grad) {
  const int64_t o = dw.dim(1), i = dw.dim(2);
  const StoreKind store = dw.bytes() >= kStreamedBytes ? StoreKind::kStreamed : StoreKind::kCached;
  for (int64_t e = 0; e < dw.dim(0); ++e) {
    T* const c = dw.as<T>() + e * o * i;
    std::array<Range, kMostWeightGradSlots> waiting;
    size_t count = 0;
    const auto add_one = [&](const Range& rows) {
      GemmBlocked<T>(Trans::kYes, Trans::kNo, {o, i, rows.size()}, 1, dy.as<T>() + rows.begin * o, o,
                     x.as<T>() + rows.begin * i, i, has_grad[e] ? 1 : 0, c, i, {.store = store});
      has_grad[e] = 1;
    };
    const auto add_waiting = [&] {
      if (count == 1) add_one(waiting[0]);
      if (count > 1) {
        GemmOfRanges<T>({o, i, dy.as<T>(), x.as<T>(), c, has_grad[e] != 0, store}, {waiting.data(), count});
        has_grad[e] = 1;
      }
      count = 0;
    };
    for (const GroupOffsets offsets : slots) {
      const Range rows{offsets[e], offsets[e + 1]};
      if (rows.size() >= std::min(o, i)) {
        add_waiting();
        add_one(rows);
      } else if (rows.size() > 0) {
        waiting[count++] = rows;
      }
    }
    add_waiting();
  }
}

void WeightGradOnHost(std::span<const GroupOffsets> slots, const Tensor& dy, const Tensor& x,
                      const Tensor& dw, std::span<uint8_t> has_grad) {
  DispatchFloat(dw.dtype, [&]<class T>() { AddWeightGrads<T>(slots, dy, x, dw, has_grad); });
}

}  // namespace

int64_t GroupedGemmScratchBytes(Device device, int64_t num_experts) {
  return device == Device::kCuda ? 3 * num_experts * int64_t{sizeof(void*)} : 0;  // addresses for the library
}

void GroupedGemmForward(Stream& stream, GroupOffsets offsets, const Tensor& x, const Tensor& w,
                        const Tensor& y) {
  const Groups groups = CheckShapes(stream, offsets, y, x, w);
  const bool is_bf16 = CheckTypes(stream, x, w, y, x.dtype);
  const int64_t o = groups.outer, i = groups.inner;
  KernelScope scope(
      stream, Op::kGroupedGemm, Flops(groups, offsets),
      static_cast<double>(groups.num_nonempty) * o * i * SizeOf(w.dtype) + x.bytes() + y.bytes());
  if (stream.device() == Device::kCuda) return cuda::GroupedGemmForward(stream, offsets, x, w, y);
  if (is_bf16) return Bf16RowsOnHost(offsets, x, w, Trans::kYes, y);
  DispatchFloat(w.dtype, [&]<class T>() {
    GemmHints<T> hints;
    if (y.bytes() >= kStreamedRowBytes) hints.store = StoreKind::kStreamed;
    ForEachNonempty(offsets, [&](int64_t e, int64_t begin, int64_t rows, int64_t) {
      GemmBlocked<T>(Trans::kNo, Trans::kYes, {rows, o, i}, 1, x.as<T>() + begin * i, i,
                     w.as<T>() + e * o * i, i, 0, y.as<T>() + begin * o, o, hints);
    });
  });
}

void GroupedGemmInputGrad(Stream& stream, GroupOffsets offsets, const Tensor& dy, const Tensor& w,
                          const Tensor& dx) {
  const Groups groups = CheckShapes(stream, offsets, dy, dx, w);
  const bool is_bf16 = CheckTypes(stream, dy, w, dx, dy.dtype);
  const int64_t o = groups.outer, i = groups.inner;
  KernelScope scope(
      stream, Op::kGroupedGemm, Flops(groups, offsets),
      static_cast<double>(groups.num_nonempty) * o * i * SizeOf(w.dtype) + dy.bytes() + dx.bytes());
  if (stream.device() == Device::kCuda) return cuda::GroupedGemmInputGrad(stream, offsets, dy, w, dx);
  if (is_bf16) return Bf16RowsOnHost(offsets, dy, w, Trans::kNo, dx);
  DispatchFloat(w.dtype, [&]<class T>() {
    ForEachNonempty(offsets, [&](int64_t e, int64_t begin, int64_t rows, int64_t next) {
      GemmHints<T> hints;
      if (next != e) hints.next_b = w.as<T>() + next * o * i;
      GemmBlocked<T>(Trans::kNo, Trans::kNo, {rows, i, o}, 1, dy.as<T>() + begin * o, o,
                     w.as<T>() + e * o * i, i, 0, dx.as<T>() + begin * i, i, hints);
    });
  });
}

void GroupedGemmWeightGrad(Stream& stream, GroupOffsets offsets, const Tensor& dy, const Tensor& x,
                           const Tensor& dw, std::span<uint8_t> has_grad) {
  CHECK(!offsets.empty() && offsets.front() == 0 && offsets.back() == dy.dim(0))
      << "offsets that are not those of all " << dy.ShapeString();
  GroupedGemmWeightGradOfSlots(stream, {&offsets, 1}, dy, x, dw, has_grad);
}

void GroupedGemmWeightGradOfSlots(Stream& stream, std::span<const GroupOffsets> slots, const Tensor& dy,
                                  const Tensor& x, const Tensor& dw, std::span<uint8_t> has_grad) {
  const Groups groups = ShapeOf(dy, x, dw);
  CHECK_LE(slots.size(), static_cast<size_t>(kMostWeightGradSlots));
  for (const GroupOffsets offsets : slots) CheckAscending(offsets, groups.count, dy.dim(0));
  const bool bf16_on_host = CheckTypes(stream, dy, x, dw, AccumulatorOf(x.dtype));
  CHECK_EQ(static_cast<int64_t>(has_grad.size()), groups.count);
  const bool on_cuda = stream.device() == Device::kCuda;
  const bool bf16_on_cuda = on_cuda && x.dtype == DType::kBF16, at_once = bf16_on_cuda || !on_cuda;
  if (bf16_on_cuda) CheckAligned(groups, {&dy, &x, &dw});
  const WeightGradCost cost = CostOf(slots, groups, has_grad, at_once);
  KernelScope scope(stream, Op::kGroupedGemm, 2 * cost.rows * groups.outer * groups.inner,
                    cost.matrices * groups.outer * groups.inner * SizeOf(dw.dtype) +
                        cost.rows * (groups.outer * SizeOf(dy.dtype) + groups.inner * SizeOf(x.dtype)));
  if (bf16_on_host) return Bf16WeightGradOnHost(slots, dy, x, dw, has_grad);
  if (!on_cuda) return WeightGradOnHost(slots, dy, x, dw, has_grad);
  if (bf16_on_cuda) return cuda::GroupedWeightGradBf16(stream, slots, dy, x, dw, has_grad);
  for (const GroupOffsets offsets : slots) {
    cuda::GroupedGemmWeightGrad(stream, offsets, dy, x, dw, has_grad);
  }
}

}  // namespace unipool
