// Room for the records of one step, sized ahead: what finds none is counted and left out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/traffic_record.h"

namespace unipool {

class TrafficKeep {
 public:
  // Forgets what is kept. 0: keeps nothing from now on.
  void Reserve(int64_t num_records, int64_t num_peers) {
    records_ = std::vector<ExchangeRecord>();  // not {}, which would keep the memory
    peers_ = std::vector<PeerBytes>();
    first_peer_ = std::vector<int64_t>();
    records_.reserve(num_records);
    first_peer_.reserve(num_records);
    peers_.reserve(num_peers);
    Clear();
  }
  void Clear() {
    records_.clear();
    first_peer_.clear();
    peers_.clear();
    num_dropped_ = 0;
  }
  bool is_on() const { return records_.capacity() > 0; }
  int64_t capacity() const { return static_cast<int64_t>(records_.capacity()); }

  // Its index, or -1: there is no room for it and `num_peers` peers, and it is counted as dropped.
  int64_t Add(const ExchangeRecord& record, int64_t num_peers) {
    if (records_.size() == records_.capacity() || peers_.size() + num_peers > peers_.capacity()) {
      ++num_dropped_;
      return -1;
    }
    records_.push_back(record);
    records_.back().num_peers = static_cast<int32_t>(num_peers);
    records_.back().dropped_before = static_cast<uint32_t>(num_dropped_);
    first_peer_.push_back(static_cast<int64_t>(peers_.size()));
    return static_cast<int64_t>(records_.size()) - 1;
  }
  // num_peers times after Add.
  void AddPeer(const PeerBytes& peer) { peers_.push_back(peer); }

  ExchangeRecord& record(int64_t index) { return records_[index]; }
  std::span<const ExchangeRecord> records() const { return records_; }
  std::span<const PeerBytes> peers(int64_t index) const {
    return std::span(peers_).subspan(first_peer_[index], records_[index].num_peers);
  }
  std::span<PeerBytes> peers(int64_t index) {
    return std::span(peers_).subspan(first_peer_[index], records_[index].num_peers);
  }
  int64_t num_dropped() const { return num_dropped_; }

 private:
  std::vector<ExchangeRecord> records_;
  std::vector<int64_t> first_peer_;
  std::vector<PeerBytes> peers_;
  int64_t num_dropped_ = 0;
};

}  // namespace unipool
