#include "buffer/dropping.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/error.h"
#include "buffer/admission.h"

namespace april::buffer {
namespace {

template <typename Condition>
void DropWhere(const State& state, Batch& batch, std::string_view why, Condition condition) {
  DropEntry entry{{}, std::string(why)};
  for (const uint64_t admission : state.unclaimed()) {
    const GroupMeta& group = state.group(admission);
    if (condition(group)) entry.groups.push_back(group.group_id);
  }
  if (!entry.groups.empty()) batch.Add(entry);
}

}  // namespace

int64_t DropGroups(const State& state, Batch& batch, const std::vector<uint64_t>& group_ids, const std::string& why) {
  DropEntry entry{{}, why};
  for (const uint64_t group_id : group_ids) {
    const auto admission = state.FindGroup(group_id);
    if (!admission) {
      throw Error::Usage("group " + HexU64(group_id) + " is not there: never issued, or no longer kept", "partial-buffer ls --groups lists them");
    }
    const GroupState group_state = state.group(*admission).state;
    if (group_state == GroupState::kDropped || std::find(entry.groups.begin(), entry.groups.end(), group_id) != entry.groups.end()) continue;
    if (!MayBecome(group_state, GroupState::kDropped)) {
      throw Error::Usage("group " + HexU64(group_id) + " is " + std::string(Name(group_state)) + " and cannot be dropped",
                         group_state == GroupState::kClaimed
                             ? "partial-buffer abandon -s DIR CLAIM gives its claim's groups back; stat names the claim"
                             : "it was trained; partial-buffer rewind -s DIR --to CHECKPOINTS/step-… undoes steps");
    }
    entry.groups.push_back(group_id);
  }
  if (!entry.groups.empty()) batch.Add(entry);
  return static_cast<int64_t>(entry.groups.size());
}

void DropFiltered(const State& state, Batch& batch) {
  if (state.filter() == GroupFilter::kNone) return;
  DropWhere(state, batch, kZeroStd, [&](const GroupMeta& group) { return IsFilteredOut(state, group); });
}

void DropExpired(const State& state, Batch& batch) {
  if (!state.config().max_staleness) return;
  DropWhere(state, batch, kStale, [&](const GroupMeta& group) { return IsExpired(state, group); });
}

}  // namespace april::buffer
