// What the tests have in the place of cuBLAS: the launchers of Gemm and GroupedGemm as plain loops over
// device memory, which the host can read here. The loops are enqueued like kernels. A sum is made in double,
// becomes F32, and then becomes the type of c.
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launchers.h"

namespace unipool::cuda {
namespace {

using emulation::Access;

// The matrix begins at element `begin` of the tensor. Its rows lie `ld` elements apart.
struct Matrix {
  const Tensor* tensor;
  int64_t begin, ld;
};
struct HostProduct {
  Trans trans_a, trans_b;
  GemmShape shape;
  Matrix a, b, c;
  float beta;
};

template <class T>
void Multiply(const HostProduct& p, auto* c_data) {
  using C = std::remove_pointer_t<decltype(c_data)>;
  const T *a = p.a.tensor->as<T>() + p.a.begin, *b = p.b.tensor->as<T>() + p.b.begin;
  C* c = c_data + p.c.begin;
  const bool ta = p.trans_a == Trans::kYes, tb = p.trans_b == Trans::kYes;
  std::vector<double> sums(p.shape.n);
  for (int64_t i = 0; i < p.shape.m; ++i, c += p.c.ld) {
    for (int64_t j = 0; j < p.shape.n; ++j) {
      sums[j] = p.beta == 0 ? 0.0 : double{p.beta} * ToFloat(c[j]);
    }
    for (int64_t k = 0; k < p.shape.k; ++k) {
      const double factor = ToFloat(a[ta ? k * p.a.ld + i : i * p.a.ld + k]);
      const T* from = b + (tb ? k : k * p.b.ld);
      const int64_t stride = tb ? p.b.ld : 1;
      for (int64_t j = 0; j < p.shape.n; ++j) sums[j] += factor * ToFloat(from[j * stride]);
    }
    for (int64_t j = 0; j < p.shape.n; ++j) c[j] = FromFloat<C>(static_cast<float>(sums[j]));
  }
}

void Multiply(const HostProduct& p) {
  DispatchDevice("a product", p.a.tensor->dtype, [&]<class T>() {
    DispatchDevice("a product", p.c.tensor->dtype, [&]<class C>() { Multiply<T>(p, p.c.tensor->as<C>()); });
  });
}

Access Reads(const Tensor& tensor) {
  return {tensor.data, tensor.bytes(), false};
}
Access Writes(const Tensor& tensor) {
  return {tensor.data, tensor.bytes(), true};
}

struct GroupedProduct {
  Trans trans_a, trans_b;
  Tensor a, b, c;
  // Of expert e with `rows` rows from `begin`: the sizes and where its matrices begin.
  GemmShape (*shape)(int64_t rows, int64_t outer, int64_t inner);
  bool a_is_rows, b_is_rows, c_is_rows;
};

int64_t BeginOf(const Tensor& tensor, bool is_rows, int64_t expert, int64_t row) {
  return is_rows ? row * tensor.dim(1) : expert * tensor.dim(1) * tensor.dim(2);
}

void MultiplyGroups(const GroupedProduct& g, const std::vector<int64_t>& offsets,
                    const std::vector<uint8_t>& add, int64_t outer, int64_t inner) {
  for (size_t e = 0; e + 1 < offsets.size(); ++e) {
    const int64_t begin = offsets[e], rows = offsets[e + 1] - begin, expert = static_cast<int64_t>(e);
    if (rows == 0) continue;
    const auto matrix = [&](const Tensor& tensor, bool is_rows) {
      return Matrix{&tensor, BeginOf(tensor, is_rows, expert, begin), tensor.dim(tensor.num_dims - 1)};
    };
    Multiply({.trans_a = g.trans_a,
              .trans_b = g.trans_b,
              .shape = g.shape(rows, outer, inner),
              .a = matrix(g.a, g.a_is_rows),
              .b = matrix(g.b, g.b_is_rows),
              .c = matrix(g.c, g.c_is_rows),
              .beta = add[e] ? 1.0f : 0.0f});
  }
}

// Offsets and flags are the host's and may change when the call returns.
void EnqueueGroups(Stream& stream, const char* name, GroupOffsets offsets, std::vector<uint8_t> add,
                   const Tensor& w, const GroupedProduct& g) {
  QueueOf(stream)->Enqueue(name, {Reads(g.a), Reads(g.b), Writes(g.c)},
                           [=, outer = w.dim(1), inner = w.dim(2), add = std::move(add),
                            kept = std::vector<int64_t>(offsets.begin(), offsets.end())] {
                             MultiplyGroups(g, kept, add, outer, inner);
                           });
}

}  // namespace

void Gemm(Stream& stream, Trans trans_a, const Tensor& a, Trans trans_b, const Tensor& b, float beta,
          const Tensor& c) {
  const GemmShape shape{c.dim(0), c.dim(1), a.dim(trans_a == Trans::kYes ? 0 : 1)};
  QueueOf(stream)->Enqueue("Gemm", {Reads(a), Reads(b), Writes(c)}, [=] {
    Multiply({.trans_a = trans_a,
              .trans_b = trans_b,
              .shape = shape,
              .a = {&a, 0, a.dim(1)},
              .b = {&b, 0, b.dim(1)},
              .c = {&c, 0, c.dim(1)},
              .beta = beta});
  });
}

void GroupedGemmForward(Stream& stream, GroupOffsets offsets, const Tensor& x, const Tensor& w,
                        const Tensor& y) {
  EnqueueGroups(stream, "GroupedGemmForward", offsets, std::vector<uint8_t>(w.dim(0)), w,
                {.trans_a = Trans::kNo,
                 .trans_b = Trans::kYes,
                 .a = x,
                 .b = w,
                 .c = y,
                 .shape =
                     [](int64_t rows, int64_t o, int64_t i) {
                       return GemmShape{rows, o, i};
                     },
                 .a_is_rows = true,
                 .b_is_rows = false,
                 .c_is_rows = true});
}

void GroupedGemmInputGrad(Stream& stream, GroupOffsets offsets, const Tensor& dy, const Tensor& w,
                          const Tensor& dx) {
  EnqueueGroups(stream, "GroupedGemmInputGrad", offsets, std::vector<uint8_t>(w.dim(0)), w,
                {.trans_a = Trans::kNo,
                 .trans_b = Trans::kNo,
                 .a = dy,
                 .b = w,
                 .c = dx,
                 .shape =
                     [](int64_t rows, int64_t o, int64_t i) {
                       return GemmShape{rows, i, o};
                     },
                 .a_is_rows = true,
                 .b_is_rows = false,
                 .c_is_rows = true});
}

void GroupedGemmWeightGrad(Stream& stream, GroupOffsets offsets, const Tensor& dy, const Tensor& x,
                           const Tensor& dw, std::span<uint8_t> has_grad) {
  std::vector<uint8_t> add(has_grad.begin(), has_grad.end());
  for (size_t e = 0; e < has_grad.size(); ++e) {
    if (offsets[e] < offsets[e + 1]) has_grad[e] = 1;
  }
  EnqueueGroups(stream, "GroupedGemmWeightGrad", offsets, std::move(add), dw,
                {.trans_a = Trans::kYes,
                 .trans_b = Trans::kNo,
                 .a = dy,
                 .b = x,
                 .c = dw,
                 .shape =
                     [](int64_t rows, int64_t o, int64_t i) {
                       return GemmShape{o, i, rows};
                     },
                 .a_is_rows = true,
                 .b_is_rows = true,
                 .c_is_rows = false});
}

}  // namespace unipool::cuda
