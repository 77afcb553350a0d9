#include "launcher/traffic_report/matrix_file.h"

#include <algorithm>
#include <cmath>

#include "launcher/slurm/shell_words.h"
#include "runtime/format.h"

namespace unipool {
namespace {

int64_t Bytes(const Matrix& bytes, size_t i, size_t j) {
  return i == j ? 0 : std::llround(bytes[i][j]);
}

}  // namespace

std::string MatrixText(const Matrix& bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (size_t j = 0; j < bytes.size(); ++j)
      text += (j == 0 ? "" : " ") + std::to_string(Bytes(bytes, i, j));
    text += "\n";
  }
  return text;
}

std::string ReplayCommand(const Matrix& bytes, const std::string& path) {
  constexpr int64_t kRounding = 16;
  int64_t most = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    int64_t row = 0, column = 0;
    for (size_t j = 0; j < bytes.size(); ++j) {
      row += (Bytes(bytes, i, j) + kRounding - 1) / kRounding * kRounding;
      column += (Bytes(bytes, j, i) + kRounding - 1) / kRounding * kRounding;
    }
    most = std::max({most, row, column});
  }
  return Format(
      "NCCL_TESTS_ALLTOALLV_MATRIX_FILE=%s mpirun -np %d -x NCCL_TESTS_ALLTOALLV_MATRIX_FILE "
      "build/alltoallv_perf -g 1 -b %d -e %d",
      ShellWord(path), bytes.size(), most, most);
}

}  // namespace unipool
