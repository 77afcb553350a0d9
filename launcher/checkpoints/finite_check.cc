#include "launcher/checkpoints/finite_check.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "launcher/checkpoints/weight_check.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

template <class T>
std::string FirstOf(const T* numbers, int64_t count, int64_t first_element) {
  constexpr int64_t kBlock = 1 << 14;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(count, begin + kBlock);
    int bad = 0;
    for (int64_t i = begin; i < end; ++i) bad |= !(std::abs(numbers[i]) <= std::numeric_limits<T>::max());
    if (!bad) continue;
    const auto* at = std::find_if(numbers + begin, numbers + end, [](T x) { return !std::isfinite(x); });
    return Format("element %d is %g", first_element + (at - numbers), static_cast<double>(*at));
  }
  return "";
}

}  // namespace

std::string FirstNotFinite(const Tensor& tensor, int64_t first_element) {
  if (tensor.dtype == DType::kF32) return FirstOf(tensor.as<float>(), tensor.size(), first_element);
  if (tensor.dtype == DType::kF64) return FirstOf(tensor.as<double>(), tensor.size(), first_element);
  return "";
}

std::vector<std::string> NotFinite(const std::vector<DiskTensor>& tensors,
                                   const std::vector<OptimizerPiece>& pieces, const FileOf& file_of) {
  std::vector<std::string> problems;
  const auto check = [&](const std::string& name, const Tensor& value, int64_t first) {
    const std::string problem = FirstNotFinite(value, first);
    if (problem.empty()) return;
    const std::string file = file_of ? file_of(name, first) : "";
    problems.push_back((file.empty() ? "" : file + ": ") + name + ": " + problem);
  };
  for (const DiskTensor& tensor : tensors) check(tensor.name, tensor.value, 0);
  for (const OptimizerPiece& piece : pieces) {
    check("exp_avg/" + piece.name, piece.first_moment, piece.elements.begin);
    check("exp_avg_sq/" + piece.name, piece.second_moment, piece.elements.begin);
  }
  return problems;
}

void CheckFinite(const std::string& where, const std::vector<DiskTensor>& tensors,
                 const std::vector<OptimizerPiece>& pieces, const FileOf& file_of) {
  const std::vector<std::string> problems = NotFinite(tensors, pieces, file_of);
  if (!problems.empty()) throw UserError(ListOfProblems(where + ": holds what is no number", problems));
}

}  // namespace unipool
