#include "reference_buffer.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <tuple>

#include "base/rng.h"

namespace april::test {
namespace {

using buffer::Admission;

constexpr int64_t kAny = std::numeric_limits<int64_t>::max();

}  // namespace

bool ReferenceBuffer::Group::AllEnded() const {
  return std::all_of(members.begin(), members.end(), [](const Rollout& rollout) { return rollout.Ended(); });
}

std::optional<uint64_t> ReferenceBuffer::Group::Oldest() const {
  std::optional<uint64_t> oldest;
  for (const Rollout& rollout : members) {
    if (rollout.Ended() && rollout.state != "scored") continue;
    for (const record::WeightSpan& span : rollout.now.weight_versions) {
      if (!oldest || span.version < *oldest) oldest = span.version;
    }
  }
  return oldest;
}

std::optional<uint64_t> ReferenceBuffer::Group::Newest() const {
  std::optional<uint64_t> newest;
  for (const Rollout& rollout : members) {
    if (rollout.Ended() && rollout.state != "scored") continue;
    for (const record::WeightSpan& span : rollout.now.weight_versions) {
      if (!newest || span.version > *newest) newest = span.version;
    }
  }
  return newest;
}

bool ReferenceBuffer::Group::HasEqualRewards() const {
  for (const Rollout& a : members) {
    for (const Rollout& b : members) {
      if (a.state == "scored" && b.state == "scored" && a.now.reward->value - b.now.reward->value > 1e-6) return false;
    }
  }
  return true;
}

ReferenceBuffer::Rollout* ReferenceBuffer::Find(uint64_t uid) {
  for (Group& group : groups) {
    for (Rollout& rollout : group.members) {
      if (rollout.now.uid == uid) return &rollout;
    }
  }
  return nullptr;
}

ReferenceBuffer::Group& ReferenceBuffer::GroupOf(uint64_t uid) {
  for (Group& group : groups) {
    for (Rollout& rollout : group.members) {
      if (rollout.now.uid == uid) return group;
    }
  }
  throw std::logic_error("no such rollout");
}

size_t ReferenceBuffer::FirstUncommitted() const {
  size_t step = 0;
  while (step < claims.size() && claims[step].state != "claimed") ++step;
  return step;
}

std::vector<size_t> ReferenceBuffer::Ready() const {
  std::vector<size_t> ready;
  for (size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].state == "ready") ready.push_back(i);
  }
  std::sort(ready.begin(), ready.end(), [&](size_t a, size_t b) { return groups[a].ready_order < groups[b].ready_order; });
  return ready;
}

// What counts.

bool ReferenceBuffer::IsStale(const Group& group) const {
  return config.max_staleness && group.Oldest() && Version() - static_cast<int64_t>(*group.Oldest()) > *config.max_staleness;
}

bool ReferenceBuffer::IsFiltered(const Group& group) const {
  return filter == buffer::GroupFilter::kNonzeroStd && group.state == "ready" && group.HasEqualRewards();
}

bool ReferenceBuffer::IsAhead(const Group& group) const {
  // By the time that the trainer comes to the next claim it has committed those before.
  return left_version > 0 && group.Newest() && static_cast<int64_t>(*group.Newest()) > Version() + NumUncommitted();
}

bool ReferenceBuffer::Counts(const Group& group) const {
  const bool open = group.state == "open" && !group.AllEnded(), ready = group.state == "ready" && !IsFiltered(group);
  return (open || ready) && !IsStale(group) && !IsAhead(group);
}

bool ReferenceBuffer::IsOverdue(const Group& group, const Rollout& rollout) const {
  const bool unfinished = rollout.state == "leased" || rollout.state == "partial";
  return config.max_resumes && group.state == "open" && unfinished && rollout.resumes >= *config.max_resumes;
}

// Admission and staleness.

ReferenceBuffer::Outlook ReferenceBuffer::Look(int64_t count) const {
  std::vector<size_t> counting;
  for (size_t i = 0; i < groups.size(); ++i) {
    if (Counts(groups[i])) counting.push_back(i);
  }
  const int64_t let_in = IsAssigned() ? count : IsWindow() ? std::max(config.admission.number, count) : kAny;
  std::set<size_t> allowed, expiring;
  for (const size_t i : counting) {
    if (static_cast<int64_t>(allowed.size()) < let_in) allowed.insert(i);
  }
  Outlook outlook;
  outlook.waits = false;
  if (config.max_staleness && !IsAssigned()) {
    int64_t most = 0;  // claims until every group that counts now would be too stale
    for (const size_t i : counting)
      most = std::max(most, *config.max_staleness + 1 - Version() + static_cast<int64_t>(groups[i].Oldest().value_or(0)));
    for (int64_t d = 1; d <= most; ++d) {
      std::set<size_t> soon;  // at most d claims from being too stale
      int64_t ready = 0;
      for (const size_t i : counting) {
        const auto oldest = groups[i].Oldest();
        if (!oldest || Version() + d - static_cast<int64_t>(*oldest) <= *config.max_staleness) continue;
        soon.insert(i);
        ready += groups[i].state == "ready";
      }
      if (ready >= std::min(count, static_cast<int64_t>(soon.size()) - (d - 1) * config.groups_per_step)) continue;
      outlook.waits = true;
      expiring = soon;
    }
  }
  for (const size_t i : Ready()) {
    if (allowed.contains(i) || expiring.contains(i)) outlook.takes.push_back(i);
  }
  if (config.max_staleness && !IsAssigned()) {
    const auto oldest = [&](size_t i) { return groups[i].Oldest().value_or(std::numeric_limits<uint64_t>::max()); };
    std::stable_sort(outlook.takes.begin(), outlook.takes.end(), [&](size_t a, size_t b) { return oldest(a) < oldest(b); });
  }
  outlook.enough = static_cast<int64_t>(outlook.takes.size()) >= count;
  if (outlook.enough) outlook.takes.resize(static_cast<size_t>(count));
  outlook.waits = outlook.waits || !outlook.enough;
  for (const Group& group : groups) {
    for (const Rollout& rollout : group.members) outlook.waits = outlook.waits || IsOverdue(group, rollout);
  }
  for (const size_t i : counting) {
    const bool first_in_line = (IsAssigned() || IsWindow()) && allowed.contains(i);
    if (groups[i].state == "open" && (first_in_line || expiring.contains(i))) outlook.awaited.insert(i);
  }
  return outlook;
}

int64_t ReferenceBuffer::ToClaim() const {
  int64_t claimed = 0;
  for (const Group& group : groups) claimed += group.state == "claimed";
  return std::max(int64_t{0}, config.groups_per_step * (1 + config.run_ahead) - claimed);
}

bool ReferenceBuffer::Exhausted() const {
  for (const Group& group : groups) {
    if (group.state == "claimed") return false;
    for (const Rollout& rollout : group.members) {
      if (group.state == "open" && (rollout.state == "leased" || rollout.state == "partial" || rollout.state == "queued")) return false;
    }
  }
  return static_cast<int64_t>(groups.size()) == num_prompts && !Look(config.groups_per_step).enough;
}

// What is issued.

int64_t ReferenceBuffer::MostGroups() const {
  const int64_t per_step = config.groups_per_step, all = per_step * (1 + config.run_ahead);
  int64_t most = kAny;
  if (config.in_flight <= config.group_size * per_step) most = all;
  if (IsAssigned()) most = std::min(most, std::max(all, per_step * (1 + config.admission.number)));
  if (IsWindow()) most = std::min(most, std::max({config.admission.number, all, (config.in_flight + config.group_size - 1) / config.group_size}));
  if (config.max_staleness) most = std::min(most, std::max(all, per_step * (1 + *config.max_staleness)));
  return most;
}

uint64_t ReferenceBuffer::Place(const std::string& order, const Rollout& rollout) const {
  uint64_t oldest = std::numeric_limits<uint64_t>::max();
  for (const record::WeightSpan& span : rollout.now.weight_versions) oldest = std::min(oldest, span.version);
  if (order == "partials-first") return rollout.state == "partial" ? 0 : 1;
  if (order == "oldest") return oldest;
  if (order == "longest") return 1'000'000 - rollout.now.tokens.size();
  if (order == "shortest") return rollout.now.tokens.size();
  if (order == "random") return RandomBits(config.seed, RandomUse::kTakeOrder, rollout.now.uid, rollout.leases + 1);
  return 0;
}

std::vector<uint64_t> ReferenceBuffer::Take(int64_t count, uint64_t lease, const std::string& order, bool beyond_demand) {
  DropStale();
  const Outlook outlook = ToClaim() > 0 ? Look(ToClaim()) : Outlook{{}, false, false, {}};
  const bool nothing_else = outlook.enough && outlook.waits && !beyond_demand;
  std::vector<std::tuple<int, uint64_t, size_t, size_t>> unfinished;  // urgency, place, admission, index
  for (size_t i = 0; i < groups.size(); ++i) {
    for (size_t j = 0; j < groups[i].members.size(); ++j) {
      const Rollout& rollout = groups[i].members[j];
      if (groups[i].state != "open" || (rollout.state != "partial" && rollout.state != "queued")) continue;
      const int urgency = IsOverdue(groups[i], rollout) ? 0 : outlook.awaited.contains(i) ? 1 : 2;
      if (urgency < 2 || !nothing_else) unfinished.emplace_back(urgency, Place(order, rollout), i, j);
    }
  }
  std::sort(unfinished.begin(), unfinished.end());
  std::vector<uint64_t> uids;
  for (const auto& [urgency, place, i, j] : unfinished) {
    if (static_cast<int64_t>(uids.size()) < count) uids.push_back(groups[i].members[j].now.uid);
  }
  int64_t counting = 0;  // or claimed
  for (const Group& group : groups) counting += Counts(group) || group.state == "claimed";
  int64_t may_open = beyond_demand ? kAny : nothing_else ? 0 : MostGroups() == kAny ? kAny : MostGroups() - counting;
  for (; may_open > 0 && static_cast<int64_t>(uids.size()) < count && static_cast<int64_t>(groups.size()) < num_prompts; --may_open) {
    const std::string prompt = "p" + std::to_string(groups.size());
    Group group;
    group.id = record::GroupId(config.run, prompt, 0);
    for (int64_t i = 0; i < config.group_size; ++i) {
      Rollout rollout;
      rollout.now.uid = record::RolloutUid(config.run, prompt, 0, i, 0);
      group.members.push_back(rollout);
      if (static_cast<int64_t>(uids.size()) < count) uids.push_back(rollout.now.uid);
    }
    groups.push_back(group);
  }
  for (const uint64_t uid : uids) {
    Rollout& rollout = *Find(uid);
    rollout.state = "leased";
    rollout.lease = lease;
    ++rollout.leases;
  }
  return uids;
}

// What comes back.

void ReferenceBuffer::Release(uint64_t lease) {
  for (Group& group : groups) {
    for (Rollout& rollout : group.members) {
      if (rollout.state == "leased" && rollout.lease == lease) rollout.state = rollout.now.tokens.empty() ? "queued" : "partial";
    }
  }
}

void ReferenceBuffer::Settle(Group& group) {
  int64_t scored = 0;
  for (const Rollout& rollout : group.members) scored += rollout.state == "scored";
  if (group.state == "open" && group.AllEnded() && scored >= config.min_members) {
    group.state = "ready";
    group.ready_order = next_ready++;
  }
}

void ReferenceBuffer::Put(const record::Rollout& record) {
  Rollout& rollout = *Find(record.uid);
  Group& group = GroupOf(record.uid);
  const bool current = rollout.state == "leased" && record.lease && rollout.lease == record.lease->id && rollout.leases == record.lease->epoch;
  const bool ok = record.reward && record.reward->status == "ok";
  if (!current) {
    const bool finished = rollout.state == "complete" || rollout.state == "scored";
    const bool unclaimed = group.state == "open" || group.state == "ready";
    if (finished && unclaimed && ok && record.tokens == rollout.now.tokens) rollout.state = "scored", rollout.now = record, rollout.ungraded = false;
    Settle(group);
    return;
  }
  rollout.now = record;
  rollout.resumes = record.resumes;
  if (record.status == record::Status::kFailed) rollout.state = "failed";
  if (record.status == record::Status::kComplete) rollout.state = ok ? "scored" : "complete", rollout.ungraded = record.reward && !ok;
  if (record.status == record::Status::kPartial) rollout.state = "partial";
  if (record.status == record::Status::kQueued) rollout.state = "queued";
  Settle(group);
}

// Steps.

bool ReferenceBuffer::MakeClaim(int64_t count) {
  if (NumUncommitted() > config.run_ahead) return false;
  const Outlook outlook = Look(count);
  if (outlook.waits) return false;
  for (size_t i = 0; i < groups.size(); ++i) {
    if (IsFiltered(groups[i])) Drop(i, "zero-std");
  }
  DropStale();
  for (const size_t i : outlook.takes) groups[i].state = "claimed";
  claims.push_back({outlook.takes});
  return true;
}

void ReferenceBuffer::Commit(size_t step, bool with_checkpoint) {
  claims[step].state = "trained";
  version = step + 1;
  if (*version >= left_version) left_version = 0;
  for (size_t i = 0; i <= step; ++i) {
    if (with_checkpoint) claims[i].state = "consumed";
    for (const size_t group : claims[i].groups) groups[group].state = claims[i].state;
  }
  if (with_checkpoint) Forget();
  DropStale();
}

void ReferenceBuffer::Forget() {
  size_t consumed = 0;
  while (consumed < claims.size() && claims[consumed].state == "consumed") ++consumed;
  const int64_t keep_from = static_cast<int64_t>(consumed) - config.retain_steps;
  for (; static_cast<int64_t>(first_kept) < keep_from; ++first_kept) {
    for (const size_t group : claims[first_kept].groups) groups[group].forgotten = true;
  }
  for (Group& group : groups) {
    if (group.state == "dropped" && group.dropped_step < keep_from) group.forgotten = true;
  }
}

bool ReferenceBuffer::Abandon() {
  if (claims.empty() || claims.back().state != "claimed") return false;
  for (const size_t group : claims.back().groups) groups[group].state = "ready";
  claims.pop_back();
  return true;
}

void ReferenceBuffer::Rewind(size_t step, uint64_t to_version) {
  if (step == claims.size()) return;
  left_version = std::max(left_version, static_cast<uint64_t>(Version() + NumUncommitted()));
  // In front of all that are ready, in the order of their steps; those of a step in that of their ids.
  std::vector<size_t> back;
  for (; step < claims.size(); claims.erase(claims.begin() + static_cast<std::ptrdiff_t>(step))) {
    std::vector<size_t> some = claims[step].groups;
    std::sort(some.begin(), some.end(), [&](size_t a, size_t b) { return groups[a].id < groups[b].id; });
    back.insert(back.end(), some.begin(), some.end());
  }
  for (auto i = back.rbegin(); i != back.rend(); ++i) {
    groups[*i].state = "ready";
    groups[*i].ready_order = --first_ready;
  }
  version = to_version;
  for (const Group& group : groups) {
    if (group.state == "open" || group.state == "ready") left_version = std::max(left_version, group.Newest().value_or(0));
  }
  if (to_version >= left_version) left_version = 0;
}

void ReferenceBuffer::Drop(size_t index, const std::string& why) {
  Group& group = groups[index];
  group.state = "dropped";
  group.dropped_for = why;
  group.dropped_step = static_cast<int64_t>(claims.size());
  for (Rollout& rollout : group.members) {
    if (rollout.state == "leased") rollout.state = rollout.now.tokens.empty() ? "queued" : "partial";
  }
}

void ReferenceBuffer::DropStale() {
  for (size_t i = 0; i < groups.size(); ++i) {
    if ((groups[i].state == "open" || groups[i].state == "ready") && IsStale(groups[i])) Drop(i, "stale");
  }
}

}  // namespace april::test
