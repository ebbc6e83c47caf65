#include "buffer/admission.h"

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>
#include <utility>

#include "base/error.h"

namespace april::buffer {
namespace {

using Kind = Admission::Kind;

int64_t Version(const State& state) { return static_cast<int64_t>(state.policy_version().value_or(0)); }

/// Whether a group that is not claimed yet counts for a step.
bool Counts(const State& state, const GroupMeta& group) {
  if (group.state == GroupState::kOpen ? group.AllEnded() : IsFilteredOut(state, group)) return false;
  return !IsExpired(state, group) && !IsAhead(state, group);
}

/// The first groups, by admission, that count: all of them under first-finished.
std::set<uint64_t> Window(const State& state, int64_t num_groups) {
  const Admission& admission = state.config().admission;
  const int64_t size = admission.kind == Kind::kWindow ? std::max(admission.number, num_groups) : num_groups;
  const bool unlimited = admission.kind == Kind::kFirstFinished;
  std::set<uint64_t> window;
  for (const uint64_t group : state.unclaimed()) {
    if (!unlimited && static_cast<int64_t>(window.size()) >= size) break;
    if (Counts(state, state.group(group))) window.insert(window.end(), group);
  }
  return window;
}

/// Of the groups that count, how many have tokens as old as this, and how many of them are ready or presumed so.
struct OldGroups {
  int64_t all = 0, ready = 0;
};

/// The newest policy version v such that the claim must take more of the groups with tokens of v or older than are ready; and how many more.
std::pair<std::optional<uint32_t>, int64_t> FindExpiring(const State& state, int64_t num_groups, const std::set<uint64_t>& presumed) {
  const int64_t limit = *state.config().max_staleness, per_step = state.config().groups_per_step;
  std::map<uint32_t, OldGroups> by_version;
  for (const uint64_t admission : state.unclaimed()) {
    const GroupMeta& group = state.group(admission);
    if (!group.has_versions || !Counts(state, group)) continue;
    OldGroups& groups = by_version[group.oldest];
    ++groups.all;
    groups.ready += group.state == GroupState::kReady || presumed.contains(admission);
  }
  std::optional<uint32_t> expiring;
  int64_t missing = 0;
  OldGroups up_to;
  for (const auto& [version, groups] : by_version) {
    up_to.all += groups.all;
    up_to.ready += groups.ready;
    const int64_t later_claims = limit - (Version(state) - version);
    const int64_t needed = std::min(num_groups, up_to.all - later_claims * per_step);
    if (needed <= up_to.ready) continue;
    expiring = version;
    missing = std::max(missing, needed - up_to.ready);
  }
  return {expiring, missing};
}

std::vector<uint64_t> ReadyFirst(const State& state, int64_t num_groups) {
  std::vector<uint64_t> takes;
  for (auto ready = state.ready().begin(); ready != state.ready().end() && static_cast<int64_t>(takes.size()) < num_groups; ++ready) {
    if (!IsFilteredOut(state, state.group(ready->second))) takes.push_back(ready->second);
  }
  return takes;
}

}  // namespace

bool IsPlain(const State& state) {
  const RunConfig& config = state.config();
  return config.admission.kind == Kind::kFirstFinished && !config.max_staleness && state.left_version() == 0 && state.overdue().empty();
}

bool IsFilteredOut(const State& state, const GroupMeta& group) {
  return state.filter() == GroupFilter::kNonzeroStd && group.state == GroupState::kReady && group.equal_rewards;
}

bool IsExpired(const State& state, const GroupMeta& group) {
  return state.config().max_staleness && group.has_versions && Version(state) - group.oldest > *state.config().max_staleness;
}

bool IsAhead(const State& state, const GroupMeta& group) {
  if (state.left_version() == 0 || !group.has_versions) return false;
  return group.newest > Version(state) + (state.next_step() - state.first_uncommitted_step());
}

Outlook LookAhead(const State& state, int64_t num_groups, const std::set<uint64_t>& presumed) {
  Outlook outlook;
  if (IsPlain(state)) {
    outlook.takes = ReadyFirst(state, num_groups);
    outlook.missing = std::max<int64_t>(0, num_groups - static_cast<int64_t>(outlook.takes.size() + presumed.size()));
    return outlook;
  }
  const RunConfig& config = state.config();
  const bool by_admission = config.admission.kind == Kind::kAssigned;
  int64_t expiring_missing = 0;
  // The order of admission alone says what an assigned claim takes.
  if (config.max_staleness && !by_admission) std::tie(outlook.expiring, expiring_missing) = FindExpiring(state, num_groups, presumed);
  const std::set<uint64_t> window = Window(state, num_groups);
  const auto may_take = [&](uint64_t admission) {
    const GroupMeta& group = state.group(admission);
    return Counts(state, group) && (window.contains(admission) || (outlook.expiring && group.has_versions && group.oldest <= *outlook.expiring));
  };
  for (const auto& [order, admission] : state.ready()) {
    if (may_take(admission)) outlook.takes.push_back(admission);
  }
  if (config.max_staleness && !by_admission) {
    const auto oldest = [&](uint64_t admission) {
      const GroupMeta& group = state.group(admission);
      return group.has_versions ? int64_t{group.oldest} : std::numeric_limits<int64_t>::max();
    };
    std::stable_sort(outlook.takes.begin(), outlook.takes.end(), [&](uint64_t a, uint64_t b) { return oldest(a) < oldest(b); });
  }
  const auto supply = static_cast<int64_t>(outlook.takes.size()) + std::count_if(presumed.begin(), presumed.end(), may_take);
  if (static_cast<int64_t>(outlook.takes.size()) > num_groups) outlook.takes.resize(static_cast<size_t>(num_groups));
  outlook.overdue.assign(state.overdue().begin(), state.overdue().end());
  std::set<uint64_t> overdue_groups;
  for (const uint64_t key : outlook.overdue) {
    if (!presumed.contains(AdmissionOf(key))) overdue_groups.insert(AdmissionOf(key));
  }
  outlook.missing = std::max({int64_t{0}, num_groups - supply, expiring_missing, static_cast<int64_t>(overdue_groups.size())});
  outlook.nothing_else = supply >= num_groups && outlook.missing > 0;
  for (const uint64_t admission : state.unclaimed()) {
    const GroupMeta& group = state.group(admission);
    if (group.state != GroupState::kOpen || !Counts(state, group)) continue;
    const bool expires = outlook.expiring && group.has_versions && group.oldest <= *outlook.expiring;
    const bool stands_first = config.admission.kind != Kind::kFirstFinished && window.contains(admission);
    if (expires || stands_first) outlook.awaited.insert(outlook.awaited.end(), admission);
  }
  return outlook;
}

int64_t NumMissing(const State& state, int64_t num_groups, const std::set<uint64_t>& presumed) {
  if (!IsPlain(state) || state.filter() != GroupFilter::kNone) return LookAhead(state, num_groups, presumed).missing;
  return std::max<int64_t>(0, num_groups - static_cast<int64_t>(state.ready().size() + presumed.size()));
}

int64_t NumCountingGroups(const State& state) {
  if (IsPlain(state) && state.filter() == GroupFilter::kNone) return state.NumViableGroups();
  return state.num_claimed() +
         std::count_if(state.unclaimed().begin(), state.unclaimed().end(), [&](uint64_t admission) { return Counts(state, state.group(admission)); });
}

int64_t OpenGroupsLimit(const State& state) {
  const RunConfig& config = state.config();
  const auto steps = [&](int64_t ahead) { return config.groups_per_step * (1 + std::max(ahead, config.run_ahead)); };
  int64_t limit = config.Synchronous() ? steps(0) : std::numeric_limits<int64_t>::max();
  const int64_t in_flight_groups = (config.in_flight + config.group_size - 1) / config.group_size;
  if (config.admission.kind == Kind::kAssigned) limit = std::min(limit, steps(config.admission.number));
  if (config.admission.kind == Kind::kWindow) limit = std::min(limit, std::max({config.admission.number, steps(0), in_flight_groups}));
  if (config.max_staleness) limit = std::min(limit, steps(*config.max_staleness));
  return limit;
}

int64_t NumAwaitingScore(const State& state) {
  int64_t rollouts = 0;
  for (const uint64_t admission : state.unclaimed()) {
    const GroupMeta& group = state.group(admission);
    if (group.state != GroupState::kOpen) continue;
    const bool stalled = group.AllEnded();
    rollouts += std::count_if(group.members.begin(), group.members.end(),
                              [&](const RolloutMeta& member) { return member.state == RolloutState::kComplete && (stalled || !member.ungraded); });
  }
  return rollouts;
}

void CheckPolicies(const RunConfig& config) {
  const Admission& admission = config.admission;
  const int64_t at_once = config.groups_per_step * (1 + config.run_ahead);
  if (admission.kind == Kind::kWindow && admission.number < at_once) {
    throw Error::Usage("--admission " + Text(admission) + ": a step would wait for groups that it may not take",
                       "the window has at least groups-per-step x (1 + run-ahead) groups: " + std::to_string(at_once));
  }
  if (admission.kind != Kind::kAssigned) return;
  if (admission.number > 0 && config.Synchronous()) {
    throw Error::Usage("--admission " + Text(admission) + " has groups of " + std::to_string(admission.number) +
                           " further steps under way, but --in-flight " + std::to_string(config.in_flight) + " leaves room for one step",
                       "give more --in-flight, or assigned:0");
  }
  if (config.max_staleness && *config.max_staleness < admission.number) {
    throw Error::Usage("--admission " + Text(admission) + " trains groups " + std::to_string(admission.number) +
                           " steps after they were issued, but --max-staleness is " + std::to_string(*config.max_staleness),
                       "raise --max-staleness, or assign to a nearer step");
  }
}

}  // namespace april::buffer
