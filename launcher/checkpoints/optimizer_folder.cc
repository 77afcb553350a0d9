#include "launcher/checkpoints/optimizer_folder.h"

#include <algorithm>

#include "launcher/checkpoints/weight_folder.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

Tensor ElementsOf(const Tensor& tensor, int64_t begin, int64_t count) {
  return Tensor(static_cast<char*>(tensor.data) + begin * SizeOf(tensor.dtype), tensor.dtype, {count});
}

bool IsNumber(const std::string& text) {
  return !text.empty() && text.size() <= 18 && text.find_first_not_of("0123456789") == std::string::npos;
}

}  // namespace

OptimizerFolder::OptimizerFolder(const std::string& dir, int num_files) {
  for (int i = 0; i < num_files; ++i) {
    readers_.push_back(std::make_unique<TensorFileReader>(OptimizerFile(dir, i, num_files)));
    for (const auto& [name, entry] : readers_.back()->entries()) Add(*readers_.back(), name, entry);
  }
}

void OptimizerFolder::Add(const TensorFileReader& reader, const std::string& name,
                          const TensorFileEntry& entry) {
  if (name.rfind("state/", 0) == 0) {
    state_[name] = {&reader, &entry};
    return;
  }
  const size_t slash = name.rfind('/');
  const std::string begin = slash == std::string::npos ? "" : name.substr(slash + 1);
  if (!IsNumber(begin) || entry.shape.size() != 1) {
    throw UserError(reader.path() + ": " + name + " is no piece of optimizer state");
  }
  pieces_[name.substr(0, slash)][std::stoll(begin)] = {&reader, &entry};
}

void OptimizerFolder::ReadRange(const std::string& name, Range elements, const Tensor& out,
                                std::vector<std::string>& problems) const {
  const auto found = pieces_.find(name);
  int64_t at = elements.begin;
  if (found != pieces_.end()) {
    auto piece = found->second.upper_bound(at);
    if (piece != found->second.begin()) --piece;
    for (; piece != found->second.end() && at < elements.end; ++piece) {
      const int64_t end = std::min(elements.end, piece->first + piece->second.entry->shape[0]);
      if (piece->first > at || end <= at) break;
      const Tensor part = ElementsOf(out, at - elements.begin, end - at);
      piece->second.reader->Read(*piece->second.entry, at - piece->first, part);
      at = end;
    }
  }
  if (at == elements.end) return;
  problems.push_back(Format("%s: elements %d to %d are missing", name.c_str(), at, elements.end));
}

std::string OptimizerFolder::FileOf(const std::string& name, int64_t element) const {
  const auto found = pieces_.find(name);
  if (found == pieces_.end()) return "";
  auto piece = found->second.upper_bound(element);
  return piece == found->second.begin() ? "" : (--piece)->second.reader->path();
}

void OptimizerFolder::ReadState(const DiskTensor& tensor, std::vector<std::string>& problems,
                                std::vector<std::string>& missing) const {
  const std::string name = "state/" + tensor.name;
  const auto found = state_.find(name);
  if (found == state_.end()) {
    if (tensor.optional) {
      missing.push_back(tensor.name);
    } else {
      problems.push_back(name + ": is missing");
    }
    return;
  }
  const Place& place = found->second;
  if (place.entry->shape != tensor.shape) {
    problems.push_back(name + ": has another shape");
    return;
  }
  place.reader->Read(*place.entry, 0, tensor.value);
}

std::map<std::string, const TensorFileEntry*> OptimizerFolder::States() const {
  std::map<std::string, const TensorFileEntry*> states;
  for (const auto& [name, place] : state_) states[name.substr(std::string("state/").size())] = place.entry;
  return states;
}

}  // namespace unipool
