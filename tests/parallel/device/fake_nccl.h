// Plays NCCL's part between ranks that are threads: the sends and receives of a group are one piece of work
// in the queue, which hands over what it sends and then waits for what it receives, as NCCL's kernels do. As
// NCCL does, Init and Finalize wait for all ranks, and a pair's first group in a direction waits for the
// other end of it. Everything is written down, and what can go wrong can be asked for.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "parallel/nccl_api.h"
#include "runtime/errors.h"
#include "tests/cuda_emulation/kernel_queue.h"

namespace unipool {

// What the ranks of a job share.
struct FakeNcclWire {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::pair<int, int>, std::deque<std::vector<char>>> blocks;  // on their way, by (from, to)
  int num_init = 0, num_finalize = 0;                                   // ranks that have called it
  std::set<std::pair<int, int>> senders, receivers;                     // (from, to): that end is connected
};

class FakeNccl : public NcclApi {
 public:
  struct Options {
    int fails_at_group = -1;     // this one ends with an asynchronous error
    bool stays_away = false;     // this rank does not come to Init: the others wait in it
    bool connects_none = false;  // this rank does not come to its first group: the others wait in theirs
    bool moves_nothing = false;  // groups leave no work in the queue
  };
  // `journal`: a line per call, "send 12 to 3", must outlive it.
  FakeNccl(std::shared_ptr<FakeNcclWire> wire, std::vector<std::string>& journal, Options options)
      : wire_(std::move(wire)), journal_(journal), options_(options) {}
  explicit FakeNccl(std::shared_ptr<FakeNcclWire> wire, std::vector<std::string>& journal)
      : FakeNccl(std::move(wire), journal, Options{}) {}
  ~FakeNccl() override { journal_.push_back("destroy"); }

  std::string UniqueId() override { return std::string("\0\1id", 4); }
  void Init(const std::string& unique_id, int rank, int size) override {
    EXPECT_EQ(unique_id, UniqueId());
    rank_ = rank;
    size_ = size;
    journal_.push_back(Format("init %d of %d", rank, size));
    std::unique_lock lock(wire_->mutex);
    if (!options_.stays_away) ++wire_->num_init;
    AwaitOthers(lock, "Init", [&] { return wire_->num_init == size; });
  }
  void GroupStart() override {
    EXPECT_FALSE(in_group_) << "a group in a group";
    in_group_ = true;
    journal_.push_back("group");
  }
  void Send(const void* data, int64_t bytes, int peer, void* queue) override {
    EXPECT_TRUE(in_group_ && bytes > 0 && peer != rank_);
    queue_ = queue;
    journal_.push_back(Format("send %d to %d", bytes, peer));
    sends_.push_back({const_cast<void*>(data), bytes, peer});
  }
  void Recv(void* data, int64_t bytes, int peer, void* queue) override {
    EXPECT_TRUE(in_group_ && bytes > 0 && peer != rank_);
    queue_ = queue;
    journal_.push_back(Format("receive %d from %d", bytes, peer));
    recvs_.push_back({data, bytes, peer});
  }
  void GroupEnd() override {
    EXPECT_TRUE(in_group_ && !(sends_.empty() && recvs_.empty()));
    in_group_ = false;
    failed_ = failed_ || num_groups_ == options_.fails_at_group;
    ++num_groups_;
    Connect();
    if (!options_.moves_nothing) Enqueue();
    sends_.clear();
    recvs_.clear();
  }
  bool HasFailed() override { return failed_; }
  std::string ErrorText() override { return "remote process exited or there was a network error"; }
  void Finalize() override {
    journal_.push_back("finalize");
    std::unique_lock lock(wire_->mutex);
    ++wire_->num_finalize;
    AwaitOthers(lock, "Finalize", [&] { return wire_->num_finalize == size_; });
  }
  void Abort() override { journal_.push_back("abort"); }

 private:
  struct Block {
    void* data;
    int64_t bytes;
    int peer;
  };
  template <class Condition>
  void AwaitOthers(std::unique_lock<std::mutex>& lock, const char* call, Condition have_come) {
    wire_->changed.notify_all();
    ASSERT_TRUE(wire_->changed.wait_for(lock, std::chrono::seconds(20), have_come))
        << "rank " << rank_ << " waits in " << call;
  }
  void Connect() {
    std::unique_lock lock(wire_->mutex);
    std::set<std::pair<int, int>> to_senders, to_receivers;
    for (const Block& block : recvs_) {
      if (!wire_->receivers.contains({block.peer, rank_})) to_senders.insert({block.peer, rank_});
    }
    for (const Block& block : sends_) {
      if (!wire_->senders.contains({rank_, block.peer})) to_receivers.insert({rank_, block.peer});
    }
    for (const auto& [from, to] : to_senders) journal_.push_back(Format("connect from %d", from));
    for (const auto& [from, to] : to_receivers) journal_.push_back(Format("connect to %d", to));
    if (!options_.connects_none) {
      wire_->receivers.insert(to_senders.begin(), to_senders.end());
      wire_->senders.insert(to_receivers.begin(), to_receivers.end());
    }
    AwaitOthers(lock, "GroupEnd", [&] {
      return std::ranges::includes(wire_->senders, to_senders) &&
             std::ranges::includes(wire_->receivers, to_receivers);
    });
  }
  void Enqueue() {
    std::vector<emulation::Access> accesses;
    for (const Block& block : sends_) accesses.push_back({block.data, block.bytes, false});
    for (const Block& block : recvs_) accesses.push_back({block.data, block.bytes, true});
    static_cast<emulation::KernelQueue*>(queue_)->Enqueue(
        "NCCL group", std::move(accesses), [wire = wire_, rank = rank_, sends = sends_, recvs = recvs_] {
          std::unique_lock lock(wire->mutex);
          for (const Block& block : sends) {
            const char* data = static_cast<const char*>(block.data);
            wire->blocks[{rank, block.peer}].emplace_back(data, data + block.bytes);
          }
          wire->changed.notify_all();
          for (const Block& block : recvs) {
            auto& arrived = wire->blocks[{block.peer, rank}];
            ASSERT_TRUE(
                wire->changed.wait_for(lock, std::chrono::seconds(20), [&] { return !arrived.empty(); }))
                << "rank " << rank << " waits for rank " << block.peer;
            EXPECT_EQ(static_cast<int64_t>(arrived.front().size()), block.bytes);
            std::memcpy(block.data, arrived.front().data(),
                        std::min(block.bytes, static_cast<int64_t>(arrived.front().size())));
            arrived.pop_front();
          }
        });
  }

  std::shared_ptr<FakeNcclWire> wire_;
  std::vector<std::string>& journal_;
  const Options options_;
  int rank_ = -1, size_ = 0, num_groups_ = 0;
  bool in_group_ = false, failed_ = false;
  void* queue_ = nullptr;
  std::vector<Block> sends_, recvs_;
};

}  // namespace unipool
