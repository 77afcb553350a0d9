#include "launcher/interop/hf_shards.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "launcher/checkpoints/weight_folder.h"
#include "launcher/interop/bf16_rounding.h"
#include "runtime/tensor_file.h"

namespace unipool {
namespace {

struct Part {
  std::string name;
  std::vector<int64_t> shape;
  const char* data = nullptr;  // F32
  int64_t bytes = 0;           // in the file
  DType dtype = DType::kF32;   // in the file
};

Part PartOf(const HfTensor& tensor, const std::map<std::string, const DiskTensor*>& weights) {
  if (tensor.source.empty()) {
    return {tensor.name, tensor.shape, reinterpret_cast<const char*>(tensor.values.data()),
            static_cast<int64_t>(tensor.values.size() * sizeof(float))};
  }
  const auto found = weights.find(tensor.source);
  CHECK(found != weights.end()) << tensor.source << " for " << tensor.name;
  const DiskTensor& source = *found->second;
  CHECK(source.value.dtype == DType::kF32) << source.name << ": " << NameOf(source.value.dtype);
  Part part{tensor.name, source.shape, static_cast<const char*>(source.value.data), source.value.bytes()};
  if (tensor.rows.size() == 0) return part;
  CHECK_LE(tensor.rows.end, source.shape[0]) << source.name;
  const int64_t row_bytes = part.bytes / source.shape[0];
  part.shape[0] = tensor.rows.size();
  part.data += tensor.rows.begin * row_bytes;
  part.bytes = tensor.rows.size() * row_bytes;
  return part;
}

// Writes the part as its file has it. Returns the sum of its bytes.
FileSum Append(const Part& part, TensorFileWriter& writer) {
  FileSummer summer;
  const auto write = [&](const void* data, int64_t bytes) {
    writer.Append(data, bytes);
    summer.Add(data, bytes);
  };
  if (part.dtype == DType::kF32) {
    write(part.data, part.bytes);
    return summer.Sum();
  }
  const auto* numbers = reinterpret_cast<const float*>(part.data);
  const int64_t count = part.bytes / 2;
  std::vector<uint16_t> rounded;
  constexpr int64_t kAtOnce = 1 << 16;
  for (int64_t begin = 0; begin < count; begin += kAtOnce) {
    rounded.clear();
    for (int64_t i = begin; i < std::min(count, begin + kAtOnce); ++i) {
      rounded.push_back(Bf16Bits(numbers[i]));
      if (!std::isfinite(FromBf16Bits(rounded.back())))
        throw UserError(part.name + Format(": element %d is %g, which BF16 cannot hold", i, numbers[i]));
    }
    write(rounded.data(), static_cast<int64_t>(rounded.size()) * 2);
  }
  return summer.Sum();
}

// The first part of each file.
std::vector<size_t> FirstOfFiles(const std::vector<Part>& parts, int64_t max_bytes) {
  std::vector<size_t> first;
  int64_t bytes = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (first.empty() || bytes + parts[i].bytes > max_bytes) {
      first.push_back(i);
      bytes = 0;
    }
    bytes += parts[i].bytes;
  }
  return first;
}

}  // namespace

std::vector<WrittenTensor> WriteHfShards(const std::string& folder, const std::vector<HfTensor>& tensors,
                                         const std::vector<DiskTensor>& weights,
                                         const HfShardOptions& options) {
  std::map<std::string, const DiskTensor*> by_name;
  for (const DiskTensor& weight : weights) by_name[weight.name] = &weight;
  std::vector<Part> parts;
  for (const HfTensor& tensor : tensors) {
    parts.push_back(PartOf(tensor, by_name));
    if (options.dtype == DType::kF32 || tensor.keeps_f32) continue;
    parts.back().dtype = options.dtype;
    parts.back().bytes /= 2;
  }

  std::vector<WrittenTensor> written;
  const std::vector<size_t> first = FirstOfFiles(parts, options.max_bytes);
  const int num_files = static_cast<int>(first.size());
  int64_t total_bytes = 0;
  nlohmann::ordered_json files;
  for (int file = 0; file < num_files; ++file) {
    const size_t begin = first[file], end = file + 1 < num_files ? first[file + 1] : parts.size();
    const std::string path = WeightFile(folder, file, num_files);
    const std::string name = std::filesystem::path(path).filename().string();
    TensorFileWriter writer(path);
    writer.SetMetadata("format", "pt");
    for (size_t i = begin; i < end; ++i) writer.Declare(parts[i].name, parts[i].dtype, parts[i].shape);
    for (size_t i = begin; i < end; ++i) {
      const FileSum sum = Append(parts[i], writer);
      written.push_back({parts[i].name, name, parts[i].shape, parts[i].dtype, sum});
      files[parts[i].name] = name;
      total_bytes += parts[i].bytes;
    }
    writer.Close();
  }
  if (num_files > 1) {
    const nlohmann::ordered_json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", files}};
    WriteTextFile((std::filesystem::path(folder) / kWeightIndexFile).string(), index.dump(2) + "\n");
  }
  return written;
}

}  // namespace unipool
