#include "launcher/tokens/gpt2_tokenizer.h"

#include <array>
#include <atomic>
#include <fstream>
#include <nlohmann/json.hpp>

#include "launcher/tokens/piece_cache.h"
#include "runtime/errors.h"

namespace unipool {

namespace {

uint64_t NextNumber() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

void AppendUtf8(uint32_t character, std::string& text) {
  if (character < 0x80) {
    text.push_back(static_cast<char>(character));
  } else {  // all characters that stand for bytes are below U+0800
    text.push_back(static_cast<char>(0xC0 | character >> 6));
    text.push_back(static_cast<char>(0x80 | (character & 0x3F)));
  }
}

// The printable character that stands for each byte, as UTF-8.
std::array<std::string, 256> PrintableOfByte() {
  std::array<std::string, 256> printable;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool as_itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    AppendUtf8(as_itself ? byte : next++, printable[byte]);
  }
  return printable;
}

// "\u0120the" (shown) to " the" (bytes). False if a character stands for no byte.
bool BytesOfShown(const std::string& shown, const std::unordered_map<std::string, uint8_t>& byte_of,
                  std::string& bytes) {
  for (size_t i = 0; i < shown.size();) {
    const size_t length = static_cast<uint8_t>(shown[i]) < 0x80 ? 1 : 2;
    const auto found = byte_of.find(shown.substr(i, length));
    if (found == byte_of.end()) return false;
    bytes.push_back(static_cast<char>(found->second));
    i += length;
  }
  return true;
}

nlohmann::json ReadVocabularyJson(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw UserError(Format("--vocab %s: cannot be opened: %s", path.c_str(), std::strerror(errno)));
  nlohmann::json tokens = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!tokens.is_object() || tokens.empty()) {
    throw UserError(Format("--vocab %s: is not a JSON object of token strings and ids", path.c_str()));
  }
  return tokens;
}

}  // namespace

Gpt2Content ReadGpt2Files(const std::string& vocab_path, const std::string& merges_path) {
  Gpt2Content content;
  content.vocab = ReadVocabularyJson(vocab_path);
  content.vocab_name = "--vocab " + vocab_path;
  content.merges_name = "--merges " + merges_path;
  std::ifstream file(merges_path);
  if (!file)
    throw UserError(Format("--merges %s: cannot be opened: %s", merges_path.c_str(), std::strerror(errno)));
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    content.merges.push_back({.line = number, .text = line});
  }
  if (file.bad()) throw UserError(Format("--merges %s: reading failed", merges_path.c_str()));
  return content;
}

std::string ShownByte(uint8_t byte) {
  static const std::array<std::string, 256> printable = PrintableOfByte();
  return printable[byte];
}

Gpt2Tokenizer::Gpt2Tokenizer(const std::string& vocab_path, const std::string& merges_path)
    : Gpt2Tokenizer(ReadGpt2Files(vocab_path, merges_path)) {}

Gpt2Tokenizer::Gpt2Tokenizer(const Gpt2Content& content) : number_(NextNumber()) {
  const Vocabulary vocabulary = TakeVocabulary(content);
  TakeMerges(content, vocabulary);
}

Gpt2Tokenizer::Vocabulary Gpt2Tokenizer::TakeVocabulary(const Gpt2Content& content) {
  const nlohmann::json& tokens = content.vocab;
  const char* path = content.vocab_name.c_str();
  const std::array<std::string, 256> printable = PrintableOfByte();
  std::unordered_map<std::string, uint8_t> byte_of;
  for (int byte = 0; byte < 256; ++byte) byte_of[printable[byte]] = static_cast<uint8_t>(byte);

  Vocabulary vocabulary;
  bytes_of_id_.resize(tokens.size());
  std::vector<bool> seen(tokens.size());
  for (const auto& [shown, value] : tokens.items()) {
    const int64_t id = value.is_number_integer() ? value.get<int64_t>() : -1;
    if (id < 0 || id >= static_cast<int64_t>(tokens.size()) || seen[id]) {
      throw UserError(Format("%s: token \"%s\" has id %s; the ids must be 0 to %d, each once", path,
                             shown.c_str(), value.dump().c_str(), tokens.size() - 1));
    }
    seen[id] = true;
    if (!BytesOfShown(shown, byte_of, bytes_of_id_[id])) {
      throw UserError(
          Format("%s: token \"%s\" (id %d) has a character that stands for no byte; is this "
                 "the vocabulary of a GPT-2 tokenizer?",
                 path, shown.c_str(), id));
    }
    vocabulary[shown] = static_cast<int32_t>(id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = vocabulary.find(printable[byte]);
    if (found == vocabulary.end()) {
      throw UserError(
          Format("%s: byte %d (shown as \"%s\") has no token", path, byte, printable[byte].c_str()));
    }
    merger_.SetByte(static_cast<uint8_t>(byte), found->second);
  }
  const auto end_of_text = vocabulary.find(kEndOfText);
  if (end_of_text != vocabulary.end()) end_of_text_ = end_of_text->second;
  return vocabulary;
}

void Gpt2Tokenizer::TakeMerges(const Gpt2Content& content, const Vocabulary& vocabulary) {
  std::vector<bool> made(bytes_of_id_.size());  // may a merge use the token?
  for (const std::string& printable : PrintableOfByte()) made[vocabulary.at(printable)] = true;
  for (const auto& [number, line] : content.merges) {
    const auto fail = [&, number = number, &line = line](const char* problem) {
      throw UserError(Format("%s, line %d: \"%s\" %s; is this the merges file of --vocab?",
                             content.merges_name.c_str(), number, line.c_str(), problem));
    };
    const size_t blank = line.find(' ');
    if (blank == std::string::npos || line.find(' ', blank + 1) != std::string::npos) {
      fail("is not two tokens with one blank between them");
    }
    const std::string left = line.substr(0, blank), right = line.substr(blank + 1);
    const auto l = vocabulary.find(left), r = vocabulary.find(right), m = vocabulary.find(left + right);
    if (l == vocabulary.end() || r == vocabulary.end() || m == vocabulary.end()) {
      fail("names or makes a token that the vocabulary lacks");
    }
    if (!made[l->second] || !made[r->second]) fail("uses a token that no earlier line makes");
    if (made[m->second]) fail("makes a token that an earlier line makes");
    made[m->second] = true;
    CHECK(merger_.AddMerge(l->second, r->second, m->second)) << content.merges_name << " line " << number;
  }
}

void Gpt2Tokenizer::Encode(std::string_view text, std::vector<int32_t>& ids) const {
  const int64_t invalid = FirstInvalidUtf8(text);
  if (invalid >= 0) {
    throw UserError(Format("the text is not UTF-8: byte 0x%02x at offset %d",
                           static_cast<uint8_t>(text[invalid]), invalid));
  }
  thread_local PieceCache cache;
  cache.SetOwner(number_);
  splitter_.Split(text, [&](std::string_view piece) {
    if (!PieceCache::Holds(piece)) {
      merger_.Merge(piece, ids);
      return;
    }
    const PieceCache::Key key(piece);
    PieceCache::Slot& slot = cache.SlotOf(key);
    if (slot.Is(key)) {
      ids.insert(ids.end(), slot.ids, slot.ids + slot.num_ids);
      return;
    }
    const size_t before = ids.size();
    merger_.Merge(piece, ids);
    slot.Replace(key, std::span<const int32_t>(ids).subspan(before));
  });
}

std::string Gpt2Tokenizer::Decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) {
    CHECK(id >= 0 && id < vocab_size()) << "token id " << id << " of a vocabulary of " << vocab_size();
    text += bytes_of_id_[id];
  }
  return text;
}

}  // namespace unipool
