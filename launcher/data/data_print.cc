#include "launcher/data/data_print.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "launcher/data/blend.h"
#include "launcher/data/token_source.h"
#include "runtime/errors.h"
#include "runtime/random.h"

namespace unipool {
namespace {

constexpr int64_t kBlock = 4096;
constexpr int64_t kNumBlocks = 64;

std::string Describe(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat status = {};
  const bool is_file = file >= 0 && fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  std::string line = path + ": absent";
  if (is_file) {
    const auto bytes = static_cast<int64_t>(status.st_size);
    line = Format("%s: %d bytes, contents %016x", path.c_str(), bytes, PrintOfFile(file, bytes));
  }
  if (file >= 0) close(file);
  return line;
}

}  // namespace

uint64_t PrintOfFile(int file, int64_t bytes) {
  std::string text;
  const int64_t last = std::max<int64_t>(bytes - kBlock, 0);
  for (int64_t i = 0; i < kNumBlocks; ++i) {
    const int64_t begin = last / (kNumBlocks - 1) * i + last % (kNumBlocks - 1) * i / (kNumBlocks - 1);
    std::string block(static_cast<size_t>(std::min(kBlock, bytes)), '\0');
    if (pread(file, block.data(), block.size(), begin) < 0) block.assign(block.size(), '\0');
    text += std::to_string(HashBytes(block)) + ' ';
    if (last == 0) break;
  }
  return HashBytes(text);
}

std::vector<std::string> DescribeData(const Config& config) {
  std::vector<std::string> lines;
  for (const auto* entries : {&config.data().train(), &config.data().valid()}) {
    if (entries->empty()) continue;
    try {
      for (const BlendEntry& entry : ParseBlend({entries->begin(), entries->end()}, "data")) {
        for (std::string& line : DescribeDataFiles(entry.source)) lines.push_back(std::move(line));
      }
    } catch (const UserError& error) {  // told where the data is opened
      lines.emplace_back(error.what());
    }
  }
  return lines;
}

std::vector<std::string> DescribeDataFiles(const std::string& source) {
  std::vector<std::string> lines;
  for (const std::string& file : FilesOfTokenSource(source)) lines.push_back(Describe(file));
  return lines;
}

}  // namespace unipool
