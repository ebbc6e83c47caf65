#include "buffer/statistics.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string>

#include "base/bytes.h"
#include "buffer/admission.h"
#include "buffer/leasing.h"
#include "buffer/map_fields.h"
#include "buffer/settings.h"

namespace april::buffer {
namespace {

using stream::Array;
using stream::Map;
using stream::Value;

constexpr double kNsPerSecond = 1e9;

Map LengthMap(const LengthCounts& lengths) {
  size_t last = lengths.classes.size();
  while (last > 0 && lengths.classes[last - 1] == 0) --last;
  Array classes;
  for (size_t i = 0; i < last; ++i) {
    classes.push_back(Map{{"up_to_tokens", (uint64_t{1} << i) - 1}, {"rollouts", lengths.classes[i]}});
  }
  return {{"rollouts", lengths.count},
          {"tokens", lengths.tokens},
          {"mean_tokens", lengths.Mean()},
          {"longest_tokens", last == 0 ? 0 : std::min(lengths.longest, (int64_t{1} << (last - 1)) - 1)},
          {"classes", std::move(classes)}};
}

Map CountMap(const std::map<int64_t, int64_t>& counts) {
  Map map;
  for (const auto& [value, count] : counts) map.emplace_back(std::to_string(value), count);
  return map;
}

/// Upper ends of the classes of ages.
struct AgeClass {
  const char* name;
  double end_s;
};
constexpr AgeClass kAges[] = {{"under 1 min", 60},  {"under 10 min", 600},  {"under 1 h", 3600},
                              {"under 6 h", 21600}, {"under 1 day", 86400}, {"older", 1e300}};

/// Counts over the rollouts of groups that are not trained yet.
struct LiveCounts {
  std::array<int64_t, kNumRolloutStates> rollouts{}, tokens{};
  std::map<int64_t, int64_t> staleness, resumes;
  std::array<int64_t, 6> ages{};  ///< groups, by kAges
  int64_t ungraded = 0;
  double oldest_group_s = 0;
};

LiveCounts CountLive(const Store& store) {
  const State& state = store.state();
  const auto version = static_cast<int64_t>(state.policy_version().value_or(0));
  LiveCounts live;
  for (const auto& [admission, group] : state.groups()) {
    if (group.state == GroupState::kTrained || group.state == GroupState::kConsumed || group.state == GroupState::kDropped) continue;
    const double age_s = static_cast<double>(store.clock().WallNs() - group.opened_ns) / kNsPerSecond;
    live.oldest_group_s = std::max(live.oldest_group_s, age_s);
    ++live.ages[static_cast<size_t>(std::find_if(kAges, std::prev(std::end(kAges)), [&](const AgeClass& age) { return age_s < age.end_s; }) - kAges)];
    for (const RolloutMeta& member : group.members) {
      ++live.rollouts[static_cast<size_t>(member.state)];
      live.tokens[static_cast<size_t>(member.state)] += member.tokens;
      live.ungraded += member.ungraded;
      if (member.has_versions) ++live.staleness[version - member.oldest];
      if (member.resumes > 0) ++live.resumes[member.resumes];
    }
  }
  return live;
}

/// Tokens that were generated and will not be trained.
Map WasteMap(const Totals& totals, const LiveCounts& live) {
  Account dropped, failed{live.rollouts[static_cast<size_t>(RolloutState::kFailed)], live.tokens[static_cast<size_t>(RolloutState::kFailed)]};
  for (const auto& [why, account] : totals.dropped) (why == "failed" ? failed : dropped) += account;
  const int64_t wasted = totals.superseded_tokens + dropped.tokens + failed.tokens, journaled = totals.journaled_tokens + totals.superseded_tokens;
  const auto map = [](const Account& account) { return Map{{"rollouts", account.rollouts}, {"tokens", account.tokens}}; };
  Map reasons;
  for (const auto& [why, account] : totals.dropped) reasons.emplace_back(why, map(account));
  return {{"superseded", map({totals.superseded, totals.superseded_tokens})},
          {"dropped", map(dropped)},
          {"failed", map(failed)},
          {"never_trained_for", std::move(reasons)},
          {"share_of_tokens", journaled == 0 ? 0.0 : static_cast<double>(wasted) / static_cast<double>(journaled)}};
}

Map AgeMap(const LiveCounts& live) {
  Map map;
  for (size_t i = 0; i < std::size(kAges); ++i) map.emplace_back(kAges[i].name, live.ages[i]);
  return map;
}

Array LeaseArray(const Store& store) {
  std::vector<std::pair<int64_t, Map>> sets;
  for (const auto& [lease, set] : store.state().leases()) {
    if (set.held.empty()) continue;
    const double age_s = static_cast<double>(store.clock().WallNs() - set.since_ns) / kNsPerSecond;
    sets.emplace_back(
        set.since_ns,
        Map{{"worker", set.worker}, {"lease", HexU64(lease)}, {"hub", set.hub}, {"rollouts", uint64_t{set.held.size()}}, {"age_s", age_s}});
  }
  std::sort(sets.begin(), sets.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  Array array;
  for (auto& [since, map] : sets) array.push_back(std::move(map));
  return array;
}

Array UncommittedArray(const State& state) {
  Array claims;
  for (int64_t step = state.first_uncommitted_step(); step < state.next_step(); ++step) {
    const ClaimMeta& claim = *state.FindClaim(step);
    claims.push_back(Map{{"claim", claim.id}, {"step", step}, {"groups", uint64_t{claim.groups.size()}}, {"rollouts", claim.rollouts}});
  }
  return claims;
}

/// Groups that ended in this state and are no longer kept.
int64_t NumForgotten(const State& state, GroupState in) {
  const Totals& totals = state.totals();
  const int64_t dropped = NumDropped(totals) - static_cast<int64_t>(state.dropped().size());
  return in == GroupState::kDropped ? dropped : in == GroupState::kConsumed ? totals.forgotten_groups - dropped : 0;
}

Map DroppedMap(const Totals& totals) {
  Map groups;
  for (const auto& [why, count] : totals.dropped_groups) groups.emplace_back(why, count);
  return groups;
}

}  // namespace

int64_t NumDropped(const Totals& totals) {
  int64_t groups = 0;
  for (const auto& [why, count] : totals.dropped_groups) groups += count;
  return groups;
}

Map StatMap(const Store& store) {
  const State& state = store.state();
  const Totals& totals = state.totals();
  const LiveCounts live = CountLive(store);
  Map groups = {{"queued", state.queue().num_groups() - state.groups_admitted()}};
  for (int i = 0; i < kNumGroupStates; ++i) {
    const auto group_state = static_cast<GroupState>(i);
    groups.emplace_back(Name(group_state), state.num_groups(group_state) + NumForgotten(state, group_state));
  }
  groups.emplace_back("stalled", state.num_stalled());
  groups.emplace_back("wanted", GroupsWanted(state));
  Map rollouts, tokens;
  for (int i = 0; i < kNumRolloutStates; ++i) {
    rollouts.emplace_back(Name(static_cast<RolloutState>(i)), live.rollouts[i]);
    tokens.emplace_back(Name(static_cast<RolloutState>(i)), live.tokens[i]);
  }
  rollouts.emplace_back("ungraded", live.ungraded);
  Map trained = {
      {"groups", totals.trained_groups},
      {"rollouts", totals.trained_rollouts},
      {"tokens", totals.trained_tokens},
      {"mean_reward", totals.trained_rollouts == 0 ? Value() : Value(totals.trained_reward / static_cast<double>(totals.trained_rollouts))},
      {"staleness_versions", CountMap(totals.trained_staleness)}};
  return {{"run", state.config().run},
          {"config", SettingsMap(state.config())},
          {"filter", Name(state.filter())},
          {"synchronous", state.config().Synchronous()},
          {"groups", std::move(groups)},
          {"rollouts", std::move(rollouts)},
          {"awaiting_score", NumAwaitingScore(state)},
          {"tokens", std::move(tokens)},
          {"staleness_versions", CountMap(live.staleness)},
          {"resumes", CountMap(live.resumes)},
          {"oldest_group_s", live.oldest_group_s},
          {"ages", AgeMap(live)},
          {"sampled", LengthMap(totals.sampled_lengths)},
          {"trained_lengths", LengthMap(totals.trained_lengths)},
          {"trained", std::move(trained)},
          {"finished_resumes", totals.resumes},
          {"waste", WasteMap(totals, live)},
          {"dropped_groups", DroppedMap(totals)},
          {"superseded", Map{{"records", totals.superseded}, {"tokens", totals.superseded_tokens}}},
          {"next_step", state.next_step()},
          {"first_uncommitted_step", state.first_uncommitted_step()},
          {"first_unconsumed_step", state.first_unconsumed_step()},
          {"policy_version", OrNil(state.policy_version())},
          {"uncommitted", UncommittedArray(state)},
          {"leases", LeaseArray(store)},
          {"journal", Map{{"bytes", store.journal().size_bytes()},
                          {"segments", uint64_t{store.journal().manifest().segments.size()}},
                          {"torn_bytes", store.journal().torn_bytes()},
                          {"writer_epoch", store.journal().manifest().writer_epoch}}}};
}

}  // namespace april::buffer
