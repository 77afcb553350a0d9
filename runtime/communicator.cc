#include "runtime/communicator.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/range.h"
#include "runtime/sum_rounds.h"

namespace unipool {
namespace {

// own[i] = x_0[i] + x_1[i] + ... in rank order, where x_r lies at staging + r * stride and x_rank is `own`
// itself.
template <class T>
void SumInRankOrder(T* own, const char* staging, int64_t stride, int rank, int size, int64_t count) {
  constexpr int64_t kTile = 512;
  T sum[kTile];
  for (int64_t begin = 0; begin < count; begin += kTile) {
    const int64_t n = std::min(kTile, count - begin);
    for (int r = 0; r < size; ++r) {
      const T* x = (r == rank ? own : reinterpret_cast<const T*>(staging + r * stride)) + begin;
      if (r == 0) {
        std::copy_n(x, n, sum);
      } else {
        for (int64_t i = 0; i < n; ++i) sum[i] += x[i];
      }
    }
    std::copy_n(sum, n, own + begin);
  }
}

void SumOnHost(DType dtype, void* own, const char* staging, int64_t stride, int rank, int size,
               int64_t count) {
  switch (dtype) {
    case DType::kF32:
      return SumInRankOrder(static_cast<float*>(own), staging, stride, rank, size, count);
    case DType::kF64:
      return SumInRankOrder(static_cast<double*>(own), staging, stride, rank, size, count);
    case DType::kI32:
      return SumInRankOrder(static_cast<int32_t*>(own), staging, stride, rank, size, count);
    case DType::kI64:
      return SumInRankOrder(static_cast<int64_t*>(own), staging, stride, rank, size, count);
    default:
      LOG(FATAL) << "no sum over ranks for dtype " << NameOf(dtype);
  }
}

// Piece k of part p, in elements.
Range PieceOf(int64_t n, int parts, int p, int64_t piece, int64_t k) {
  const Range part = EvenPartition(n, parts, p);
  return {std::min(part.end, part.begin + k * piece), std::min(part.end, part.begin + (k + 1) * piece)};
}

}  // namespace

void* Communicator::Staging(int64_t bytes) {
  if (static_cast<int64_t>(staging_.size()) < bytes) staging_.resize(bytes);
  return staging_.data();
}

void Communicator::SumParts(const Tensor& own, const void* parts, int64_t stride) {
  SumOnHost(own.dtype, own.data, static_cast<const char*>(parts), stride, rank_, size_, own.size());
}

int64_t Communicator::SumStagingBytes(int64_t n, int64_t element_bytes, int size, int64_t round_bytes) {
  return size == 1 ? 0 : 2 * size * SumPieceElements(n, element_bytes, size, round_bytes) * element_bytes;
}

void Communicator::ReduceScatterSum(const Tensor& values, const ExchangeLabel& label) {
  if (size_ == 1) return;
  const int64_t element = SizeOf(values.dtype), n = values.size();
  const int64_t largest_part = EvenPartition(n, size_, 0).size();
  const int64_t piece = SumPieceElements(n, element, size_, SumRoundBytes());
  const int64_t stride = piece * element, half = size_ * stride;
  char* const staging = static_cast<char*>(Staging(2 * half));
  char* data = static_cast<char*>(values.data);

  // The next piece is on its way while this one is summed.
  const auto start = [&](int64_t k) {
    send_.assign(size_, {});
    recv_.assign(size_, {});
    const int64_t own_bytes = PieceOf(n, size_, rank_, piece, k).size() * element;
    for (int p = 0; p < size_; ++p) {
      if (p == rank_) continue;
      const Range part = PieceOf(n, size_, p, piece, k);
      send_[p] = {data + part.begin * element, part.size() * element};
      recv_[p] = {staging + (k % 2) * half + p * stride, own_bytes};
    }
    return Start(send_, recv_, label);
  };
  const int64_t num_pieces = (largest_part + piece - 1) / piece;
  Ticket ticket = num_pieces > 0 ? start(0) : 0;
  for (int64_t k = 0; k < num_pieces; ++k) {
    const Ticket next = k + 1 < num_pieces ? start(k + 1) : 0;
    Wait(ticket);
    ticket = next;
    const Range own = PieceOf(n, size_, rank_, piece, k);
    SumParts(Tensor(data + own.begin * element, values.dtype, {own.size()}), staging + (k % 2) * half,
             stride);
  }
}

void Communicator::AllGatherParts(const Tensor& values, const ExchangeLabel& label) {
  if (size_ == 1) return;
  const int64_t element = SizeOf(values.dtype), n = values.size();
  const int64_t largest_part = EvenPartition(n, size_, 0).size();
  const int64_t piece = SumPieceElements(n, element, size_, GatherRoundBytes());
  char* data = static_cast<char*>(values.data);

  // In place; the next round starts before this one is waited for.
  const auto start = [&](int64_t k) {
    const auto block = [&](int p) { return PieceOf(n, size_, p, piece, k); };
    send_.assign(size_, {data + block(rank_).begin * element, block(rank_).size() * element});
    recv_.assign(size_, {});
    for (int p = 0; p < size_; ++p) recv_[p] = {data + block(p).begin * element, block(p).size() * element};
    send_[rank_] = {};
    recv_[rank_] = {};
    return Start(send_, recv_, label);
  };
  const int64_t num_rounds = (largest_part + piece - 1) / piece;
  Ticket ticket = num_rounds > 0 ? start(0) : 0;
  for (int64_t k = 0; k < num_rounds; ++k) {
    const Ticket next = k + 1 < num_rounds ? start(k + 1) : 0;
    Wait(ticket);
    ticket = next;
  }
}

void Communicator::AllReduceSum(const Tensor& values, const ExchangeLabel& label) {
  ReduceScatterSum(values, label);
  AllGatherParts(values, label);
}

void Communicator::Broadcast(void* data, int64_t bytes, int root, const ExchangeLabel& label) {
  if (size_ == 1) return;
  send_.assign(size_, {});
  recv_.assign(size_, {});
  if (rank_ == root) {
    for (int p = 0; p < size_; ++p) send_[p] = {data, p == root ? 0 : bytes};
  } else {
    recv_[root] = {data, bytes};
  }
  Exchange(send_, recv_, label);
}

void Communicator::Barrier(const ExchangeLabel& label) {
  AllReduceMax(0, label);
}

void Communicator::CheckHostValues(const ExchangeLabel& label) const {
  CHECK(!OnDevice()) << "'" << label.operation
                     << "' has values of the host: ask the host's communicator for it";
}

double Communicator::AllReduceMax(double value, const ExchangeLabel& label) {
  CheckHostValues(label);
  if (size_ == 1) return value;
  const int64_t bytes = size_ * static_cast<int64_t>(sizeof(double));
  if (static_cast<int64_t>(staging_.size()) < bytes) staging_.resize(bytes);
  double* all = reinterpret_cast<double*>(staging_.data());
  send_.assign(size_, {&value, sizeof(double)});
  recv_.assign(size_, {});
  for (int p = 0; p < size_; ++p) recv_[p] = {all + p, sizeof(double)};
  Exchange(send_, recv_, label);
  double largest = all[0];
  for (int p = 1; p < size_; ++p) largest = std::isnan(all[p]) || all[p] > largest ? all[p] : largest;
  return largest;
}

std::vector<std::string> Communicator::AllGatherText(const std::string& text, const ExchangeLabel& label) {
  CheckHostValues(label);
  const int64_t own_bytes = static_cast<int64_t>(text.size());
  std::vector<int64_t> bytes(size_);
  send_.assign(size_, {&own_bytes, sizeof(int64_t)});
  recv_.assign(size_, {});
  for (int p = 0; p < size_; ++p) recv_[p] = {&bytes[p], sizeof(int64_t)};
  Exchange(send_, recv_, label);

  std::vector<std::string> texts(size_);
  send_.assign(size_, {text.data(), own_bytes});
  for (int p = 0; p < size_; ++p) {
    texts[p].resize(bytes[p]);
    recv_[p] = {texts[p].data(), bytes[p]};
  }
  Exchange(send_, recv_, label);
  return texts;
}

}  // namespace unipool
