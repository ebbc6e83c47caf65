// A snapshot that contradicts itself is damage, told before anything is done with it.
#include <catch2/catch.hpp>
#include <functional>

#include "base/error.h"
#include "buffer/claiming.h"
#include "buffer_support.h"

namespace april {
namespace {

using namespace test;
using buffer::Entry;
using buffer::GroupEntry;
using buffer::GroupState;
using buffer::MemberEntry;
using buffer::SnapshotEntry;
using buffer::State;

/// The entries of one, to be changed.
struct Parts {
  SnapshotEntry head;
  struct Group {
    GroupEntry entry;
    std::vector<MemberEntry> members;
  };
  std::vector<Group> groups;

  Group& First(GroupState state) {
    for (Group& group : groups) {
      if (group.entry.state == state) return group;
    }
    throw std::logic_error("no such group");
  }
};

/// One step consumed, one trained, one claimed; a ready group, an open one with a lease.
class EveryState : public ScratchBuffer {
 public:
  EveryState() : ScratchBuffer(Config()) {
    for (int group = 0; group < 5; ++group) {
      for (const record::Rollout& rollout : Take(*store, 3, 1)) Put(*store, {Scored(Generate(rollout, 4, 1), group % 2)});
    }
    Step(true, "checkpoint");
    Step(true, std::nullopt);
    Step(false, std::nullopt);
    Take(*store, 1, 2);
  }

  Parts Snapshot() const {
    Parts parts{state().Snapshot(), {}};
    for (const auto& [admission, group] : state().groups()) {
      parts.groups.push_back({state().SnapshotOf(admission), {}});
      for (size_t i = 0; i < group.members.size(); ++i) parts.groups.back().members.push_back(state().SnapshotOf(admission, i));
    }
    return parts;
  }

  /// What the parts add up to, behind this run's prompts.
  State Read(const Parts& parts) const {
    State read;
    buffer::Journal journal(SystemFiles(), directory);
    const bool whole = journal.ReadNew([&](std::string_view raw, buffer::Position at) {
      buffer::ForEachEntry(raw, [&](const buffer::DecodedEntry& decoded, size_t) {
        const bool of_prompts = std::holds_alternative<buffer::InitEntry>(decoded.entry) ||
                                std::holds_alternative<buffer::PromptEntry>(decoded.entry) ||
                                std::holds_alternative<buffer::PlanEntry>(decoded.entry);
        if (of_prompts) read.Apply(decoded, at);
      });
    });
    REQUIRE(whole);
    const auto apply = [&](const Entry& entry) {
      buffer::DecodedEntry decoded;
      decoded.entry = entry;
      read.Apply(decoded, {});
    };
    apply(parts.head);
    for (const Parts::Group& group : parts.groups) {
      apply(group.entry);
      for (const MemberEntry& member : group.members) apply(member);
    }
    read.CheckSnapshot();
    return read;
  }

 private:
  static buffer::RunConfig Config() {
    buffer::RunConfig config = SmallConfig();
    config.groups_per_step = 1;
    config.retain_steps = 10;
    config.run_ahead = true;
    return config;
  }
  void Step(bool commits, const std::optional<std::string>& checkpoint) {
    store->Transact([&](buffer::Batch& batch) { buffer::MakeClaim(state(), batch, 1, std::nullopt); });
    if (!commits) return;
    record::Step step;
    step.step = state().next_step() - 1;
    step.claim = state().FindClaim(step.step)->id;
    step.version = static_cast<uint64_t>(step.step) + 1;
    step.checkpoint = checkpoint;
    store->Transact([&](buffer::Batch& batch) { buffer::CommitStep(state(), batch, step); });
  }
};

TEST_CASE("a snapshot adds up to the state that it was taken of") {
  const EveryState run;
  const State read = run.Read(run.Snapshot());
  CHECK(read.next_step() == run.state().next_step());
  for (const GroupState state : {GroupState::kConsumed, GroupState::kTrained, GroupState::kClaimed, GroupState::kReady, GroupState::kOpen})
    CHECK(read.num_groups(state) == run.state().num_groups(state));
  CHECK(read.num_leased() == 1);
}

TEST_CASE("a snapshot that contradicts itself is damage") {
  const EveryState run;
  const std::pair<const char*, std::function<void(Parts&)>> wrongs[] = {
      {"a claim names a group that is not there", [](Parts& parts) { parts.head.claims[2].groups = {77}; }},
      {"a claim names no group, and one is claimed", [](Parts& parts) { parts.head.claims[2].groups.clear(); }},
      {"two claims name one group", [](Parts& parts) { parts.head.claims[2].groups.push_back(parts.head.claims[2].groups[0]); }},
      {"a claim is ready", [](Parts& parts) { parts.head.claims[2].state = GroupState::kReady; }},
      {"a claim is of another state than its group", [](Parts& parts) { parts.head.claims[2].state = GroupState::kTrained; }},
      {"a step is trained before the one that is only claimed",
       [](Parts& parts) {
         std::swap(parts.head.claims[1].state, parts.head.claims[2].state);
         std::swap(parts.First(GroupState::kTrained).entry.state, parts.First(GroupState::kClaimed).entry.state);
       }},
      {"steps are missing", [](Parts& parts) { parts.head.claims.erase(parts.head.claims.begin() + 1); }},
      {"a group is consumed and of no claim", [](Parts& parts) { parts.First(GroupState::kReady).entry.state = GroupState::kConsumed; }},
      {"a group misses a member", [](Parts& parts) { parts.First(GroupState::kReady).members.pop_back(); }},
      {"a rollout stands in two groups",
       [](Parts& parts) { parts.First(GroupState::kReady).members[0] = parts.First(GroupState::kTrained).members[0]; }},
      {"two groups became ready at one place",
       [](Parts& parts) {
         parts.First(GroupState::kOpen).entry.ready_order = parts.First(GroupState::kReady).entry.ready_order;
         parts.First(GroupState::kOpen).entry.state = GroupState::kReady;
       }},
      {"a rollout has a lease that is not there", [](Parts& parts) { parts.head.leases.clear(); }},
      {"more groups than the queue has", [](Parts& parts) { parts.head.admitted = 1000; }},
      {"fewer groups than stand behind it", [](Parts& parts) { parts.head.admitted = 2; }},
      {"a prompt that is not there", [](Parts& parts) { parts.First(GroupState::kOpen).entry.prompt = 1000; }},
  };
  for (const auto& [what, make] : wrongs) {
    INFO(what);
    Parts parts = run.Snapshot();
    make(parts);
    try {
      run.Read(parts);
      FAIL_CHECK("it was believed");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kData);
    }
  }
}

}  // namespace
}  // namespace april
