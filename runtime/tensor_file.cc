#include "runtime/tensor_file.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

namespace unipool {
namespace {

using nlohmann::json;

constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format's reference implementation
constexpr int kMaxProblems = 10;                  // of one file; more would only hide the first

// Bytes of one element; 0 for a dtype the format does not have.
int64_t ElementBytes(const std::string& dtype) {
  static const std::map<std::string, int64_t> kBytes = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},  {"I32", 4},     {"I16", 2},    {"I8", 1},
      {"U64", 8}, {"U32", 4}, {"U16", 2}, {"U8", 1},   {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  const auto found = kBytes.find(dtype);
  return found == kBytes.end() ? 0 : found->second;
}

std::string ShapeString(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

[[noreturn]] void ThrowBroken(const std::string& path, const std::string& what) {
  throw UserError(path + ": " + what + "; it is not a complete safetensors file: copy or save it again");
}

std::pair<void*, int64_t> MapFile(const std::string& path) {
  const int fd = OpenRegularFile(path);
  struct stat status {};
  CHECK_EQ(fstat(fd, &status), 0) << path;
  const int64_t bytes = status.st_size;
  if (bytes < 8) {
    close(fd);
    ThrowBroken(path, Format("only %d bytes long", bytes));
  }
  void* data = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  close(fd);
  if (data == MAP_FAILED) throw UserError(Format("cannot map %s: %s", path.c_str(), std::strerror(error)));
  return {data, bytes};
}

// The header's JSON. Names are checked for duplicates here, since a parsed object keeps only the last.
json ParseHeader(const std::string& path, const char* text, int64_t bytes) {
  std::set<std::string> names;
  std::string duplicate;
  const auto note_names = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::key && depth == 1 && !names.insert(parsed.get<std::string>()).second) {
      duplicate = parsed.get<std::string>();
    }
    return true;
  };
  json header;
  try {
    header = json::parse(text, text + bytes, note_names);
  } catch (const json::exception& error) {
    ThrowBroken(path, std::string("its header is not JSON (") + error.what() + ")");
  }
  if (!header.is_object()) ThrowBroken(path, "its header is not a JSON object");
  if (!duplicate.empty()) ThrowBroken(path, "its header names tensor '" + duplicate + "' twice");
  return header;
}

// A list of numbers >= 0; false if it is something else.
bool ReadNumbers(const json& value, std::vector<int64_t>& numbers) {
  if (!value.is_array()) return false;
  for (const json& number : value) {
    if (!number.is_number_unsigned() || number.get<uint64_t>() > INT64_MAX) return false;
    numbers.push_back(number.get<int64_t>());
  }
  return true;
}

// Fills one entry from its JSON. Returns what is wrong with it, or the empty text.
std::string ReadEntry(const json& value, const char* data, int64_t data_bytes, TensorFileEntry& entry) {
  std::vector<int64_t> offsets;
  if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string() ||
      !value.contains("shape") || !ReadNumbers(value["shape"], entry.shape) ||
      !value.contains("data_offsets") || !ReadNumbers(value["data_offsets"], offsets) ||
      offsets.size() != 2) {
    return "lacks a proper dtype, shape or data_offsets";
  }
  entry.dtype = value["dtype"].get<std::string>();
  int64_t expected = ElementBytes(entry.dtype);
  if (expected == 0) return "has the unknown dtype " + entry.dtype;
  for (const int64_t dim : entry.shape) {
    if (__builtin_mul_overflow(expected, dim, &expected))
      return "has the impossible shape " + ShapeString(entry.shape);
  }
  if (offsets[0] > offsets[1] || offsets[1] > data_bytes) {
    return Format("lies at bytes %d to %d, and the file holds %d bytes of data", offsets[0], offsets[1],
                  data_bytes);
  }
  entry.data = data + offsets[0];
  entry.bytes = offsets[1] - offsets[0];
  if (entry.bytes != expected) {
    return Format("has %d bytes, and %s of %s needs %d", entry.bytes, ShapeString(entry.shape).c_str(),
                  entry.dtype.c_str(), expected);
  }
  return "";
}

// Entries must fill the data without holes and overlaps. Returns the first that does not, or the empty text.
std::string CheckLayout(const std::map<std::string, TensorFileEntry>& entries, const char* data,
                        int64_t data_bytes) {
  std::vector<std::pair<std::pair<const char*, int64_t>, const std::string*>> order;
  for (const auto& [name, entry] : entries) {
    order.push_back({{static_cast<const char*>(entry.data), entry.bytes}, &name});
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  const char* end = data;
  for (const auto& [place, name] : order) {
    if (place.first < end) return "tensor '" + *name + "' overlaps another one";
    if (place.first > end) return "there is a hole before tensor '" + *name + "'";
    end += place.second;
  }
  const int64_t rest = data + data_bytes - end;
  return rest == 0 ? "" : Format("%d bytes at its end belong to no tensor", rest);
}

float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 0x1f, fraction = half & 0x3ff;
  if (exponent == 0) {  // zero and numbers below the normal range
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t wide_exponent = exponent == 0x1f ? 0xff : exponent + 127 - 15;
  return std::bit_cast<float>(sign | wide_exponent << 23 | fraction << 13);
}

float Bf16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

template <class From, class To, class Convert>
void ConvertRange(const char* from, int64_t count, To* to, Convert&& convert) {
  for (int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * static_cast<int64_t>(sizeof(From)), sizeof(From));
    to[i] = static_cast<To>(convert(value));
  }
}

// False if there is no such conversion.
template <class To>
bool ConvertFloats(const std::string& dtype, const char* from, int64_t count, To* to) {
  if (dtype == "F32") {
    ConvertRange<float>(from, count, to, [](float x) { return x; });
  } else if (dtype == "F64") {
    ConvertRange<double>(from, count, to, [](double x) { return x; });
  } else if (dtype == "BF16") {
    ConvertRange<uint16_t>(from, count, to, Bf16ToFloat);
  } else if (dtype == "F16") {
    ConvertRange<uint16_t>(from, count, to, HalfToFloat);
  } else {
    return false;
  }
  return true;
}

}  // namespace

TensorFileReader::TensorFileReader(const std::string& path) : path_(path) {
  std::tie(mapping_, mapping_bytes_) = MapFile(path);
  try {
    ReadHeader();
  } catch (...) {
    munmap(mapping_, mapping_bytes_);
    throw;
  }
}

void TensorFileReader::ReadHeader() {
  const char* file = static_cast<const char*>(mapping_);
  uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i) header_bytes = header_bytes << 8 | static_cast<unsigned char>(file[i]);
  if (header_bytes > static_cast<uint64_t>(std::min(mapping_bytes_ - 8, kMaxHeaderBytes))) {
    ThrowBroken(path_,
                Format("its first 8 bytes announce a header of %d bytes, and the file is %d bytes long",
                       header_bytes, mapping_bytes_));
  }
  const json header = ParseHeader(path_, file + 8, static_cast<int64_t>(header_bytes));
  const char* data = file + 8 + header_bytes;
  const int64_t data_bytes = mapping_bytes_ - 8 - static_cast<int64_t>(header_bytes);
  std::string problems;
  int num_problems = 0;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      for (const auto& [key, text] : value.items()) {
        if (!text.is_string()) ThrowBroken(path_, "its __metadata__ '" + key + "' is not a text");
        metadata_[key] = text.get<std::string>();
      }
      continue;
    }
    const std::string problem = ReadEntry(value, data, data_bytes, entries_[name]);
    if (problem.empty() || ++num_problems > kMaxProblems) continue;
    problems += (problems.empty() ? "tensor '" : ", tensor '") + name + "' " + problem;
  }
  if (num_problems > kMaxProblems)
    problems += Format(" and %d more such tensors", num_problems - kMaxProblems);
  if (problems.empty()) problems = CheckLayout(entries_, data, data_bytes);
  if (!problems.empty()) ThrowBroken(path_, problems);
}

TensorFileReader::~TensorFileReader() {
  munmap(mapping_, mapping_bytes_);
}

void TensorFileReader::Read(const TensorFileEntry& entry, int64_t begin, const Tensor& out) const {
  const int64_t element = ElementBytes(entry.dtype), count = out.size();
  CHECK(begin >= 0 && begin + count <= entry.bytes / element)
      << path_ << ": elements " << begin << " + " << count << " of " << ShapeString(entry.shape);
  const char* from = static_cast<const char*>(entry.data) + begin * element;
  bool done = false;
  if (entry.dtype == NameOf(out.dtype)) {
    if (count > 0) std::memcpy(out.data, from, count * element);
    done = true;
  } else if (out.dtype == DType::kF32) {
    done = ConvertFloats(entry.dtype, from, count, out.as<float>());
  } else if (out.dtype == DType::kF64) {
    done = ConvertFloats(entry.dtype, from, count, out.as<double>());
  }
  if (!done) {
    throw UserError(Format("%s: a tensor of shape %s has dtype %s where %s is needed: convert the file",
                           path_.c_str(), ShapeString(entry.shape).c_str(), entry.dtype.c_str(),
                           NameOf(out.dtype)));
  }
}

}  // namespace unipool
