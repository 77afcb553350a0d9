#include "tests/device_emulation/race_check.h"

#include <algorithm>

namespace unipool::emulation {
namespace {

Clock& Join(Clock& clock, const Clock& other) {
  for (int i = 0; i < kNumActors; ++i) clock[i] = std::max(clock[i], other[i]);
  return clock;
}

const char* Verb(const Access& access) {
  return access.is_write ? "writes" : "reads";
}

bool Covers(const Access& outer, const Access& inner) {
  const auto* o = static_cast<const char*>(outer.begin);
  const auto* i = static_cast<const char*>(inner.begin);
  return o <= i && i + inner.bytes <= o + outer.bytes;
}

}  // namespace

const char* NameOf(Actor actor) {
  static constexpr const char* kNames[] = {"compute queue", "communication queue", "host"};
  return kNames[static_cast<int>(actor)];
}

void RaceCheck::Act(Actor actor, const std::string& name, std::span<const Access> accesses) {
  Clock& clock = clocks_[static_cast<int>(actor)];
  if (actor != Actor::kHost) Join(clock, this->clock(Actor::kHost));
  ++clock[static_cast<int>(actor)];
  for (const Access& access : accesses) {
    if (access.bytes > 0) Add(actor, name, access);
  }
  if (past_.size() >= drop_at_) DropKnownToAll();
}

void RaceCheck::Add(Actor actor, const std::string& name, const Access& access) {
  const Clock& now = clock(actor);
  for (const Past& past : past_) {
    if (!past.access.Overlaps(access) || (!past.access.is_write && !access.is_write)) continue;
    if (Knows(now, past)) continue;
    throw DeviceError("a race: " + name + " (" + NameOf(actor) + ") " + Verb(access) + " memory that " +
                      past.name + " (" + NameOf(past.actor) + ") " + Verb(past.access) +
                      ", and no event orders the two");
  }
  // Whoever comes after this access comes after those that it follows and covers, too.
  std::erase_if(past_, [&](const Past& past) {
    return Covers(access, past.access) && Knows(now, past) && (access.is_write || !past.access.is_write);
  });
  past_.push_back({access, actor, now[static_cast<int>(actor)], name});
}

void RaceCheck::DropKnownToAll() {
  // The queues will know what the host knows.
  std::erase_if(past_, [&](const Past& past) { return Knows(clock(Actor::kHost), past); });
  drop_at_ = std::max<size_t>(256, 2 * past_.size());
}

void RaceCheck::Learn(Actor actor, const Clock& clock) {
  Join(clocks_[static_cast<int>(actor)], clock);
}

std::string RaceCheck::Unfinished(const void* begin, int64_t bytes) const {
  const Access all{begin, bytes, true};
  for (const Past& past : past_) {
    if (past.access.Overlaps(all) && !Knows(clock(Actor::kHost), past)) return past.name;
  }
  return "";
}

std::string RaceCheck::UnfinishedWriter(const void* begin, int64_t bytes) const {
  const Access all{begin, bytes, true};
  for (const Past& past : past_) {
    if (past.access.is_write && past.access.Overlaps(all) && !Knows(clock(Actor::kHost), past))
      return past.name;
  }
  return "";
}

void RaceCheck::Forget(const void* begin, int64_t bytes) {
  const Access all{begin, bytes, true};
  std::erase_if(past_, [&](const Past& past) { return past.access.Overlaps(all); });
}

}  // namespace unipool::emulation
