// The optimizer files of one checkpoint, read as one: which file holds which elements of which tensor's
// moments. It lies beside WeightFolder, which reads the weights.
// launcher/checkpoints/CHECKPOINT.md, "Files" says what the files hold.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/parameter.h"
#include "runtime/range.h"
#include "runtime/tensor_file.h"

namespace unipool {

class OptimizerFolder {
 public:
  // Opens optimizer-00001-of-0000n.safetensors and its like in `dir`, n = num_files. Throws UserError when a
  // file is missing or damaged, or holds an entry that is no piece of optimizer state.
  OptimizerFolder(const std::string& dir, int num_files);

  // Reads the elements [elements.begin, elements.end) of "exp_avg/NAME" or "exp_avg_sq/NAME" into `out`.
  // Several pieces in several files may hold them: the layout that wrote them need not be the one that reads.
  // Elements that no file holds are added to `problems`, as a sentence. Example: two ranks wrote [0, 6) and
  // [6, 10); a reader of [4, 8) gets 2 elements from each.
  void ReadRange(const std::string& name, Range elements, const Tensor& out,
                 std::vector<std::string>& problems) const;

  // Reads "state/NAME" into tensor.value. When it is not there, the name of an optional tensor is added to
  // `missing`, and a sentence for any other to `problems`. Another shape is a problem.
  void ReadState(const DiskTensor& tensor, std::vector<std::string>& problems,
                 std::vector<std::string>& missing) const;

  // All state by its NAME.
  std::map<std::string, const TensorFileEntry*> States() const;

  // Path of the file with this element of "exp_avg/NAME" or "exp_avg_sq/NAME"; "": none has it.
  std::string FileOf(const std::string& name, int64_t element) const;

 private:
  struct Place {
    const TensorFileReader* reader = nullptr;
    const TensorFileEntry* entry = nullptr;
  };
  void Add(const TensorFileReader& reader, const std::string& name, const TensorFileEntry& entry);

  std::vector<std::unique_ptr<TensorFileReader>> readers_;
  std::map<std::string, std::map<int64_t, Place>> pieces_;  // "exp_avg/NAME" -> first element -> place
  std::map<std::string, Place> state_;                      // "state/NAME" -> place
};

}  // namespace unipool
