// A rank's communicators that write down what they start, all into one journal.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>

#include "runtime/communicator.h"
#include "runtime/errors.h"

namespace unipool {

class RecordingCommunicator : public Communicator {
 public:
  // Both must outlive it and what is split from it. A line per exchange: operation, step, slot.
  RecordingCommunicator(Communicator& transport, std::string& journal)
      : Communicator(transport.rank(), transport.size()), transport_(&transport), journal_(&journal) {}

  Ticket Start(std::span<const SendBlock> send, std::span<const RecvBlock> recv,
               const ExchangeLabel& label) override {
    *journal_ += Format("%s, step %d, slot %d\n", label.operation, label.step, label.slot);
    return transport_->Start(send, recv, label);
  }
  void Wait(Ticket ticket) override { transport_->Wait(ticket); }
  std::unique_ptr<Communicator> Split(int color, int key) override {
    auto part = transport_->Split(color, key);
    auto recording = std::make_unique<RecordingCommunicator>(*part, *journal_);
    recording->owned_ = std::move(part);
    return recording;
  }
  [[noreturn]] void Abort(int exit_code, const std::string& message) override {
    transport_->Abort(exit_code, message);
    std::abort();  // never reached; the compiler does not see that
  }

 private:
  Communicator* transport_;
  std::string* journal_;
  std::unique_ptr<Communicator> owned_;
};

}  // namespace unipool
