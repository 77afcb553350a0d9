// One exchange's blocks in device memory, written and checked by the compute queue. Every byte tells where it
// comes from, where it goes and in which exchange.
#pragma once

#include <gtest/gtest.h>

#include <cstring>

#include "runtime/random.h"
#include "tests/parallel/device/device_rank.h"

namespace unipool {

class DeviceBlocks {
 public:
  static constexpr int64_t kMostBytes = 2000;  // of a block

  DeviceBlocks(DeviceRank& device, int rank, int size)
      : device_(device),
        rank_(rank),
        size_(size),
        out_(device.Allocate(size * kMostBytes)),
        in_(device.Allocate(size * kMostBytes)) {}

  // Exchange `e` of a test; the three kinds of sizes: mostly nothing, small, uneven. Own blocks too.
  static int64_t Bytes(int e, int from, int to) {
    const uint64_t bits = RandomBits(911, e * 64 + from * 8 + to);
    if (bits % 3 == 0) return 0;
    return bits % 3 == 1 ? bits / 3 % 40 : bits / 3 % kMostBytes;
  }

  // Everything as the compute queue does it: fills what leaves, destroys what is there where data comes.
  Communicator::Ticket Start(Communicator& communicator, int e) {
    std::vector<SendBlock> send(size_);
    std::vector<RecvBlock> recv(size_);
    for (int p = 0; p < size_; ++p) {
      send[p] = {Out(p), Bytes(e, rank_, p)};
      recv[p] = {In(p), Bytes(e, p, rank_)};
    }
    device_.Compute("fill", Accesses(true), [this, e] {
      std::memset(in_.data(), 0xa5, in_.max_bytes());
      for (int p = 0; p < size_; ++p) {
        for (int64_t i = 0; i < Bytes(e, rank_, p); ++i) Out(p)[i] = ByteAt(e, rank_, p, i);
      }
    });
    return communicator.Start(send, recv, {.operation = "test", .step = e, .slot = 0});
  }
  // After Wait: checks what came, and destroys what was sent.
  void CheckArrived(int e) {
    device_.Compute("check", Accesses(false), [this, e] {
      std::memset(out_.data(), 0x5a, out_.max_bytes());
      for (int p = 0; p < size_; ++p) {
        const int64_t bytes = Bytes(e, p, rank_);
        int64_t wrong = 0;
        for (int64_t i = 0; i < bytes; ++i) wrong += In(p)[i] != ByteAt(e, p, rank_, i);
        EXPECT_EQ(wrong, 0) << "of " << bytes << " bytes from rank " << p << " in exchange " << e;
        EXPECT_TRUE(bytes == kMostBytes || In(p)[bytes] == static_cast<char>(0xa5)) << "written behind";
        num_checked_ += bytes;
      }
    });
  }
  int64_t num_checked_bytes() const { return num_checked_; }

 private:
  char* Out(int p) const { return static_cast<char*>(out_.data()) + p * kMostBytes; }
  char* In(int p) const { return static_cast<char*>(in_.data()) + p * kMostBytes; }
  std::vector<emulation::Access> Accesses(bool writes_in) const {
    return {{out_.data(), out_.max_bytes(), true}, {in_.data(), in_.max_bytes(), writes_in}};
  }
  static char ByteAt(int e, int from, int to, int64_t i) {
    const uint64_t origin = (static_cast<uint64_t>(e) << 32) + (from << 16) + to;
    return static_cast<char>(RandomBits(origin, i / 8) >> (i % 8 * 8));
  }

  DeviceRank& device_;
  int rank_, size_;
  Buffer out_, in_;
  int64_t num_checked_ = 0;
};

}  // namespace unipool
