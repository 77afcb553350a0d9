#include "tests/device_emulation/async_device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <exception>
#include <string_view>

namespace unipool::emulation {
namespace {

constexpr int kPollsInVain = 1;           // of an event under a late policy; the next one runs what it needs
constexpr int kMostRandomOperations = 3;  // at one call
constexpr unsigned char kUndefined = 0xff;

int IndexOf(DeviceQueue queue) {
  return static_cast<int>(queue);
}
Actor ActorOf(int queue) {
  return static_cast<Actor>(queue);
}
uint64_t Hash(const void* data, int64_t bytes) {
  return std::hash<std::string_view>()({static_cast<const char*>(data), static_cast<size_t>(bytes)});
}

}  // namespace

const char* NameOf(RunPolicy policy) {
  static constexpr const char* kNames[] = {"eager", "late", "compute late", "communication late", "random"};
  return kNames[static_cast<int>(policy)];
}

AsyncDevice::AsyncDevice(RunPolicy policy, uint64_t seed, ThreadOrder thread_order)
    : policy_(policy),
      random_(seed),
      machine_(thread_order, seed, memory_),
      queues_{{*this, 0}, {*this, 1}} {}

AsyncDevice::~AsyncDevice() {
  if (broken_) return;
  try {
    Drain();
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what();
  }
  for (const GuardedMemory* memory : {&memory_, &pinned_}) {
    for (const std::string& damage : memory->Damage()) ADD_FAILURE() << damage;
  }
  for (const OpenRange& range : open_ranges_) ADD_FAILURE() << "the range " << range.name << " is still open";
}

void AsyncDevice::Fail(const std::string& problem) {
  broken_ = true;
  for (Queue& queue : queues_) queue.pending.clear();
  throw DeviceError(problem);
}

void AsyncDevice::ThrowLateProblem() {
  if (!late_problem_.empty()) Fail(std::exchange(late_problem_, ""));
}

// ---- The queues

void* AsyncDevice::queue(DeviceQueue queue) {
  return static_cast<KernelQueue*>(&queues_[IndexOf(queue)]);
}

void AsyncDevice::Queue::Launch(const KernelLaunch& launch, std::function<void()> body) {
  device.Add(index, launch.name, {},
             [machine = &device.machine_, launch, body = std::move(body)] { machine->Launch(launch, body); });
}

void AsyncDevice::Queue::Enqueue(const std::string& name, std::vector<Access> accesses,
                                 std::function<void()> work) {
  device.Add(index, name, accesses, std::move(work));
}

void AsyncDevice::Add(int queue, const std::string& name, std::span<const Access> accesses,
                      std::function<void()> work, Event timed) {
  if (broken_) return;
  ThrowLateProblem();
  try {
    for (const Access& access : accesses) CheckLiving(name, access);
    races_.Act(ActorOf(queue), name, accesses);
  } catch (const DeviceError& error) {
    Fail(error.what());
  }
  records_.num_operations += work != nullptr;
  queues_[queue].pending.push_back({.name = name, .work = std::move(work), .await = {}, .timed = timed});
  Progress();
}

bool AsyncDevice::IsReady(int queue) const {
  const auto& pending = queues_[queue].pending;
  return !pending.empty() && IsOver(pending.front().await);
}

bool AsyncDevice::IsEager(int queue) const {
  switch (policy_) {
    case RunPolicy::kEager:
      return true;
    case RunPolicy::kComputeLate:
      return queue == IndexOf(DeviceQueue::kCommunication);
    case RunPolicy::kCommunicationLate:
      return queue == IndexOf(DeviceQueue::kCompute);
    case RunPolicy::kLate:
    case RunPolicy::kRandom:
      return false;
  }
  return false;
}

void AsyncDevice::RunFront(int queue) {
  const Operation operation = std::move(queues_[queue].pending.front());
  queues_[queue].pending.pop_front();
  try {
    if (operation.work) {
      operation.work();
      now_ns_ += kOperationNs;
    }
    if (operation.timed >= 0) events_[operation.timed].reached_ns = now_ns_;
  } catch (const std::exception& error) {
    Fail(std::string(error.what()) + " (" + operation.name + ", " + NameOf(ActorOf(queue)) + ")");
  }
  ++queues_[queue].num_done;
}

void AsyncDevice::RunUntil(const Moment& moment) {
  std::vector<Moment> needed{moment};
  while (!needed.empty()) {
    const Moment last = needed.back();
    if (broken_ || IsOver(last)) {
      needed.pop_back();
    } else if (IsReady(last.queue)) {
      RunFront(last.queue);
      RunEager();
    } else {
      needed.push_back(queues_[last.queue].pending.front().await);
    }
  }
}

void AsyncDevice::Progress() {
  if (policy_ == RunPolicy::kRandom) {
    for (uint64_t n = random_() % (kMostRandomOperations + 1); n > 0; --n) {
      const int queue = static_cast<int>(random_() % 2);
      if (IsReady(queue)) RunFront(queue);
    }
  }
  RunEager();
}

void AsyncDevice::RunEager() {
  for (bool progress = true; progress;) {
    progress = false;
    for (int queue = 0; queue < 2; ++queue) {
      if (!IsEager(queue) || !IsReady(queue)) continue;
      RunFront(queue);
      progress = true;
    }
  }
}

void AsyncDevice::Finish(int queue) {
  if (broken_) return;
  ThrowLateProblem();
  RunUntil({queue, queues_[queue].num_enqueued()});
  races_.Learn(Actor::kHost, races_.clock(ActorOf(queue)));
  Progress();
}

void AsyncDevice::Drain() {
  ++records_.num_drains;
  for (int queue = 0; queue < 2; ++queue) Finish(queue);
}

// ---- Copies

void AsyncDevice::CheckLiving(const std::string& name, const Access& access) const {
  if (access.bytes == 0) return;
  const std::string verb = access.is_write ? " writes " : " reads ";
  const char* last = static_cast<const char*>(access.begin) + access.bytes - 1;
  for (const GuardedMemory* memory : {&memory_, &pinned_}) {
    const GuardedMemory::Block* block = memory->Find(access.begin);
    if (!block) continue;
    if (last < block->data + block->committed_bytes) return;
    throw DeviceError(name + verb + std::to_string(access.bytes) + " bytes, the last of them " +
                      memory->Describe(last));
  }
  throw DeviceError(name + verb + "what is neither memory of this device nor pinned memory of it: " +
                    memory_.Describe(access.begin));
}

std::function<void()> AsyncDevice::GuardedCopy(const std::string& name, void* to, const void* from,
                                               int64_t bytes) {
  const auto copy = [=] { std::memcpy(to, from, bytes); };
  // The host may not look: neither at what is there nor, later, at what was there before.
  if (pinned_.Find(to) && races_.Unfinished(to, bytes).empty()) std::memset(to, kUndefined, bytes);
  if (!pinned_.Find(from) || !races_.UnfinishedWriter(from, bytes).empty()) return copy;
  return [=, hash = Hash(from, bytes)] {
    if (Hash(from, bytes) != hash) {
      throw DeviceError(name + ": the host changed the pinned memory that it reads before it was done");
    }
    copy();
  };
}

void AsyncDevice::Copy(DeviceQueue queue, void* to, const void* from, int64_t bytes) {
  if (broken_ || bytes == 0) return;
  const std::string name = "copy " + std::to_string(records_.num_operations) + " of " +
                           std::to_string(bytes) + " bytes from " +
                           (pinned_.Find(from) ? pinned_ : memory_).Describe(from) + " to " +
                           (pinned_.Find(to) ? pinned_ : memory_).Describe(to);
  const Access accesses[] = {{from, bytes, false}, {to, bytes, true}};
  if (accesses[0].Overlaps(accesses[1])) Fail(name + ": the two overlap");
  try {
    for (const Access& access : accesses) CheckLiving(name, access);
  } catch (const DeviceError& error) {
    Fail(error.what());
  }
  Add(IndexOf(queue), name, accesses, GuardedCopy(name, to, from, bytes));
}

void AsyncDevice::HostAccess(const std::string& name, const Access& access) {
  if (broken_) return;
  try {
    races_.Act(Actor::kHost, name, {&access, 1});
  } catch (const DeviceError& error) {
    Fail(error.what());
  }
}

// ---- Events

DeviceContext::Event AsyncDevice::MakeEvent() {
  ++records_.num_events;
  events_.emplace_back();
  return static_cast<Event>(events_.size()) - 1;
}

AsyncDevice::EventState& AsyncDevice::StateOf(Event event) {
  if (event < 0 || event >= static_cast<Event>(events_.size())) {
    Fail("event " + std::to_string(event) + " was never made");
  }
  return events_[event];
}

void AsyncDevice::Record(Event event, DeviceQueue queue) {
  if (broken_) return;
  const int index = IndexOf(queue);
  const bool is_timed = StateOf(event).is_timed;
  Moment here{index, queues_[index].num_enqueued() + 1};
  events_[event].reached_ns = -1;
  Add(index, "event " + std::to_string(event), {}, nullptr, is_timed ? event : -1);
  EventState& state = events_[event];
  state.last = here;
  state.clock = races_.clock(ActorOf(index));
  state.num_polls = 0;
}

DeviceContext::Event AsyncDevice::MakeTimedEvent() {
  const Event event = MakeEvent();
  events_[event].is_timed = true;
  return event;
}

int64_t AsyncDevice::NsBetween(Event from, Event to) {
  for (const Event event : {from, to}) {
    const EventState& state = StateOf(event);
    if (!state.is_timed || state.reached_ns < 0)
      Fail("the time of event " + std::to_string(event) + " is asked for, which is not timed or not done");
  }
  return events_[to].reached_ns - events_[from].reached_ns;
}

void AsyncDevice::AwaitEvent(DeviceQueue queue, Event event) {
  if (broken_) return;
  const EventState& state = StateOf(event);
  Queue& own = queues_[IndexOf(queue)];
  own.pending.push_back({.name = "a wait", .work = nullptr, .await = state.last});
  races_.Learn(ActorOf(IndexOf(queue)), state.clock);
  Progress();
}

bool AsyncDevice::IsDone(Event event) {
  if (broken_) return true;
  ThrowLateProblem();
  EventState& state = StateOf(event);
  if (!IsOver(state.last) && policy_ != RunPolicy::kRandom && ++state.num_polls > kPollsInVain) {
    RunUntil(state.last);
  }
  Progress();
  if (!IsOver(state.last)) return false;
  races_.Learn(Actor::kHost, state.clock);
  return true;
}

// ---- Memory

void* AsyncDevice::Allocate(int64_t bytes) {
  const std::string name = "scratch " + std::to_string(++records_.num_allocations);
  records_.committed_bytes += bytes;
  records_.peak_bytes = std::max(records_.peak_bytes, records_.committed_bytes);
  return memory_.Allocate(bytes, name);
}

void* AsyncDevice::Reserve(int64_t max_bytes) {
  return memory_.Reserve(max_bytes, "buffer " + std::to_string(++records_.num_allocations));
}

void AsyncDevice::Commit(void* data, int64_t bytes) {
  const GuardedMemory::Block* block = memory_.Find(data);
  CHECK(block) << memory_.Describe(data);
  const int64_t more = bytes - block->committed_bytes;
  if (more <= 0) return;
  if (records_.num_commits >= most_commits_) throw UserError("no memory left on the emulated device");
  memory_.Commit(data, bytes);
  ++records_.num_commits;
  records_.committed_bytes += more;
  records_.peak_bytes = std::max(records_.peak_bytes, records_.committed_bytes);
}

void AsyncDevice::Free(void* data) {
  const GuardedMemory::Block* block = memory_.Find(data);
  if (block) records_.committed_bytes -= block->committed_bytes;
  FreeFrom(memory_, data);
}

void* AsyncDevice::AllocatePinned(int64_t bytes) {
  void* data = pinned_.Allocate(bytes, "pinned memory " + std::to_string(++records_.num_pinned_allocations));
  std::memset(data, 0, bytes);
  return data;
}

void AsyncDevice::FreePinned(void* data) {
  FreeFrom(pinned_, data);
}

// Called by destructors: problems wait for a call that may throw.
void AsyncDevice::FreeFrom(GuardedMemory& memory, void* data) {
  ++records_.num_frees;
  const GuardedMemory::Block* block = memory.Find(data);
  CHECK(block && block->data == data) << "freed twice, or never allocated: " << memory.Describe(data);
  const int64_t bytes = block->bytes;
  if (!broken_ && late_problem_.empty()) {
    try {
      const std::string user = races_.Unfinished(data, bytes);
      if (!user.empty() && std::uncaught_exceptions() == 0) {
        Fail(block->name + " was freed, but the host does not know that this is over: " + user);
      }
      for (int queue = 0; queue < 2; ++queue) Finish(queue);
    } catch (const std::exception& error) {
      broken_ = false;
      late_problem_ = error.what();
    }
  }
  races_.Forget(data, bytes);
  memory.Free(data);
}

// ---- Ranges

void AsyncDevice::PushRange(const char* name) {
  open_ranges_.push_back({name, records_.num_operations});
}

void AsyncDevice::PopRange() {
  if (open_ranges_.empty()) return Fail("a range is closed that was never opened");
  const OpenRange& range = open_ranges_.back();
  const Clock& sent = races_.clock(Actor::kCommunicationQueue);
  records_.ranges.push_back({range.name, static_cast<int>(open_ranges_.size()) - 1,
                             records_.num_operations - range.first_operation,
                             sent[static_cast<int>(Actor::kComputeQueue)]});
  open_ranges_.pop_back();
}

}  // namespace unipool::emulation
