#include "launcher/logits_file.h"

#include <filesystem>

#include "runtime/tensor_file.h"

namespace unipool {

void WriteLogits(const std::string& path, TrainingEngine& engine, const TokenDataset& dataset,
                 int64_t sequences) {
  std::error_code ignored;
  if (std::filesystem::exists(std::filesystem::symlink_status(path, ignored)))
    throw UserError("--logits=" + path + ": exists already; name a file that does not");
  const int64_t length = engine.parts().spec.seq_length, vocab = engine.parts().spec.vocab;
  TensorFileWriter writer(path);
  writer.Declare("tokens", DType::kI32, {sequences, length});
  writer.Declare("logits", DType::kF32, {sequences, length, vocab});
  std::vector<int32_t> sample(length + 1);
  for (int64_t i = 0; i < sequences; ++i) {
    dataset.Read(i, sample);
    writer.Append(sample.data(), length * int64_t{sizeof(int32_t)});
  }
  for (int64_t i = 0; i < sequences; ++i) {
    dataset.Read(i, sample);
    for (int64_t t = 0; t < length; ++t) {
      const Tensor logits = engine.NextLogits(sample[t], t);
      writer.Append(logits.as<float>(), vocab * int64_t{sizeof(float)});
    }
  }
  writer.Close();
}

}  // namespace unipool
