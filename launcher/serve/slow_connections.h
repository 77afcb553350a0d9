// Ends connections whose request takes too long to arrive. The library's own limit is for each piece of it,
// so a client that sends a byte now and then could hold a thread for ever.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>

namespace unipool {

class SlowConnections {
 public:
  // Watches connections of this process to its `port`: from a connection's first sight, and again from the
  // end of each answer, a whole request must be there within `limit`.
  SlowConnections(int port, std::chrono::milliseconds limit);
  ~SlowConnections();
  SlowConnections(const SlowConnections&) = delete;

  // Of the client's end.
  using Client = std::pair<std::string, int>;  // its address as numbers, its port
  // While a request is worked on and answered its connection has time.
  void Begin(const Client& client);
  void End(const Client& client);

  // Ends all connections, from now on also new ones.
  void EndAll();

 private:
  using Clock = std::chrono::steady_clock;
  void Watch();
  void Look();

  const int port_;
  const std::chrono::milliseconds limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_over_ = false, ends_all_ = false;
  std::set<Client> busy_;
  struct Seen {
    unsigned long inode = 0;  // of the socket: numbers of files are used again
    Clock::time_point since;
  };
  std::map<Client, Seen> seen_;
  std::thread thread_;
};

}  // namespace unipool
