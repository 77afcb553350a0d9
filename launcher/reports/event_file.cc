#include "launcher/reports/event_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "launcher/reports/tensorboard_event.pb.h"
#include "runtime/errors.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

double SecondsSince1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::array<uint32_t, 256> CrcTable() {
  std::array<uint32_t, 256> table;
  for (uint32_t byte = 0; byte < table.size(); ++byte) {
    uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1) ^ ((rest & 1) != 0 ? 0x82f63b78 : 0);
    table[byte] = rest;
  }
  return table;
}

std::string LittleEndian(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> 8 * i);
  return text;
}

std::string RecordOf(const tensorboard::Event& event) {
  const std::string data = event.SerializeAsString(), length = LittleEndian(data.size(), 8);
  return length + LittleEndian(MaskedCrc32c(length), 4) + data + LittleEndian(MaskedCrc32c(data), 4);
}

// "" or why not.
std::string Append(int fd, const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t written = write(fd, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return std::strerror(errno);
    done += written;
  }
  return "";
}

}  // namespace

uint32_t Crc32c(const std::string& bytes) {
  static const std::array<uint32_t, 256> table = CrcTable();
  uint32_t sum = ~0U;
  for (const char c : bytes) sum = (sum >> 8) ^ table[(sum ^ static_cast<unsigned char>(c)) & 255];
  return ~sum;
}

uint32_t MaskedCrc32c(const std::string& bytes) {
  const uint32_t sum = Crc32c(bytes);
  return (sum >> 15 | sum << 17) + 0xa282ead8;
}

EventFile::EventFile(const std::string& run_dir, int64_t last_step) {
  const fs::path folder = fs::path(run_dir) / "tensorboard";
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw UserError(folder.string() + ": cannot be created (" + error.message() + ")");
  char host[256] = "host";
  gethostname(host, sizeof(host) - 1);
  // TensorBoard reads the files of a folder in order of their names.
  const std::string name = Format("events.out.tfevents.%d.%s.%d.", static_cast<int64_t>(SecondsSince1970()),
                                  host, static_cast<int>(getpid()));
  for (int i = 0; fd_ < 0; ++i) {
    path_ = (folder / (name + std::to_string(i))).string();
    fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (fd_ < 0 && errno != EEXIST)
      throw UserError(path_ + ": cannot be opened (" + std::strerror(errno) + ")");
  }
  tensorboard::Event version, start;
  version.set_wall_time(SecondsSince1970());
  version.set_file_version("brain.Event:2");
  start.set_wall_time(version.wall_time());
  start.set_step(last_step + 1);
  start.mutable_session_log()->set_status(tensorboard::SessionLog::START);
  const std::string problem = Append(fd_, RecordOf(version) + RecordOf(start));
  if (!problem.empty()) throw UserError(path_ + ": cannot be written (" + problem + "); make room");
}

EventFile::~EventFile() {
  if (fd_ >= 0) close(fd_);
}

std::string EventFile::Write(int64_t step, const std::vector<Scalar>& scalars) {
  tensorboard::Event event;
  event.set_wall_time(SecondsSince1970());
  event.set_step(step);
  for (const Scalar& scalar : scalars) {
    tensorboard::Summary::Value& value = *event.mutable_summary()->add_value();
    value.set_tag(scalar.name);
    value.set_simple_value(static_cast<float>(scalar.value));
  }
  return Append(fd_, RecordOf(event));
}

}  // namespace unipool
