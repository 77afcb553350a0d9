#include "launcher/traffic/rank_texts.h"

#include <cstdint>

namespace unipool {
namespace {

// A text is padded to a multiple, so that its size does not depend on what was measured.
constexpr size_t kShareBytes = 16 << 10;

}  // namespace

std::string FromFirst(Communicator& communicator, std::string text) {
  int64_t bytes = static_cast<int64_t>(text.size());
  communicator.Broadcast(&bytes, sizeof(bytes), 0, {.operation = "records of traffic"});
  text.resize(bytes);
  communicator.Broadcast(text.data(), bytes, 0, {.operation = "records of traffic"});
  return text;
}

std::vector<std::string> ToFirst(Communicator& communicator, std::string text) {
  text.resize((text.size() + kShareBytes - 1) / kShareBytes * kShareBytes);
  const int size = communicator.size();
  const bool is_first = communicator.rank() == 0;
  std::vector<int64_t> bytes(size);
  std::vector<std::string> texts(is_first ? size : 0);
  std::vector<SendBlock> send(size);
  std::vector<RecvBlock> recv(size);
  const auto own_bytes = static_cast<int64_t>(text.size());
  send[0] = {&own_bytes, sizeof(own_bytes)};
  for (int p = 0; is_first && p < size; ++p) recv[p] = {&bytes[p], sizeof(int64_t)};
  communicator.Exchange(send, recv, {.operation = "records of traffic"});
  send[0] = {text.data(), own_bytes};
  for (int p = 0; is_first && p < size; ++p) {
    texts[p].resize(bytes[p]);
    recv[p] = {texts[p].data(), bytes[p]};
  }
  communicator.Exchange(send, recv, {.operation = "records of traffic"});
  return texts;
}

}  // namespace unipool
