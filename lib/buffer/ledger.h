// The accounts of a journal, kept entry by entry: a second, slow and obvious reading, which shares nothing with buffer_state.h but the entries'
// format and can contradict it. formats/buffer.md, "Accounts".
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "buffer/buffer_state.h"
#include "buffer/entries.h"
#include "buffer/ledger_queue.h"

namespace april::buffer {

struct Accounts {
  Account journaled, trained, held, superseded;
  std::map<std::string, Account> dropped;  ///< by reason
  Account Dropped() const;
  /// journaled = trained + held + dropped + superseded, of rollouts and of tokens.
  bool Balance() const;
};

class Ledger {
 public:
  /// Told what is wrong with the entry at hand.
  using Complain = std::function<void(const std::string& what)>;

  /// Goes on after a complaint, with what the entry says.
  void Read(const DecodedEntry& decoded, const Complain& complain);
  /// Behind the last entry.
  void Finish(const Complain& complain);
  /// Everything that was read, by what became of it. After Finish.
  Accounts Sum() const;
  /// Whatever the sums, or a state that was made of the same entries, say otherwise.
  void Compare(const State& state, const Complain& complain) const;

  int64_t num_claims() const { return num_claims_; }
  int64_t num_commits() const { return num_commits_; }

 private:
  struct Rollout {
    uint64_t group_id = 0;
    int64_t tokens = 0;
    uint64_t chain = 0;
    uint64_t lease = 0, leases = 0;  ///< the current one, or 0; how many there were
    RolloutState state = RolloutState::kQueued;
    bool ungraded = false;
    int32_t trained = 0;  ///< committed claims that name it
    bool Ended() const { return state == RolloutState::kScored || state == RolloutState::kFailed || (state == RolloutState::kComplete && ungraded); }
  };
  struct Group {
    int64_t prompt = 0, epoch = 0;
    std::vector<uint64_t> uids;
    std::string claim;  ///< that names it; "" when there is none
    bool committed = false, consumed = false;
    std::optional<std::string> dropped = std::nullopt;  ///< why
  };
  struct Claim {
    int64_t step = 0;
    std::vector<std::pair<uint64_t, std::vector<uint64_t>>> groups;
    bool committed = false, consumed = false, abandoned = false;
    uint64_t version = 0, weights = 0;
  };

  void On(const InitEntry& entry, const DecodedEntry& decoded);
  void On(const PromptEntry& entry, const DecodedEntry& decoded);
  void On(const PlanEntry& entry, const DecodedEntry& decoded);
  void On(const LeaseEntry& entry, const DecodedEntry& decoded);
  void On(const RolloutEntry& entry, const DecodedEntry& decoded);
  void On(const ProgressEntry& entry, const DecodedEntry& decoded);
  void On(const ReleaseEntry& entry, const DecodedEntry& decoded);
  void On(const SupersededEntry& entry, const DecodedEntry& decoded);
  void On(const ClaimEntry& entry, const DecodedEntry& decoded);
  void On(const CommitEntry& entry, const DecodedEntry& decoded);
  void On(const AbandonEntry& entry, const DecodedEntry& decoded);
  void On(const RewindEntry& entry, const DecodedEntry& decoded);
  void On(const DropEntry& entry, const DecodedEntry& decoded);
  void On(const PolicyEntry&, const DecodedEntry&) {}
  void On(const SnapshotEntry& entry, const DecodedEntry& decoded);
  void On(const GroupEntry& entry, const DecodedEntry& decoded);
  void On(const MemberEntry& entry, const DecodedEntry& decoded);

  void Require(bool holds, const std::string& what) const {
    if (!holds) (*complain_)(what);
  }
  Rollout* Find(uint64_t uid);
  void Open(const OpenedGroup& opened);
  void CheckPayload(const RolloutEntry& entry, std::string_view payload, const Rollout& before) const;
  void Commit(Claim& claim, const std::string& id);
  void CloseSnapshot();
  void AddTo(Accounts& accounts, const Group& group) const;
  std::string StateOf(const Group& group) const;
  void CompareGroup(const GroupMeta& theirs, const Complain& complain) const;

  const Complain* complain_ = nullptr;  ///< of the entry at hand
  RunConfig config_;
  bool initialised_ = false;
  std::map<uint64_t, std::vector<std::string>> pending_;  ///< prompts of additions without a plan
  LedgerQueue queue_;
  int64_t opened_ = 0;  ///< groups of it that left
  std::unordered_map<uint64_t, Rollout> rollouts_;
  std::map<uint64_t, Group> groups_;      ///< by group_id
  std::map<std::string, Claim> claims_;   ///< by id
  std::map<int64_t, std::string> steps_;  ///< step → its claim
  int64_t next_step_ = 0, num_claims_ = 0, num_commits_ = 0;
  std::optional<uint64_t> version_;
  Account superseded_;
  int64_t journaled_tokens_ = 0;                  ///< as the entries say
  std::optional<SnapshotEntry> snapshot_;         ///< while its groups and members are read
  std::map<uint64_t, uint64_t> snapshot_groups_;  ///< admission → group_id
  std::map<uint64_t, GroupState> snapshot_states_;
  uint64_t snapshot_group_ = 0;  ///< that the next member belongs to
  Accounts forgotten_;           ///< of groups that a snapshot counts and no longer has
  int64_t forgotten_groups_ = 0;
};

}  // namespace april::buffer
