#include "launcher/tokens/tokenize_input.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/errors.h"

namespace unipool {

namespace {

constexpr size_t kMostLineBytes = size_t{1} << 30;

}  // namespace

LineReader::LineReader(std::vector<std::string> paths, size_t chunk_bytes)
    : paths_(std::move(paths)), chunk_bytes_(chunk_bytes) {}

// Appends up to a chunk to `pending_`. False if the file has ended.
bool LineReader::ReadSome() {
  const size_t before = pending_.size();
  pending_.resize(before + chunk_bytes_);
  const size_t count = file_->Read(pending_.data() + before, chunk_bytes_);
  pending_.resize(before + count);
  return count > 0;
}

void LineReader::TakeByteOrderMark(std::string& text) const {
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) {
    throw UserError(Format("%s: is UTF-16; write it as UTF-8", file_->name().c_str()));
  }
}

bool LineReader::Next(LineChunk& chunk) {
  while (file_idx_ < paths_.size()) {
    bool is_first = false;
    if (!file_) {
      file_ = std::make_unique<InputFile>(paths_[file_idx_]);
      at_end_ = false;
      is_first = true;
      line_ = 1;
    }
    size_t searched = 0, last = std::string::npos;  // last: of the line ends in `pending_`
    while (!at_end_ && (pending_.size() < chunk_bytes_ || last == std::string::npos)) {
      at_end_ = !ReadSome();
      const size_t found = std::string_view(pending_).substr(searched).rfind('\n');
      if (found != std::string::npos) last = searched + found;
      searched = pending_.size();
      if (last == std::string::npos && pending_.size() > kMostLineBytes) {
        throw UserError(Format("%s, line %d: is longer than 1 GiB; is this a file of JSON lines?",
                               file_->name().c_str(), line_));
      }
    }
    const size_t cut = at_end_ ? pending_.size() : last + 1;
    chunk.text.assign(pending_, 0, cut);
    pending_.erase(0, cut);
    if (is_first) TakeByteOrderMark(chunk.text);
    if (chunk.text.empty()) {
      file_.reset();
      ++file_idx_;
      continue;
    }
    chunk.path = file_->name();
    chunk.first_line = line_;
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

// The length of the JSON number at the begin of `text`, or 0.
size_t NumberLength(std::string_view text) {
  size_t at = 0;
  const auto digits = [&] {
    const size_t begin = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
    return at - begin;
  };
  const auto take = [&](std::string_view any) {
    const bool is_there = at < text.size() && any.find(text[at]) != std::string_view::npos;
    at += is_there;
    return is_there;
  };
  take("-");
  const bool begins_with_zero = at < text.size() && text[at] == '0';
  const size_t whole = digits();
  if (whole == 0 || (begins_with_zero && whole > 1)) return 0;
  if (take(".") && digits() == 0) return 0;
  if (take("eE")) {
    take("+-");
    if (digits() == 0) return 0;
  }
  return at;
}

// Numbers that Python writes and this parser refuses (NaN, -Infinity, 1e400), and all others, become a zero
// and blanks, so that every other byte keeps its place.
std::string WithoutNumbers(std::string_view line) {
  std::string text(line);
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') in_string = !in_string;
    if (in_string) {
      if (text[i] == '\\') ++i;
      continue;
    }
    const std::string_view rest = std::string_view(text).substr(i);
    size_t length = NumberLength(rest);
    for (const std::string_view word : {"NaN", "Infinity", "-Infinity"}) {
      if (rest.starts_with(word)) length = word.size();
    }
    if (length == 0) continue;
    text.replace(i, length, "0" + std::string(length - 1, ' '));
    i += length - 1;
  }
  return text;
}

TextFinder Parsed(std::string_view line, const std::string& key, std::string& text) {
  try {
    TextFinder finder(key, text);
    nlohmann::json::sax_parse(line.begin(), line.end(), &finder);
    return finder;
  } catch (const UserError&) {
    const std::string other = WithoutNumbers(line);
    TextFinder finder(key, text);
    nlohmann::json::sax_parse(other.begin(), other.end(), &finder);
    return finder;
  }
}

}  // namespace

void ExtractText(std::string_view line, const std::string& key, std::string& text) {
  TextFinder finder = Parsed(line, key, text);
  if (!finder.is_object()) throw UserError("is not a JSON object; a line must be {\"" + key + "\": ...}");
  if (!finder.found()) throw UserError("has no key \"" + key + "\"; --key names the key of the text");
  if (!finder.is_string()) throw UserError("has a value at \"" + key + "\" that is not a string");
}

}  // namespace unipool
