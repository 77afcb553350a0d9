// Scalars of a run as TensorBoard reads them: RUN_DIR/tensorboard/events.out.tfevents.*, one file a start. A
// file is a row of records, each a protobuf message Event (tensorboard_event.proto) between its length and
// two masked CRC32C sums, as TFRecord files have them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/reports/metric_list.h"

namespace unipool {

// CRC-32C (Castagnoli) of these bytes, as in RFC 3720, appendix B.4.
uint32_t Crc32c(const std::string& bytes);
// The sum as TFRecord files hold it: rotated right by 15 bits, plus 0xa282ead8.
uint32_t MaskedCrc32c(const std::string& bytes);

// One rank of the job has one.
class EventFile {
 public:
  // The file of a run that continues after step `last_step`: TensorBoard leaves out what files of starts
  // before have for later steps. Creates the folder. Throws UserError.
  EventFile(const std::string& run_dir, int64_t last_step);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  // Appends the scalars of a step, in one write, so that readers see whole records. Returns "", or why it
  // cannot be written, for example "No space left on device".
  std::string Write(int64_t step, const std::vector<Scalar>& scalars);
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
};

}  // namespace unipool
