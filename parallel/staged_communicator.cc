#include "parallel/staged_communicator.h"

#include <array>
#include <cstdlib>

namespace unipool {
namespace {

class StagedCommunicator : public DeviceCommunicator {
 public:
  StagedCommunicator(std::unique_ptr<Communicator> host, std::shared_ptr<StagedTraffic> traffic)
      : DeviceCommunicator(host->rank(), host->size(), traffic->device()),
        host_(std::move(host)),
        traffic_(std::move(traffic)) {}
  ~StagedCommunicator() override {
    traffic_->PostThrough(INT64_MAX);  // exchanges without blocks for others may be left
  }
  Ticket Start(std::span<const SendBlock> send, std::span<const RecvBlock> recv,
               const ExchangeLabel& label) override {
    return traffic_->Start(*host_, send, recv, label);
  }
  void Wait(Ticket ticket) override { traffic_->Wait(ticket); }
  [[noreturn]] void Abort(int exit_code, const std::string& message) override {
    host_->Abort(exit_code, message);
    std::abort();  // never reached; the compiler does not see that
  }

 protected:
  // Bounds pinned memory; two rounds are under way at a time.
  int64_t SumRoundBytes() const override { return int64_t{16} << 20; }
  int64_t GatherRoundBytes() const override { return int64_t{16} << 20; }

 private:
  std::unique_ptr<Communicator> host_;
  std::shared_ptr<StagedTraffic> traffic_;
};

class HostGate : public Communicator {
 public:
  HostGate(Communicator& host, std::shared_ptr<StagedTraffic> traffic)
      : Communicator(host.rank(), host.size()), host_(host), traffic_(std::move(traffic)) {}
  Ticket Start(std::span<const SendBlock> send, std::span<const RecvBlock> recv,
               const ExchangeLabel& label) override {
    UnderWay& x = under_way_[next_ % kMaxUnderWay];
    CHECK(!x.busy) << "more than " << kMaxUnderWay << " exchanges under way in '" << label.operation << "'";
    x = {.busy = true, .number = traffic_->NextNumber(), .ticket = 0};
    traffic_->PostReady();
    x.ticket = host_.Start(send, recv, label);
    return next_++;
  }
  void Wait(Ticket ticket) override {
    UnderWay& x = under_way_[ticket % kMaxUnderWay];
    CHECK(ticket >= 0 && ticket < next_ && x.busy) << "this exchange is not under way: " << ticket;
    traffic_->PostThrough(x.number);
    host_.Wait(x.ticket);
    x.busy = false;
  }
  std::unique_ptr<Communicator> Split(int color, int key) override {
    traffic_->PostThrough(INT64_MAX);
    return host_.Split(color, key);
  }
  [[noreturn]] void Abort(int exit_code, const std::string& message) override {
    host_.Abort(exit_code, message);
    std::abort();  // never reached
  }

 private:
  static constexpr int kMaxUnderWay = 32;
  struct UnderWay {
    bool busy = false;
    int64_t number = 0;
    Ticket ticket = 0;
  };
  Communicator& host_;
  std::shared_ptr<StagedTraffic> traffic_;
  std::array<UnderWay, kMaxUnderWay> under_way_;
  Ticket next_ = 0;
};

}  // namespace

std::unique_ptr<Communicator> MakeStagedCommunicator(std::unique_ptr<Communicator> host,
                                                     std::shared_ptr<StagedTraffic> traffic) {
  return std::make_unique<StagedCommunicator>(std::move(host), std::move(traffic));
}

std::unique_ptr<Communicator> MakeHostGate(Communicator& host, std::shared_ptr<StagedTraffic> traffic) {
  return std::make_unique<HostGate>(host, std::move(traffic));
}

}  // namespace unipool
