// The file of one rank's exchanges (traffic_record.h): a line of JSON, then records. It is written in whole
// records, so a killed job leaves a readable file: what is torn at its end is cut by the reader.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/errors.h"
#include "runtime/traffic_record.h"

namespace unipool {

// "rank-00012.bin"
std::string TrafficFileName(int rank);

// A text cut to `room` bytes or filled up with blanks, whose characters stand in JSON as they are: it can be
// written over another one in a file.
std::string FilledText(std::string text, size_t room);
// The text of it.
std::string WithoutBlanksAtEnd(std::string text);

class TrafficFileWriter {
 public:
  // Opens nothing yet. `path`'s folder must exist at the first Flush.
  TrafficFileWriter(std::string path, const TrafficHeader& header);
  ~TrafficFileWriter();
  TrafficFileWriter(const TrafficFileWriter&) = delete;

  // These only gather, in memory. Sizes and checks are filled in here.
  void Add(ExchangeRecord record, std::span<const PeerBytes> peers);
  void Add(StepRecord record);
  void Add(ClockRecord record);
  void AddOperation(int index, std::string_view name);
  void AddCommunicator(int index, const CommunicatorName& name);

  // Appends what was gathered. The first call replaces an older file of the path. Returns what went wrong, a
  // sentence; empty: nothing. What was gathered is gone either way. After a failure the file ends with what
  // was appended before, its first line says why, and all later calls do nothing and return nothing.
  std::string Flush();

 private:
  template <class Record>
  void AddRecord(Record record, const void* tail, size_t tail_bytes);
  void EndEarly(const std::string& why);
  std::string path_, pending_;
  int fd_ = -1;
  bool has_failed_ = false;
  int64_t problem_at_ = 0, whole_bytes_ = 0;  // in the file: TrafficHeader::problem; what was appended
  int64_t last_step_ = -1;                    // that was added
};

struct RecordedExchange {
  ExchangeRecord record;
  std::vector<PeerBytes> peers;
};

struct TrafficFile {
  TrafficHeader header;
  std::vector<std::string> operations;          // by index
  std::vector<CommunicatorName> communicators;  // by index
  std::vector<RecordedExchange> exchanges;
  std::vector<StepRecord> steps;
  std::vector<ClockRecord> clocks;
  int64_t cut_bytes = 0;  // torn at the end, left out
};

// Records of another format than this program's.
class TrafficFormatError : public UserError {
 public:
  using UserError::UserError;
};

// Throws UserError: no such file, or not such a file; TrafficFormatError: one of another format (the sentence
// names both formats and program versions; `program_version` is this program's).
TrafficFile ReadTrafficFile(const std::string& path, const std::string& program_version);

}  // namespace unipool
