// The journal's entries: what happened, one map each. formats/buffer.md, "Entries".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "buffer/journal.h"
#include "buffer/run_config.h"
#include "buffer/states.h"
#include "buffer/summaries.h"
#include "record/rollout.h"

namespace april::buffer {

struct InitEntry {
  RunConfig config;
};
struct PromptEntry {
  uint64_t add = 0;
  std::string id;
  int64_t tokens = 0;
};
struct PlanEntry {
  uint64_t add = 0;
  int64_t prompts = 0, epochs = 1;
  std::optional<uint64_t> shuffle;
  std::string source;
};
struct OpenedGroup {
  uint64_t group_id = 0;
  int64_t prompt = 0, epoch = 0;
  std::vector<uint64_t> uids;  ///< by index
};
struct LeaseEntry {
  uint64_t lease = 0;
  std::string worker;
  uint64_t request = 0;
  bool hub = false;
  int64_t step = 0;
  std::vector<OpenedGroup> groups;
  std::vector<std::pair<uint64_t, uint64_t>> rollouts;  ///< uid, lease epoch
};
struct RolloutEntry {
  uint64_t uid = 0;
  std::optional<record::Lease> lease;
  RolloutState state = RolloutState::kQueued;
  int64_t tokens = 0;
  uint64_t chain = 0;
  record::Finish finish = record::Finish::kNone;
  std::optional<double> reward;
  std::string reward_status;  ///< "" without a reward
  int64_t resumes = 0;
  std::optional<uint64_t> oldest, newest;
};
struct ProgressEntry {
  uint64_t uid = 0;
  record::Lease lease;
  int64_t tokens = 0;
  uint64_t chain = 0;
  std::optional<uint64_t> oldest, newest;
};
struct ReleaseEntry {
  uint64_t lease = 0;
  std::string why;  ///< returned, rejected, ended, reclaimed, expired, lost
  std::vector<uint64_t> rollouts;
};
struct SupersededEntry {
  uint64_t uid = 0;
  std::optional<record::Lease> lease;
  int64_t tokens = 0;
};
struct ClaimEntry {
  std::string claim;
  int64_t step = 0;
  std::optional<std::string> parent;
  std::optional<uint64_t> version;
  std::vector<std::pair<uint64_t, std::vector<uint64_t>>> groups;  ///< group_id, uids by index
};
struct CommitEntry {
  std::string claim;
  int64_t step = 0;
  uint64_t version = 0, weights = 0;
  bool advanced = true;
  std::optional<std::string> checkpoint;
};
struct AbandonEntry {
  std::string claim, why;
};
struct RewindEntry {
  int64_t to_step = 0;
  std::string checkpoint;
  uint64_t version = 0;
};
struct DropEntry {
  std::vector<uint64_t> groups;  ///< group_id
  std::string why;
};
struct PolicyEntry {
  GroupFilter filter = GroupFilter::kNone;
};

/// One lease set as a snapshot has it; which rollouts it holds stands with their members.
struct HeldLease {
  uint64_t lease = 0;
  std::string worker;
  bool hub = false;
  int64_t since_ns = 0;
  uint64_t last_request = 0;
  std::vector<uint64_t> last_uids;
};
struct SnapshotEntry {
  int64_t admitted = 0, next_ready = 0, first_step = 0;
  std::optional<uint64_t> version;
  std::vector<std::string> abandoned;
  std::vector<ClaimMeta> claims;
  std::vector<HeldLease> leases;
  Totals totals;
  std::optional<GroupFilter> filter;  ///< if it is not the run's
  uint64_t left_version = 0;
};
struct GroupEntry {
  uint64_t admission = 0, group_id = 0;
  int64_t prompt = 0, epoch = 0, step = 0, opened_ns = 0, ready_order = 0;
  GroupState state = GroupState::kOpen;
  int64_t dropped_step = 0;  ///< of a dropped one, as `why`
  std::string why;
};
struct MemberEntry {
  RolloutEntry rollout;  ///< its lease: [current lease's id or 0, leases so far]
  uint64_t digest = 0;   ///< of the record that came last
  int64_t changed_ns = 0;
};

using Entry = std::variant<InitEntry, PromptEntry, PlanEntry, LeaseEntry, RolloutEntry, ProgressEntry, ReleaseEntry, SupersededEntry, ClaimEntry,
                           CommitEntry, AbandonEntry, RewindEntry, DropEntry, PolicyEntry, SnapshotEntry, GroupEntry, MemberEntry>;

struct DecodedEntry {
  Entry entry;
  int64_t ns = 0;            ///< wall clock
  uint64_t entry_bytes = 0;  ///< of the map
  std::string_view payload;  ///< the record that follows it; empty without one
};

/// Appends the entry's map, then the payload.
void AppendEntry(const Entry& entry, int64_t ns, std::string_view payload, std::string* out);
/// The entry at the start of `bytes`. Throws Data naming type and key; Incompatible on a type that this build does not know.
DecodedEntry ReadEntry(std::string_view bytes);

/// Calls `each(decoded, offset)` with the entries of a frame, and where in `raw` each begins. Throws as ReadEntry at the first that cannot be read.
template <typename Each>
void ForEachEntry(std::string_view raw, const Each& each) {
  for (size_t offset = 0; offset < raw.size();) {
    const DecodedEntry decoded = ReadEntry(raw.substr(offset));
    each(decoded, offset);
    offset += decoded.entry_bytes + decoded.payload.size();
  }
}

}  // namespace april::buffer
