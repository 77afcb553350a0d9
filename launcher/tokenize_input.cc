#include "launcher/tokenize_input.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/errors.h"

namespace unipool {

LineReader::LineReader(std::vector<std::string> paths, size_t chunk_bytes)
    : paths_(std::move(paths)), chunk_bytes_(chunk_bytes) {}

LineReader::~LineReader() {
  if (file_ >= 0) close(file_);
}

// Appends up to a chunk to `pending_`. False if the file has ended.
bool LineReader::ReadSome() {
  const std::string& path = paths_[file_idx_];
  const size_t before = pending_.size();
  pending_.resize(before + chunk_bytes_);
  ssize_t count;
  do {
    count = read(file_, pending_.data() + before, chunk_bytes_);
  } while (count < 0 && errno == EINTR);
  if (count < 0) throw UserError(Format("%s: cannot be read: %s", path.c_str(), std::strerror(errno)));
  pending_.resize(before + static_cast<size_t>(count));
  return count > 0;
}

bool LineReader::Next(LineChunk& chunk) {
  while (file_idx_ < paths_.size()) {
    const std::string& path = paths_[file_idx_];
    if (file_ < 0) {
      file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
      if (file_ < 0) throw UserError(Format("%s: cannot be opened: %s", path.c_str(), std::strerror(errno)));
      at_end_ = false;
      line_ = 1;
    }
    size_t searched = 0, last = std::string::npos;  // last: of the line ends in `pending_`
    while (!at_end_ && (pending_.size() < chunk_bytes_ || last == std::string::npos)) {
      at_end_ = !ReadSome();
      const size_t found = std::string_view(pending_).substr(searched).rfind('\n');
      if (found != std::string::npos) last = searched + found;
      searched = pending_.size();
    }
    if (pending_.empty()) {
      close(file_);
      file_ = -1;
      ++file_idx_;
      continue;
    }
    const size_t cut = at_end_ ? pending_.size() : last + 1;
    chunk.path = path;
    chunk.first_line = line_;
    chunk.text.assign(pending_, 0, cut);
    pending_.erase(0, cut);
    line_ += std::count(chunk.text.begin(), chunk.text.end(), '\n');
    return true;
  }
  return false;
}

namespace {

// Follows a parse and keeps one string of the outermost object.
class TextFinder : public nlohmann::json_sax<nlohmann::json> {
 public:
  TextFinder(const std::string& key, std::string& text) : key_(key), text_(text) {}

  bool found() const { return found_; }
  bool is_string() const { return is_string_; }
  bool is_object() const { return is_object_; }

  bool null() override { return Other(); }
  bool boolean(bool) override { return Other(); }
  bool number_integer(number_integer_t) override { return Other(); }
  bool number_unsigned(number_unsigned_t) override { return Other(); }
  bool number_float(number_float_t, const string_t&) override { return Other(); }
  bool binary(binary_t&) override { return Other(); }
  bool string(string_t& value) override {
    if (!Wanted()) return Other();
    text_.swap(value);
    found_ = is_string_ = true;
    at_key_ = false;
    return true;
  }
  bool start_object(std::size_t) override {
    if (depth_ == 0) is_object_ = true;
    Other();
    ++depth_;
    return true;
  }
  bool start_array(std::size_t) override {
    Other();
    ++depth_;
    return true;
  }
  bool end_object() override { return --depth_ >= 0; }
  bool end_array() override { return --depth_ >= 0; }
  bool key(string_t& name) override {
    if (depth_ == 1) at_key_ = name == key_;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    std::string reason = error.what();  // "[kind] parse error at line L, column C: reason; last read: ..."
    reason = reason.substr(0, reason.find("; last read"));
    const size_t colon = reason.find(": ");
    if (colon != std::string::npos) reason = reason.substr(colon + 2);
    throw UserError(Format("is not JSON at its byte %d: %s", position, reason.c_str()));
  }

 private:
  bool Wanted() const { return depth_ == 1 && at_key_ && is_object_; }
  bool Other() {
    if (Wanted()) {
      found_ = true;
      is_string_ = at_key_ = false;
    }
    return true;
  }

  const std::string& key_;
  std::string& text_;
  int64_t depth_ = 0;
  bool at_key_ = false;  // is the next value of the outermost object the wanted one?
  bool found_ = false, is_string_ = false, is_object_ = false;
};

}  // namespace

void ExtractText(std::string_view line, const std::string& key, std::string& text) {
  TextFinder finder(key, text);
  nlohmann::json::sax_parse(line.begin(), line.end(), &finder);
  if (!finder.is_object()) throw UserError("is not a JSON object; a line must be {\"" + key + "\": ...}");
  if (!finder.found()) throw UserError("has no key \"" + key + "\"; --key names the key of the text");
  if (!finder.is_string()) throw UserError("has a value at \"" + key + "\" that is not a string");
}

std::vector<std::string> SplitAtCommas(std::string_view list) {
  std::vector<std::string> parts;
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (comma > 0) parts.emplace_back(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return parts;
}

}  // namespace unipool
