#include "launcher/data_print.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "launcher/token_source.h"
#include "runtime/errors.h"
#include "runtime/random.h"

namespace unipool {
namespace {

constexpr int64_t kBlock = 4096;
constexpr int64_t kNumBlocks = 64;

std::string Describe(const std::string& path) {
  std::error_code failed;
  const auto size = std::filesystem::is_regular_file(path, failed)
                        ? static_cast<int64_t>(std::filesystem::file_size(path, failed))
                        : -1;
  std::ifstream file(path, std::ios::binary);
  if (size < 0 || failed || !file) return path + ": absent";
  std::string text;
  const int64_t last = std::max<int64_t>(size - kBlock, 0);
  for (int64_t i = 0; i < kNumBlocks; ++i) {
    const int64_t begin = last / (kNumBlocks - 1) * i + last % (kNumBlocks - 1) * i / (kNumBlocks - 1);
    std::string block(std::min(kBlock, size), '\0');
    file.seekg(begin);
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    text += std::to_string(HashBytes(block)) + ' ';
    if (last == 0) break;
  }
  return Format("%s: %d bytes, contents %016x", path.c_str(), size, HashBytes(text));
}

}  // namespace

std::vector<std::string> DescribeDataFiles(const std::string& source) {
  std::vector<std::string> lines;
  for (const std::string& file : FilesOfTokenSource(source)) lines.push_back(Describe(file));
  return lines;
}

}  // namespace unipool
