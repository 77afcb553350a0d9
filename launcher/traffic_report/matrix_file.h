// The bytes between ranks as a file that nccl-tests' alltoallv takes (NCCL_TESTS_ALLTOALLV_MATRIX_FILE), so
// that the traffic of a run can be replayed on a fabric without this program.
#pragma once

#include <string>

#include "launcher/traffic_report/traffic_figures.h"

namespace unipool {

// White space between numbers, a line for each sender, [i][j] = bytes of one step from i to j; own blocks,
// which are on no wire, are 0. nccl-tests rounds each to a multiple of 16.
std::string MatrixText(const Matrix& bytes);

// The command that replays `path`, ready to paste.
std::string ReplayCommand(const Matrix& bytes, const std::string& path);

}  // namespace unipool
