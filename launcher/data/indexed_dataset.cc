#include "launcher/data/indexed_dataset.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "launcher/data/copy_tokens.h"
#include "runtime/errors.h"

namespace unipool {

static_assert(std::endian::native == std::endian::little, "the format is little-endian and read as it lies");

namespace {

constexpr char kMagic[9] = {'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0};
constexpr int64_t kHeaderBytes = 34;
constexpr const char* kRemake = "make the dataset again, for example with `unipool tokenize`";

template <typename T>
T Load(const MappedFile& file, int64_t offset) {
  T value;
  std::memcpy(&value, file.data() + offset, sizeof(T));
  return value;
}

const char* TypeName(TokenType type) {
  switch (type) {
    case TokenType::kUint8:
      return "uint8";
    case TokenType::kInt8:
      return "int8";
    case TokenType::kInt16:
      return "int16";
    case TokenType::kInt32:
      return "int32";
    case TokenType::kInt64:
      return "int64";
    case TokenType::kUint16:
      return "uint16";
  }
  return "unknown";
}

}  // namespace

int64_t TokenBytes(TokenType type) {
  switch (type) {
    case TokenType::kUint8:
    case TokenType::kInt8:
      return 1;
    case TokenType::kInt16:
    case TokenType::kUint16:
      return 2;
    case TokenType::kInt32:
      return 4;
    case TokenType::kInt64:
      return 8;
  }
  LOG(FATAL) << "element code " << static_cast<int>(type);
}

TokenType TokenTypeFor(int64_t vocab_size) {
  return vocab_size < 65500 ? TokenType::kUint16 : TokenType::kInt32;
}

IndexedDataset::IndexedDataset(const std::string& prefix) : idx_(prefix + ".idx"), bin_(prefix + ".bin") {
  idx_.Reading([this] {
    ReadHeader();
    CheckArrays();
  });
  if (!idx_.IsNamed()) {  // a writer removes the index before it changes the tokens
    throw UserError(Format("%s: was replaced while it was opened; repeat the command when nothing writes it",
                           idx_.path().c_str()));
  }
}

void IndexedDataset::ReadHeader() {
  const char* path = idx_.path().c_str();
  const auto size = static_cast<int64_t>(idx_.size_bytes());
  const auto fail = [](const std::string& problem) { throw UserError(problem + "; " + kRemake); };
  if (size < kHeaderBytes) {
    fail(Format("%s: has %d bytes, but an index begins with a header of 34", path, size));
  }
  if (std::memcmp(idx_.data(), kMagic, sizeof kMagic) != 0) {
    fail(Format("%s: does not begin with \"MMIDIDX\", so it is no Megatron index", path));
  }
  const auto version = Load<uint64_t>(idx_, 9);
  if (version != 1) {
    fail(Format("%s: has version %d; only version 1 exists", path, version));
  }
  const auto code = Load<uint8_t>(idx_, 17);
  if (code < 1 || code > 8 || code == 6 || code == 7) {
    fail(Format(
        "%s: has element code %d; token ids are integers: 1 uint8, 2 int8, 3 int16, 4 int32, 5 int64 or "
        "8 uint16",
        path, code));
  }
  type_ = static_cast<TokenType>(code);
  const auto sequences = Load<uint64_t>(idx_, 18), entries = Load<uint64_t>(idx_, 26);
  const auto most = static_cast<uint64_t>(size) / 8;  // keeps the sum below from overflowing
  const uint64_t text_bytes =
      sequences > most || entries > most ? 0 : kHeaderBytes + 12 * sequences + 8 * entries;
  if (static_cast<uint64_t>(size) != text_bytes && static_cast<uint64_t>(size) != text_bytes + sequences) {
    fail(
        Format("%s: has %d bytes, but its header says %d sequences and %d document entries, which take "
               "34 + 12 * "
               "%d + 8 * %d bytes; the file is cut off or damaged",
               path, size, sequences, entries, sequences, entries));
  }
  num_sequences_ = static_cast<int64_t>(sequences);
  num_entries_ = static_cast<int64_t>(entries);
}

void IndexedDataset::CheckArrays() {
  const char* path = idx_.path().c_str();
  const auto fail = [](const std::string& problem) { throw UserError(problem + "; " + kRemake); };
  const int64_t element = TokenBytes(type_);
  for (int64_t s = 0; s < num_sequences_; ++s) {
    const int64_t length = sequence_length(s);
    const auto offset = Load<int64_t>(idx_, kHeaderBytes + 4 * num_sequences_ + 8 * s);
    if (length < 0 || offset != num_tokens_ * element) {
      fail(
          Format("%s: sequence %d has %d tokens from byte %d on; it should begin at byte %d, where the one "
                 "before ends",
                 path, s, length, offset, num_tokens_ * element));
    }
    num_tokens_ += length;
  }
  if (num_entries_ < 1 || document_begin(0) != 0 || document_begin(num_entries_ - 1) != num_sequences_) {
    fail(Format("%s: the document array must run from 0 to the number of sequences, %d", path,
                num_sequences_));
  }
  for (int64_t d = 1; d < num_entries_; ++d) {
    if (document_begin(d) < document_begin(d - 1)) {
      fail(Format("%s: document entry %d is %d, below the one before it, %d", path, d, document_begin(d),
                  document_begin(d - 1)));
    }
  }
  if (static_cast<int64_t>(bin_.size_bytes()) < num_tokens_ * element) {
    fail(Format("%s: has %d bytes, but %s says %d tokens of type %s, which take %d; the file is cut off",
                bin_.path().c_str(), bin_.size_bytes(), path, num_tokens_, TypeName(type_),
                num_tokens_ * element));
  }
}

int64_t IndexedDataset::sequence_length(int64_t sequence) const {
  return Load<int32_t>(idx_, kHeaderBytes + 4 * sequence);
}

int64_t IndexedDataset::sequence_begin(int64_t sequence) const {
  if (sequence == num_sequences_) return num_tokens_;
  return Load<int64_t>(idx_, kHeaderBytes + 4 * num_sequences_ + 8 * sequence) / TokenBytes(type_);
}

int64_t IndexedDataset::document_begin(int64_t entry) const {
  return Load<int64_t>(idx_, kHeaderBytes + 12 * num_sequences_ + 8 * entry);
}

int64_t IndexedDataset::Boundary(double share) const {
  return sequence_begin(std::llrint(share * static_cast<double>(num_sequences_)));
}

std::string IndexedDataset::Cuts() const {
  return Format("between its %d sequences", num_sequences_);
}

void IndexedDataset::Read(int64_t first, std::span<int32_t> tokens, int64_t vocab) const {
  CHECK(first >= 0 && first + static_cast<int64_t>(tokens.size()) <= num_tokens_)
      << name() << ": tokens " << first << " + " << tokens.size() << " of " << num_tokens_;
  const uint8_t* from = bin_.data() + first * TokenBytes(type_);
  const auto copy = [&]<typename T>(T) {
    int64_t bad = -1, id = 0;
    bin_.Reading([&] {
      bad = CopyTokens<T>(from, vocab, tokens);
      if (bad >= 0) id = static_cast<int64_t>(Load<T>(bin_, (first + bad) * static_cast<int64_t>(sizeof(T))));
    });
    if (bad < 0) return;
    throw UserError(OutsideVocabulary(name(), first + bad, id, vocab, 0));
  };
  switch (type_) {
    case TokenType::kUint8:
      return copy(uint8_t{});
    case TokenType::kInt8:
      return copy(int8_t{});
    case TokenType::kInt16:
      return copy(int16_t{});
    case TokenType::kInt32:
      return copy(int32_t{});
    case TokenType::kInt64:
      return copy(int64_t{});
    case TokenType::kUint16:
      return copy(uint16_t{});
  }
}

}  // namespace unipool
