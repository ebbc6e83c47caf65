#include "buffer/history.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <ctime>
#include <map>
#include <set>

#include "base/bytes.h"
#include "base/error.h"
#include "buffer/entries.h"
#include "buffer/payloads.h"
#include "record/view.h"

namespace april::buffer {
namespace {

std::string LeaseText(const std::optional<record::Lease>& lease) {
  return lease ? "lease " + HexU64(lease->id) + ", epoch " + std::to_string(lease->epoch) : "no lease";
}

/// Ids that begin with some hexadecimal digits.
class Prefix {
 public:
  explicit Prefix(const std::string& digits) : digits_(digits) {
    const bool hex = !digits.empty() && digits.size() <= 16 &&
                     std::all_of(digits.begin(), digits.end(), [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; });
    if (!hex) return;
    shift_ = static_cast<int>(64 - 4 * digits.size());
    value_ = ParseHexU64(digits);
  }
  bool Matches(uint64_t id) const { return shift_ >= 0 && id >> shift_ == value_; }
  const std::string& digits() const { return digits_; }

 private:
  std::string digits_;
  int shift_ = -1;
  uint64_t value_ = 0;
};

class HistoryReader {
 public:
  explicit HistoryReader(const std::string& digits) : prefix_(digits) {}

  void Read(const DecodedEntry& decoded, Position at) {
    ns_ = decoded.ns;
    at_ = at;
    payload_ = decoded.payload;
    std::visit([&](const auto& entry) { On(entry); }, decoded.entry);
  }

  History Finish() {
    if (rollouts_.size() + groups_.size() > 1) throw Error::Usage("several rollouts or groups begin with " + prefix_.digits(), "give more digits");
    if (rollouts_.empty() && groups_.empty())
      throw Error::Usage("no rollout or group of this journal begins with " + prefix_.digits(), "partial-buffer ls lists those that are kept");
    if (!rollouts_.empty()) {
      history_.uid = rollouts_.begin()->first;
      history_.group_id = rollouts_.begin()->second;
    } else {
      history_.group_id = groups_.begin()->first;
      history_.members = groups_.begin()->second;
    }
    return std::move(history_);
  }

 private:
  bool IsOurs(uint64_t uid) const { return rollouts_.contains(uid); }
  bool IsOurGroup(uint64_t group_id) const {
    return groups_.contains(group_id) || std::any_of(rollouts_.begin(), rollouts_.end(), [&](const auto& item) { return item.second == group_id; });
  }
  void Tell(std::string what) { history_.events.push_back({ns_, at_, std::move(what)}); }

  void Found(uint64_t group_id, const std::vector<uint64_t>& uids) {
    if (prefix_.Matches(group_id)) groups_[group_id] = uids;
    for (const uint64_t uid : uids) {
      if (prefix_.Matches(uid)) rollouts_[uid] = group_id;
    }
  }

  void On(const LeaseEntry& entry) {
    for (const OpenedGroup& group : entry.groups) {
      Found(group.group_id, group.uids);
      if (!IsOurGroup(group.group_id)) continue;
      Tell("group " + HexU64(group.group_id) + " opened: prompt number " + std::to_string(group.prompt) + ", epoch " + std::to_string(group.epoch) +
           ", for step " + std::to_string(entry.step));
    }
    for (const auto& [uid, epoch] : entry.rollouts) {
      if (IsOurs(uid)) Tell("leased to " + entry.worker + " (" + LeaseText(record::Lease{entry.lease, epoch}) + (entry.hub ? ", hub)" : ")"));
    }
  }

  void On(const RolloutEntry& entry) {
    if (!IsOurs(entry.uid)) return;
    std::string text = "put: " + std::string(Name(entry.state)) + ", " + std::to_string(entry.tokens) + " tokens";
    if (entry.finish != record::Finish::kNone) text += std::string(", finish ") + record::FinishText(entry.finish);
    if (entry.oldest) text += ", version " + std::to_string(*entry.oldest);
    if (entry.newest != entry.oldest) text += " to " + std::to_string(*entry.newest);
    if (entry.resumes > 0) text += ", " + std::to_string(entry.resumes) + " resumes";
    if (!entry.reward_status.empty()) text += ", reward " + (entry.reward ? std::to_string(*entry.reward) : entry.reward_status);
    Tell(text + " (" + (entry.lease ? LeaseText(entry.lease) : "a score that came by itself") + ")");
    Keep();
  }

  void On(const ProgressEntry& entry) {
    if (!IsOurs(entry.uid)) return;
    Tell("progress to " + std::to_string(entry.tokens) + " tokens (" + LeaseText(entry.lease) + ")");
    const auto delta = DecodePayload<record::Progress>(payload_);
    if (!history_.journaled) {
      history_.journaled = record::Rollout();
      history_.journaled->uid = entry.uid;
    }
    if (delta.start == static_cast<int64_t>(history_.journaled->tokens.size())) AppendProgress(delta, &*history_.journaled);
  }

  void On(const ReleaseEntry& entry) {
    for (const uint64_t uid : entry.rollouts) {
      if (IsOurs(uid)) Tell("given back (" + entry.why + ")");
    }
  }

  void On(const SupersededEntry& entry) {
    if (IsOurs(entry.uid)) Tell("a late record of " + std::to_string(entry.tokens) + " tokens changed nothing (" + LeaseText(entry.lease) + ")");
  }

  void On(const ClaimEntry& entry) {
    for (const auto& [group_id, uids] : entry.groups) {
      if (!IsOurGroup(group_id)) continue;
      const bool named = groups_.contains(group_id) || std::any_of(uids.begin(), uids.end(), [&](uint64_t uid) { return IsOurs(uid); });
      Tell((named ? "claimed for step " : "its group was claimed, without it, for step ") + std::to_string(entry.step) + " (claim " + entry.claim +
           ")");
      claims_[entry.claim] = {entry.step, false, false};
    }
  }

  void On(const CommitEntry& entry) {
    const auto claim = claims_.find(entry.claim);
    if (claim != claims_.end() && !claim->second.trained) {
      claim->second.trained = true;
      Tell("trained: step " + std::to_string(entry.step) + " made policy version " + std::to_string(entry.version) +
           (entry.advanced ? "" : ", without a gradient"));
    }
    if (!entry.checkpoint) return;
    for (auto& [id, item] : claims_) {
      if (!item.trained || item.consumed || item.step > entry.step) continue;
      item.consumed = true;
      Tell("consumed: checkpoint " + *entry.checkpoint + " contains step " + std::to_string(item.step));
    }
  }

  void On(const RewindEntry& entry) {
    for (auto item = claims_.begin(); item != claims_.end();) {
      const bool undone = item->second.step >= entry.to_step;
      if (undone) Tell("a rewind to checkpoint " + entry.checkpoint + " undid step " + std::to_string(item->second.step) + ": ready again");
      item = undone ? claims_.erase(item) : std::next(item);
    }
  }

  void On(const DropEntry& entry) {
    for (const uint64_t group_id : entry.groups) {
      if (IsOurGroup(group_id)) Tell("its group was dropped: " + entry.why);
    }
  }

  void On(const AbandonEntry& entry) {
    if (claims_.erase(entry.claim) > 0) Tell("claim " + entry.claim + " was abandoned (" + entry.why + "): ready again");
  }

  void On(const SnapshotEntry& entry) { snapshot_claims_ = entry.claims; }
  void On(const GroupEntry& entry) {
    snapshot_group_ = entry.group_id;
    Found(entry.group_id, {});
    for (const ClaimMeta& claim : snapshot_claims_) {
      const bool has = std::find(claim.groups.begin(), claim.groups.end(), entry.admission) != claim.groups.end();
      if (has) snapshot_claim_[entry.group_id] = claim;
    }
    if (IsOurGroup(entry.group_id)) TellSnapshot("group, " + std::string(Name(entry.state)), entry.group_id);
  }
  void On(const MemberEntry& entry) {
    const uint64_t uid = entry.rollout.uid;
    if (prefix_.Matches(uid)) rollouts_[uid] = snapshot_group_;
    const auto group = groups_.find(snapshot_group_);
    if (group != groups_.end()) group->second.push_back(uid);
    if (!IsOurs(uid)) return;
    TellSnapshot(
        std::string(Name(entry.rollout.state)) + ", " + std::to_string(entry.rollout.tokens) + " tokens, last changed " + TimeText(entry.changed_ns),
        snapshot_group_);
    if (!payload_.empty()) Keep();
  }
  template <typename Other>
  void On(const Other&) {}

  void TellSnapshot(const std::string& what, uint64_t group_id) {
    const auto claim = snapshot_claim_.find(group_id);
    Tell("a compaction kept it: " + what + (claim == snapshot_claim_.end() ? "" : ", claimed for step " + std::to_string(claim->second.step)));
    if (claim == snapshot_claim_.end()) return;
    const GroupState state = claim->second.state;
    claims_[claim->second.id] = {claim->second.step, state != GroupState::kClaimed, state == GroupState::kConsumed};
  }

  void Keep() {
    const record::Record record = record::DecodeRecord(payload_);
    if (const auto* rollout = std::get_if<record::Rollout>(&record)) history_.journaled = *rollout;
  }

  struct Claimed {
    int64_t step;
    bool trained, consumed;
  };

  Prefix prefix_;
  History history_;
  int64_t ns_ = 0;
  Position at_;
  std::string_view payload_;
  std::map<uint64_t, uint64_t> rollouts_;             ///< that match → their group
  std::map<uint64_t, std::vector<uint64_t>> groups_;  ///< that match → their members
  std::map<std::string, Claimed> claims_;             ///< that have the group and are not consumed
  std::vector<ClaimMeta> snapshot_claims_;
  std::map<uint64_t, ClaimMeta> snapshot_claim_;  ///< by group
  uint64_t snapshot_group_ = 0;
};

}  // namespace

std::string TimeText(int64_t ns) {
  const time_t seconds = ns / 1'000'000'000;
  tm parts = {};
  ::gmtime_r(&seconds, &parts);
  char text[48], whole[64];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  std::snprintf(whole, sizeof whole, "%s.%03dZ", text, static_cast<int>(ns / 1'000'000 % 1000));
  return whole;
}

History ReadHistory(FileSystem& files, const std::string& directory, const std::string& digits) {
  for (;;) {
    Journal journal(files, directory);
    HistoryReader reader(digits);
    const bool read = journal.ReadNew([&](std::string_view raw, Position at) {
      ForEachEntry(raw, [&](const DecodedEntry& decoded, size_t offset) {
        at.entry = static_cast<uint32_t>(offset);
        reader.Read(decoded, at);
      });
    });
    if (read) return reader.Finish();
  }
}

}  // namespace april::buffer
