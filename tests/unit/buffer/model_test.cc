// A slow, obvious buffer in memory and the real one get the same random operations, with reopenings, and never differ.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>

#include "base/error.h"
#include "buffer/claiming.h"
#include "buffer_support.h"

namespace april {
namespace {

using namespace test;

/// The reference: everything in plain vectors, every question answered by looking at all of it.
struct Reference {
  struct Rollout {
    record::Rollout now;  // with all journaled tokens
    std::string state = "queued";
    uint64_t lease = 0, leases = 0;
    bool ungraded = false;
    bool Ended() const { return state == "scored" || state == "failed" || (state == "complete" && ungraded); }
  };
  struct Group {
    std::vector<Rollout> members;
    std::string state = "open";
    int64_t ready_order = -1;
  };
  buffer::RunConfig config;
  int64_t num_prompts = 0;
  std::vector<Group> groups;
  std::vector<std::vector<size_t>> claims;  // by step: indices of groups
  std::vector<std::string> claim_states;
  int64_t next_ready = 0;

  Rollout* Find(uint64_t uid) {
    for (Group& group : groups) {
      for (Rollout& rollout : group.members) {
        if (rollout.now.uid == uid) return &rollout;
      }
    }
    return nullptr;
  }
  Group& GroupOf(uint64_t uid) {
    for (Group& group : groups) {
      for (Rollout& rollout : group.members) {
        if (rollout.now.uid == uid) return group;
      }
    }
    throw std::logic_error("no such rollout");
  }
  std::vector<uint64_t> Take(int64_t count, uint64_t lease) {
    std::vector<Rollout*> taken;
    for (const char* state : {"partial", "queued"}) {
      for (Group& group : groups) {
        for (Rollout& rollout : group.members) {
          if (rollout.state == state && static_cast<int64_t>(taken.size()) < count) taken.push_back(&rollout);
        }
      }
    }
    std::vector<uint64_t> uids;
    for (Rollout* rollout : taken) uids.push_back(rollout->now.uid);
    while (static_cast<int64_t>(uids.size()) < count && static_cast<int64_t>(groups.size()) < num_prompts) {
      Group group;
      for (int64_t i = 0; i < config.group_size; ++i) {
        Rollout rollout;
        rollout.now.uid = record::RolloutUid(config.run, "p" + std::to_string(groups.size()), 0, i, 0);
        group.members.push_back(rollout);
        if (static_cast<int64_t>(uids.size()) < count) uids.push_back(rollout.now.uid);
      }
      groups.push_back(group);
    }
    for (const uint64_t uid : uids) {
      Find(uid)->state = "leased";
      Find(uid)->lease = lease;
      ++Find(uid)->leases;
    }
    return uids;
  }
  void Release(uint64_t lease) {
    for (Group& group : groups) {
      for (Rollout& rollout : group.members) {
        if (rollout.state == "leased" && rollout.lease == lease) rollout.state = rollout.now.tokens.empty() ? "queued" : "partial";
      }
    }
  }
  void Settle(Group& group) {
    int64_t ended = 0, scored = 0;
    for (const Rollout& rollout : group.members) {
      ended += rollout.Ended();
      scored += rollout.state == "scored";
    }
    if (group.state == "open" && ended == config.group_size && scored >= config.min_members) {
      group.state = "ready";
      group.ready_order = next_ready++;
    }
  }
  /// A record under a lease; only the current one may change anything.
  void Put(const record::Rollout& record) {
    Rollout& rollout = *Find(record.uid);
    Group& group = GroupOf(record.uid);
    const bool current = rollout.state == "leased" && record.lease && rollout.lease == record.lease->id && rollout.leases == record.lease->epoch;
    const bool ok = record.reward && record.reward->status == "ok";
    if (!current) {
      const bool finished = rollout.state == "complete" || rollout.state == "scored";
      const bool unclaimed = group.state == "open" || group.state == "ready";
      if (finished && unclaimed && ok && record.tokens == rollout.now.tokens)
        rollout.state = "scored", rollout.now = record, rollout.ungraded = false;
      Settle(group);
      return;
    }
    rollout.now = record;
    if (record.status == record::Status::kFailed) rollout.state = "failed";
    if (record.status == record::Status::kComplete) rollout.state = ok ? "scored" : "complete", rollout.ungraded = record.reward && !ok;
    if (record.status == record::Status::kPartial) rollout.state = "partial";
    if (record.status == record::Status::kQueued) rollout.state = "queued";
    Settle(group);
  }
  std::vector<size_t> Ready() {
    std::vector<size_t> ready;
    for (size_t i = 0; i < groups.size(); ++i) {
      if (groups[i].state == "ready") ready.push_back(i);
    }
    std::sort(ready.begin(), ready.end(), [&](size_t a, size_t b) { return groups[a].ready_order < groups[b].ready_order; });
    return ready;
  }
  bool Claim(int64_t count) {
    if (!claims.empty() && claim_states.back() == "claimed") return false;
    std::vector<size_t> ready = Ready();
    if (static_cast<int64_t>(ready.size()) < count) return false;
    ready.resize(static_cast<size_t>(count));
    for (const size_t index : ready) groups[index].state = "claimed";
    claims.push_back(ready);
    claim_states.push_back("claimed");
    return true;
  }
};

class Pair {
 public:
  explicit Pair(uint64_t seed) : seed_(seed), scratch_(Config(), kPrompts) {
    reference_.config = Config();
    reference_.num_prompts = kPrompts;
  }

  void Step() {
    const uint64_t choice = Draw(100);
    if (choice < 22) {
      TakeSome();
    } else if (choice < 60) {
      PutSome();
    } else if (choice < 66) {
      PutStale();
    } else if (choice < 72) {
      ReleaseOne();
    } else if (choice < 82) {
      ClaimSome();
    } else if (choice < 90) {
      CommitSome();
    } else if (choice < 92) {
      AbandonNewest();
    } else if (choice < 97) {
      scratch_.Reopen();
    } else {
      RescoreOne();
    }
  }

  void Compare() {
    const buffer::State& state = scratch_.state();
    REQUIRE(state.groups_admitted() == static_cast<int64_t>(reference_.groups.size()));
    for (const auto& [admission, group] : state.groups()) {
      const Reference::Group& expected = reference_.groups[admission];
      REQUIRE(buffer::Name(group.state) == expected.state);
      for (size_t i = 0; i < group.members.size(); ++i) {
        REQUIRE(group.members[i].uid == expected.members[i].now.uid);
        REQUIRE(buffer::Name(group.members[i].state) == expected.members[i].state);
        REQUIRE(group.members[i].tokens == static_cast<int32_t>(expected.members[i].now.tokens.size()));
        REQUIRE(group.members[i].lease_epoch == expected.members[i].leases);
      }
    }
    const std::vector<size_t> ready = reference_.Ready();
    REQUIRE(state.ready().size() == ready.size());
    REQUIRE(std::equal(ready.begin(), ready.end(), state.ready().begin(), [](size_t a, const auto& b) { return a == b.second; }));
    REQUIRE(state.next_step() == static_cast<int64_t>(reference_.claims.size()));
  }

  /// Every token that was journaled is there, bit for bit.
  void CompareTokens() {
    for (const auto& [admission, group] : scratch_.state().groups()) {
      for (size_t i = 0; i < group.members.size(); ++i) {
        const record::Rollout rollout = scratch_.store->ReadRollout(buffer::MakeKey(admission, i));
        const record::Rollout& expected = reference_.groups[admission].members[i].now;
        REQUIRE(rollout.tokens == expected.tokens);
        REQUIRE(rollout.logprobs == expected.logprobs);
        REQUIRE(rollout.weight_versions == expected.weight_versions);
      }
    }
  }

 private:
  static constexpr int64_t kPrompts = 60;
  static buffer::RunConfig Config() {
    buffer::RunConfig config = SmallConfig();
    config.retain_steps = 1000;
    config.max_tokens = 1 << 20;
    return config;
  }
  uint64_t Draw(uint64_t below) { return RandomBits(seed_, RandomUse::kTest, 0, draws_++) % below; }

  void TakeSome() {
    const auto count = static_cast<int64_t>(1 + Draw(7));
    const uint64_t lease = ++next_lease_;
    const auto taken = Take(*scratch_.store, count, lease);
    const auto expected = reference_.Take(count, lease);
    REQUIRE(taken.size() == expected.size());
    for (size_t i = 0; i < taken.size(); ++i) {
      REQUIRE(taken[i].uid == expected[i]);
      REQUIRE(taken[i].tokens == reference_.Find(expected[i])->now.tokens);
      held_.push_back(taken[i]);
    }
  }

  record::Rollout Outcome(record::Rollout rollout) {
    const auto tokens = static_cast<int64_t>(Draw(6));
    rollout = Generate(std::move(rollout), tokens, Draw(3) + static_cast<uint64_t>(scratch_.state().next_step()));
    rollout.weight_versions = Merged(rollout.weight_versions);
    switch (Draw(8)) {
      case 0:
        return rollout;
      case 1:
        return Failed(std::move(rollout));
      case 2:
        return Complete(std::move(rollout));
      case 3:
        return Scored(std::move(rollout), 0, "error");
      default:
        return Scored(std::move(rollout), static_cast<double>(Draw(2)));
    }
  }

  void PutSome() {
    if (held_.empty()) return;
    const size_t index = Draw(held_.size());
    record::Rollout& held = held_[index];
    std::vector<record::Record> records;
    for (uint64_t deltas = Draw(3); deltas > 0; --deltas) {
      const auto tokens = static_cast<int64_t>(1 + Draw(4));
      const record::Rollout next = Generate(held, tokens, Draw(2) + static_cast<uint64_t>(scratch_.state().next_step()));
      records.push_back(Delta(held, next));
      Reference::Rollout& expected = *reference_.Find(held.uid);
      if (expected.state == "leased" && expected.lease == held.lease->id && expected.leases == held.lease->epoch) {
        expected.now = next;
        expected.now.weight_versions = Merged(next.weight_versions);
      }
      held = next;
      held.weight_versions = Merged(held.weight_versions);
      // The journal's own segments are those of one lease; the reference does not compare them.
    }
    if (Draw(3) > 0) {
      const record::Rollout outcome = Outcome(held);
      records.push_back(outcome);
      if (Draw(4) == 0) records.push_back(outcome);
      reference_.Put(outcome);
      finished_.push_back(outcome);
      held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(index));
    }
    const buffer::PutCounts counts = Put(*scratch_.store, records);
    INFO(counts.first_reject);
    REQUIRE(counts.rejected == 0);
  }

  static std::vector<record::WeightSpan> Merged(const std::vector<record::WeightSpan>& spans) {
    std::vector<record::WeightSpan> merged;
    for (const record::WeightSpan& span : spans) {
      if (!merged.empty() && merged.back().version == span.version && merged.back().end == span.start) {
        merged.back().end = span.end;
      } else {
        merged.push_back(span);
      }
    }
    return merged;
  }

  void PutStale() {
    if (finished_.empty()) return;
    const record::Rollout old = finished_[Draw(finished_.size())];
    const std::string before = reference_.Find(old.uid)->state;
    // What comes under an old lease may only score a finished response again.
    reference_.Put(old);
    Put(*scratch_.store, {old});
  }

  void ReleaseOne() {
    if (next_lease_ == 0) return;
    const uint64_t lease = 1 + Draw(next_lease_);
    scratch_.store->Transact([&](buffer::Batch& batch) { buffer::ReleaseLease(scratch_.state(), batch, lease, "ended"); });
    reference_.Release(lease);
  }

  void ClaimSome() {
    const auto count = static_cast<int64_t>(1 + Draw(3));
    std::string waits_for;
    scratch_.store->Transact([&](buffer::Batch& batch) { waits_for = buffer::MakeClaim(scratch_.state(), batch, count, std::nullopt); });
    REQUIRE(waits_for.empty() == reference_.Claim(count));
  }

  void CommitSome() {
    const int64_t step = scratch_.state().first_uncommitted_step();
    if (step == scratch_.state().next_step()) return;
    record::Step record;
    record.claim = scratch_.state().FindClaim(step)->id;
    record.step = step;
    record.version = static_cast<uint64_t>(step) + 1;
    if (Draw(3) == 0) record.checkpoint = "c";
    scratch_.store->Transact([&](buffer::Batch& batch) { REQUIRE(buffer::CommitStep(scratch_.state(), batch, record)); });
    reference_.claim_states[static_cast<size_t>(step)] = "trained";
    for (size_t i = 0; i <= static_cast<size_t>(step); ++i) {
      if (record.checkpoint) reference_.claim_states[i] = "consumed";
      for (const size_t group : reference_.claims[i]) reference_.groups[group].state = reference_.claim_states[i];
    }
  }

  void AbandonNewest() {
    if (reference_.claims.empty() || reference_.claim_states.back() != "claimed") return;
    const std::string id = scratch_.state().FindClaim(scratch_.state().next_step() - 1)->id;
    scratch_.store->Transact([&](buffer::Batch& batch) { buffer::AbandonClaim(scratch_.state(), batch, id, "test"); });
    for (const size_t group : reference_.claims.back()) reference_.groups[group].state = "ready";
    reference_.claims.pop_back();
    reference_.claim_states.pop_back();
  }

  void RescoreOne() {
    if (finished_.empty()) return;
    record::Rollout rollout = finished_[Draw(finished_.size())];
    if (rollout.status != record::Status::kComplete) return;
    rollout = Scored(std::move(rollout), static_cast<double>(Draw(100)) / 4);
    reference_.Put(rollout);
    Put(*scratch_.store, {rollout});
  }

  uint64_t seed_, draws_ = 0, next_lease_ = 0;
  ScratchBuffer scratch_;
  Reference reference_;
  std::vector<record::Rollout> held_, finished_;
};

TEST_CASE("random operations leave the real buffer and the obvious one equal") {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    Pair pair(seed);
    for (int step = 0; step < 600; ++step) {
      INFO("seed " << seed << ", operation " << step);
      pair.Step();
      pair.Compare();
      if (step % 50 == 49) pair.CompareTokens();
    }
  }
}

}  // namespace
}  // namespace april
