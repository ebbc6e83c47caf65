// What the journal's entries add up to: metadata of every live rollout, never its tokens. Changes only by Apply, so that a state is a function of its
// journal.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "buffer/entries.h"
#include "buffer/prompt_queue.h"
#include "buffer/states.h"

namespace april::buffer {

struct RolloutMeta {
  uint64_t uid = 0;
  Position payload;              ///< newest whole record; nowhere when there is none
  std::vector<Position> deltas;  ///< progress since, oldest first
  uint64_t chain = 0;            ///< of the journaled tokens
  uint64_t record_digest = 0;    ///< of the newest payload: tells a repeat
  uint64_t lease_id = 0;         ///< while leased
  int64_t changed_ns = 0;
  uint32_t lease_epoch = 0;  ///< leases so far
  int32_t tokens = 0, resumes = 0;
  float reward = 0;
  RolloutState state = RolloutState::kQueued;
  record::Finish finish = record::Finish::kNone;
  bool has_reward = false, ungraded = false;  ///< ungraded: the reward's status is error or timeout
  bool has_versions = false;
  uint32_t oldest = 0, newest = 0;  ///< policy versions of its tokens

  bool Ended() const { return state == RolloutState::kScored || state == RolloutState::kFailed || (state == RolloutState::kComplete && ungraded); }
  /// Whether this lease, of this epoch, holds it now.
  bool IsLeasedBy(const record::Lease& lease) const { return state == RolloutState::kLeased && lease_id == lease.id && lease_epoch == lease.epoch; }
};

/// One group that left the queue. Known by its admission: 0 for the first group of the run, then one more each.
struct GroupMeta {
  uint64_t group_id = 0;
  int64_t prompt = 0, epoch = 0, admitted_step = 0;
  GroupState state = GroupState::kOpen;
  int64_t ready_order = 0;
  int64_t opened_ns = 0;
  std::vector<RolloutMeta> members;  ///< by index
  int64_t num_ended = 0, num_scored = 0;
  // Of the members that are or may still be claimed.
  bool has_versions = false;
  uint32_t oldest = 0, newest = 0;  ///< policy versions of their tokens
  bool equal_rewards = true;

  bool AllEnded() const { return num_ended == static_cast<int64_t>(members.size()); }
  std::vector<uint64_t> ScoredUids() const;  ///< what a claim of the group names
};

/// When a group was dropped, and why.
struct DropMeta {
  int64_t step = 0;  ///< that was the next one
  std::string why;
};

struct LeaseSet {
  std::string worker;
  bool hub = false;
  int64_t since_ns = 0;
  uint64_t last_request = 0;
  std::vector<uint64_t> last_uids;  ///< given by that request
  std::set<uint64_t> held;          ///< keys of the rollouts that it leases now
};

/// Names one rollout inside a state: admission of its group, index in it. Ascending keys are the order of issue.
inline uint64_t MakeKey(uint64_t admission, uint64_t index) { return admission << 16 | index; }
inline uint64_t AdmissionOf(uint64_t key) { return key >> 16; }
inline uint64_t IndexOf(uint64_t key) { return key & 0xffff; }

class State {
 public:
  /// Applies one entry that stands at `at`. Throws Data when it is no listed transition or names what does not exist: the journal is damaged.
  void Apply(const DecodedEntry& decoded, Position at);
  /// To be called when all was applied: a snapshot, if one was, must be whole and agree with itself. Throws Data.
  void CheckSnapshot();

  bool initialised() const { return initialised_; }
  const RunConfig& config() const { return config_; }
  const PromptQueue& queue() const { return queue_; }
  const std::map<uint64_t, GroupMeta>& groups() const { return groups_; }
  const GroupMeta& group(uint64_t admission) const { return groups_.at(admission); }
  const RolloutMeta& rollout(uint64_t key) const { return groups_.at(AdmissionOf(key)).members[IndexOf(key)]; }
  /// nullopt for an unknown uid: never issued, or consumed and forgotten.
  std::optional<uint64_t> FindRollout(uint64_t uid) const;
  const std::set<uint64_t>& partial() const { return partial_; }            ///< keys
  const std::set<uint64_t>& queued() const { return queued_; }              ///< keys of queued members of open groups
  const std::map<int64_t, uint64_t>& ready() const { return ready_; }       ///< order of becoming ready → admission
  const std::set<uint64_t>& unclaimed() const { return unclaimed_; }        ///< admissions of open and ready groups
  const std::map<uint64_t, DropMeta>& dropped() const { return dropped_; }  ///< admission → why, of dropped groups that are kept
  /// Keys of unfinished rollouts that were resumed as often as the run allows.
  const std::set<uint64_t>& overdue() const { return overdue_; }
  std::optional<uint64_t> FindGroup(uint64_t group_id) const;  ///< its admission
  GroupFilter filter() const { return filter_; }
  const std::unordered_map<uint64_t, LeaseSet>& leases() const { return leases_; }  ///< by lease id
  int64_t num_leased() const { return num_leased_; }
  int64_t groups_admitted() const { return groups_admitted_; }
  /// Groups that count towards a step: open and able to become ready, ready, or claimed and not committed.
  int64_t NumViableGroups() const { return num_open_ - num_stalled_ + static_cast<int64_t>(ready_.size()) + num_claimed_; }
  int64_t num_claimed() const { return num_claimed_; }  ///< groups claimed and not committed
  int64_t num_stalled() const { return num_stalled_; }  ///< open groups whose members all ended, too few of them scored
  int64_t num_groups(GroupState state) const;

  int64_t next_step() const { return first_kept_step_ + static_cast<int64_t>(claims_.size()); }
  int64_t first_kept_step() const { return first_kept_step_; }
  int64_t first_uncommitted_step() const;
  int64_t first_unconsumed_step() const;
  const ClaimMeta* FindClaim(int64_t step) const;  ///< nullptr when there is none or it is forgotten
  const ClaimMeta* FindClaim(const std::string& id) const;
  bool WasAbandoned(const std::string& claim_id) const { return abandoned_.contains(claim_id); }  ///< or undone by a rewind
  /// A rewind left versions that the trainer has not reached again: this is the highest of them. 0: none.
  uint64_t left_version() const { return left_version_; }
  std::optional<uint64_t> policy_version() const { return policy_version_; }  ///< that the last committed step made
  const Totals& totals() const { return totals_; }

  /// The entries that a compacted journal has behind its prompts: applied to a state that has the same run and prompts they make an equal one.
  SnapshotEntry Snapshot() const;
  GroupEntry SnapshotOf(uint64_t admission) const;
  MemberEntry SnapshotOf(uint64_t admission, size_t index) const;

  /// The whole state as bytes, positions included, for the same build to read again; Load needs a new state, and throws Data.
  void Save(std::string* out) const;
  void Load(std::string_view bytes);

 private:
  void On(const InitEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const PromptEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const PlanEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const LeaseEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const RolloutEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const ProgressEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const ReleaseEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const SupersededEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const ClaimEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const CommitEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const AbandonEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const RewindEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const DropEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const PolicyEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const SnapshotEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const GroupEntry& entry, const DecodedEntry& decoded, Position at);
  void On(const MemberEntry& entry, const DecodedEntry& decoded, Position at);

  RolloutMeta& Mutable(uint64_t key) { return groups_.at(AdmissionOf(key)).members[IndexOf(key)]; }
  uint64_t KeyOf(uint64_t uid) const;
  void Open(const OpenedGroup& opened, const LeaseEntry& entry, int64_t ns);
  void Move(uint64_t key, RolloutState to);  ///< one listed transition, and the indexes that follow from it
  void Move(uint64_t admission, GroupState to);
  void Settle(uint64_t admission);          ///< counts the members that ended; opens → ready
  static void Summarise(GroupMeta& group);  ///< what a group says of its members
  void NoteOverdue(uint64_t key);
  void RequireLease(const RolloutMeta& rollout, const record::Lease& lease) const;
  void Train(const ClaimMeta& claim);
  void Untrain(const ClaimMeta& claim);
  void Consume(int64_t through_step, const std::optional<std::string>& checkpoint);
  void Forget();
  void ForgetGroup(uint64_t admission);
  void AddMember(RolloutMeta added);  ///< to the newest group

  bool initialised_ = false;
  bool unchecked_ = false;  ///< entries of a snapshot were applied, and nothing behind them yet
  RunConfig config_;
  PromptQueue queue_;
  std::map<uint64_t, GroupMeta> groups_;               ///< by admission
  std::unordered_map<uint64_t, uint64_t> keys_;        ///< uid → key
  std::unordered_map<uint64_t, uint64_t> admissions_;  ///< group_id → admission
  std::set<uint64_t> partial_, queued_, overdue_, unclaimed_;
  std::map<uint64_t, DropMeta> dropped_;
  std::map<int64_t, uint64_t> ready_;
  int64_t next_ready_order_ = 0;
  std::unordered_map<uint64_t, LeaseSet> leases_;
  int64_t num_leased_ = 0, num_open_ = 0, num_stalled_ = 0, num_claimed_ = 0, groups_admitted_ = 0;
  std::deque<ClaimMeta> claims_;
  int64_t first_kept_step_ = 0;
  std::unordered_set<std::string> abandoned_;
  std::optional<uint64_t> policy_version_;
  uint64_t left_version_ = 0;
  GroupFilter filter_ = GroupFilter::kNone;
  Totals totals_;
};

}  // namespace april::buffer
