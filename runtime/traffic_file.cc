#include "runtime/traffic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/errors.h"
#include "runtime/file_sum.h"

namespace unipool {
namespace {

using Json = nlohmann::ordered_json;

static_assert(std::endian::native == std::endian::little, "files are little endian");
constexpr size_t kCheckOffset = 8;  // in TrafficHead
constexpr uint32_t kMostNameBytes = 1 << 20;
constexpr int32_t kMostNames = 1 << 16;  // of a table

// Of a record whose check is 0. REQUIRES: a multiple of 8 bytes.
uint32_t CheckOf(const char* record, size_t bytes) {
  uint64_t sum = 0x9e3779b97f4a7c15;
  for (size_t i = 0; i < bytes; i += 8) {
    uint64_t word;
    std::memcpy(&word, record + i, 8);
    sum = (std::rotl(sum, 5) ^ word) * 0x2545f4914f6cdd1d;
  }
  return static_cast<uint32_t>(sum >> 32);
}

Json JsonOf(const TrafficHeader& header) {
  return {{"unipool_traffic", header.format},
          {"program_version", header.program_version},
          {"run_id", header.run_id},
          {"rank", header.rank},
          {"world", header.world},
          {"host", header.host},
          {"boot_id", header.boot_id},
          {"clock", header.clock},
          {"slots_per_time", header.slots_per_time},
          {"problem", FilledText(header.problem, TrafficHeader::kProblemRoom)}};
}

CommunicatorName NameOfJson(std::string_view text) {
  const Json json = Json::parse(text);
  return {.name = json.at("name").get<std::string>(),
          .members = json.at("members").get<std::vector<int>>(),
          .on_device = json.at("on_device").get<bool>(),
          .carrier = json.at("carrier").get<std::string>()};
}

template <class Element>
Element& At(std::vector<Element>& table, int32_t index) {
  if (static_cast<size_t>(index) >= table.size()) table.resize(index + 1);
  return table[index];
}

class Reader {
 public:
  Reader(const std::string& path, const std::string& program_version)
      : path_(path), text_(ReadTextFile(path)) {
    ReadHeader(program_version);
    while (ReadRecord()) {
    }
    file_.cut_bytes = static_cast<int64_t>(text_.size() - next_);
  }
  TrafficFile& file() { return file_; }

 private:
  void ReadHeader(const std::string& program_version) {
    const size_t end = text_.find('\n');
    const Json json = end == text_.npos ? Json() : Json::parse(text_.substr(0, end), nullptr, false);
    if (!json.is_object() || !json.contains("unipool_traffic") ||
        !json["unipool_traffic"].is_number_integer()) {
      throw UserError(path_ + ": not a file of recorded exchanges, or torn in its first line");
    }
    TrafficHeader& header = file_.header;
    header.format = json["unipool_traffic"].get<int>();
    header.program_version = json.value("program_version", "");
    if (header.format != kTrafficFormat) {
      throw TrafficFormatError(
          Format("%s: records of format %d, written by program version %s; this is program version %s, which "
                 "reads format %d: use the program that wrote them",
                 path_.c_str(), header.format, header.program_version.c_str(), program_version.c_str(),
                 kTrafficFormat));
    }
    try {
      header.run_id = json.at("run_id").get<std::string>();
      header.rank = json.at("rank").get<int>();
      header.world = json.at("world").get<int>();
      header.host = json.at("host").get<std::string>();
      header.boot_id = json.at("boot_id").get<std::string>();
      header.clock = json.at("clock").get<std::string>();
      header.slots_per_time = json.at("slots_per_time").get<int>();
      header.problem = WithoutBlanksAtEnd(json.value("problem", ""));
    } catch (const Json::exception& error) {
      throw UserError(path_ + ": its first line lacks something (" + error.what() + ")");
    }
    next_ = end + 1;
  }

  // False at the end, and where what follows is no whole record.
  bool ReadRecord() {
    TrafficHead head;
    if (text_.size() - next_ < sizeof(head)) return false;
    std::memcpy(&head, text_.data() + next_, sizeof(head));
    if (head.bytes < sizeof(head) || head.bytes % 8 != 0 || head.bytes > text_.size() - next_) return false;
    char* const record = text_.data() + next_;
    std::memset(record + kCheckOffset, 0, sizeof(head.check));
    const bool is_whole = CheckOf(record, head.bytes) == head.check;
    std::memcpy(record + kCheckOffset, &head.check, sizeof(head.check));
    if (!is_whole || !Take(head, record)) return false;
    next_ += head.bytes;
    return true;
  }

  // What a shorter record lacks keeps its default.
  template <class Record>
  static bool Copy(const TrafficHead& head, const char* data, Record& record, size_t fewest_bytes) {
    if (head.bytes < fewest_bytes) return false;
    std::memcpy(&record, data, std::min<size_t>(head.bytes, sizeof(record)));
    return true;
  }
  template <class Record>
  static bool Copy(const TrafficHead& head, const char* data, Record& record) {
    return Copy(head, data, record, sizeof(record));
  }

  bool Take(const TrafficHead& head, const char* data) {
    switch (head.kind) {
      case TrafficKind::kExchange:
        return TakeExchange(head, data);
      case TrafficKind::kName:
        return TakeName(head, data);
      case TrafficKind::kStep:
        return Copy(head, data, file_.steps.emplace_back(), StepRecord::kFewestBytes) ||
               (file_.steps.pop_back(), false);
      case TrafficKind::kClock:
        return Copy(head, data, file_.clocks.emplace_back()) || (file_.clocks.pop_back(), false);
    }
    return false;
  }

  bool TakeExchange(const TrafficHead& head, const char* data) {
    RecordedExchange exchange;
    if (!Copy(head, data, exchange.record)) return false;
    const int64_t peers = exchange.record.num_peers;
    if (peers < 0 || head.bytes != sizeof(ExchangeRecord) + peers * sizeof(PeerBytes)) return false;
    exchange.peers.resize(peers);
    if (peers > 0)
      std::memcpy(exchange.peers.data(), data + sizeof(ExchangeRecord), peers * sizeof(PeerBytes));
    file_.exchanges.push_back(std::move(exchange));
    return true;
  }

  bool TakeName(const TrafficHead& head, const char* data) {
    NameRecord name;
    if (!Copy(head, data, name) || name.length < 0 || name.index < 0 || name.index >= kMostNames)
      return false;
    if (sizeof(name) + name.length > head.bytes || head.bytes > kMostNameBytes) return false;
    const std::string_view text(data + sizeof(name), name.length);
    if (name.table == NameRecord::kOperation) {
      At(file_.operations, name.index) = text;
      return true;
    }
    if (name.table != NameRecord::kCommunicator) return false;
    try {
      At(file_.communicators, name.index) = NameOfJson(text);
    } catch (const Json::exception&) {
      return false;
    }
    return true;
  }

  const std::string& path_;
  std::string text_;
  size_t next_ = 0;
  TrafficFile file_;
};

}  // namespace

std::string TrafficFileName(int rank) {
  return Format("rank-%05d.bin", rank);
}

std::string FilledText(std::string text, size_t room) {
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';
    if (c == '"' || c == '\\') c = '\'';
  }
  text.resize(room, ' ');
  return text;
}

std::string WithoutBlanksAtEnd(std::string text) {
  text.resize(text.find_last_not_of(' ') + 1);
  return text;
}

TrafficFileWriter::TrafficFileWriter(std::string path, const TrafficHeader& header)
    : path_(std::move(path)), pending_(JsonOf(header).dump() + "\n") {
  problem_at_ = static_cast<int64_t>(pending_.size()) - 3 - TrafficHeader::kProblemRoom;
}

TrafficFileWriter::~TrafficFileWriter() {
  if (fd_ >= 0) close(fd_);
}

template <class Record>
void TrafficFileWriter::AddRecord(Record record, const void* tail, size_t tail_bytes) {
  if (has_failed_) return;
  const size_t begin = pending_.size(), padding = (8 - tail_bytes % 8) % 8;
  record.head.bytes = static_cast<uint32_t>(sizeof(record) + tail_bytes + padding);
  record.head.check = 0;
  pending_.append(reinterpret_cast<const char*>(&record), sizeof(record));
  pending_.append(static_cast<const char*>(tail), tail_bytes);
  pending_.append(padding, '\0');
  const uint32_t check = CheckOf(pending_.data() + begin, record.head.bytes);
  std::memcpy(pending_.data() + begin + kCheckOffset, &check, sizeof(check));
}

void TrafficFileWriter::Add(ExchangeRecord record, std::span<const PeerBytes> peers) {
  record.num_peers = static_cast<int32_t>(peers.size());
  AddRecord(record, peers.data(), peers.size_bytes());
}

void TrafficFileWriter::Add(StepRecord record) {
  last_step_ = record.step;
  AddRecord(record, "", 0);
}

void TrafficFileWriter::Add(ClockRecord record) {
  AddRecord(record, "", 0);
}

void TrafficFileWriter::AddOperation(int index, std::string_view name) {
  AddRecord(
      NameRecord{
          .table = NameRecord::kOperation, .index = index, .length = static_cast<int32_t>(name.size())},
      name.data(), name.size());
}

void TrafficFileWriter::AddCommunicator(int index, const CommunicatorName& name) {
  const Json json{{"name", name.name},
                  {"members", name.members},
                  {"on_device", name.on_device},
                  {"carrier", name.carrier}};
  const std::string text = json.dump();
  AddRecord(
      NameRecord{
          .table = NameRecord::kCommunicator, .index = index, .length = static_cast<int32_t>(text.size())},
      text.data(), text.size());
}

std::string TrafficFileWriter::Flush() {
  if (has_failed_) return "";
  errno = 0;
  if (fd_ < 0) fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0666);
  size_t done = 0;
  while (fd_ >= 0 && done < pending_.size()) {
    const ssize_t written = write(fd_, pending_.data() + done, pending_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    done += written;
  }
  has_failed_ = done < pending_.size() || fd_ < 0;
  const int error = errno;
  const auto bytes = static_cast<int64_t>(pending_.size());
  pending_.clear();
  if (!has_failed_) {
    whole_bytes_ += bytes;
    return "";
  }
  pending_.shrink_to_fit();
  const std::string why = Format("cannot be written (%s)", std::strerror(error));
  if (fd_ >= 0)
    EndEarly(why + (last_step_ < 0 ? "" : Format("; step %d and later ones are not here", last_step_)));
  return path_ + ": " + why;
}

// What stands in the first line takes no room that the file does not have.
void TrafficFileWriter::EndEarly(const std::string& why) {
  if (ftruncate(fd_, whole_bytes_) != 0 || whole_bytes_ == 0) return;
  const std::string text = FilledText(why, TrafficHeader::kProblemRoom);
  [[maybe_unused]] const ssize_t written = pwrite(fd_, text.data(), text.size(), problem_at_);
}

TrafficFile ReadTrafficFile(const std::string& path, const std::string& program_version) {
  return std::move(Reader(path, program_version).file());
}

}  // namespace unipool
