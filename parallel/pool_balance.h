// Sums small vectors over ranks while other work goes on. A vector's key is the number of the microbatch that
// it belongs to, and not a count of calls. So a statistic can be asked for when it is needed, and its age is
// known.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/communicator.h"

namespace unipool {

class PoolBalance {
 public:
  // Vectors of `size` doubles. At most `max_in_flight` numbers are kept: Sum(number) works until
  // Start(number + max_in_flight). Nobody else uses the communicator.
  PoolBalance(std::unique_ptr<Communicator> communicator, int64_t size, int max_in_flight);

  // Sends this rank's vector of `number`. Numbers rise by one, on every rank alike. Does not wait. Each rank
  // sends (ranks - 1) * size * 8 bytes.
  void Start(int64_t number, std::span<const double> values);
  // The sum over ranks, in rank order. Waits for it if need be. REQUIRES: Start(number) was called and is
  // still kept.
  std::span<const double> Sum(int64_t number);

 private:
  struct Entry {
    int64_t number = -1;
    Communicator::Ticket ticket = 0;
    bool is_summed = false;
    std::vector<double> sent, received, sum;  // [size], [ranks * size], [size]
  };
  Entry& At(int64_t number) { return entries_[number % entries_.size()]; }
  std::unique_ptr<Communicator> communicator_;
  int64_t size_;
  std::vector<Entry> entries_;
  std::vector<SendBlock> send_;
  std::vector<RecvBlock> recv_;
};

}  // namespace unipool
