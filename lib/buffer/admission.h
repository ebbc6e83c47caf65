// Which groups the next claim takes, what it waits for, and so what is worth generating. formats/buffer.md, "What counts" to "Filter".
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "buffer/buffer_state.h"

namespace april::buffer {

/// What stands between a run and its next claim.
struct Outlook {
  std::vector<uint64_t> takes;       ///< admissions of the groups that it takes, in its order: fewer than asked for while too few are ready
  int64_t missing = 0;               ///< groups that have to become ready before it can be made
  std::set<uint64_t> awaited;        ///< unfinished groups that it waits for by name
  bool nothing_else = false;         ///< those apart, enough is ready
  std::vector<uint64_t> overdue;     ///< keys of rollouts that it waits for
  std::optional<uint32_t> expiring;  ///< it waits for groups with tokens of policy versions up to this one
};

/// `presumed`: open groups that are as good as ready, because what they lack is on its way.
Outlook LookAhead(const State& state, int64_t num_groups, const std::set<uint64_t>& presumed = {});

/// The `missing` of an outlook alone.
int64_t NumMissing(const State& state, int64_t num_groups, const std::set<uint64_t>& presumed = {});
/// The run takes whatever became ready first and waits for nothing in particular: an outlook has nothing beyond `takes` and `missing`.
bool IsPlain(const State& state);

/// A ready group that every claim drops: its rewards tell nothing.
bool IsFilteredOut(const State& state, const GroupMeta& group);
/// Some of its tokens are too stale for any claim.
bool IsExpired(const State& state, const GroupMeta& group);
/// After a rewind: it has tokens of a version that the trainer will not have reached when it trains the next claim.
bool IsAhead(const State& state, const GroupMeta& group);
/// Groups that count for a step or are claimed and not committed.
int64_t NumCountingGroups(const State& state);
/// How many may count or be claimed before no new one is opened.
int64_t OpenGroupsLimit(const State& state);

/// Complete rollouts without whose score their group cannot become ready: those that nobody has judged yet, and in stalled groups those that could
/// not be judged.
int64_t NumAwaitingScore(const State& state);
/// What brings these scores.
inline constexpr const char* kScoreCommand =
    "partial-buffer export -s DIR --state complete --stream | reward-score --rescore --scorer … --model … | partial-buffer put -s DIR";

/// What a program may say of run and policies that do not go together. Throws Usage.
void CheckPolicies(const RunConfig& config);

}  // namespace april::buffer
