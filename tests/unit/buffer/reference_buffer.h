// A slow, obvious buffer: everything in plain vectors, every question answered by looking at all of it. It does what formats/buffer.md says under
// "States" and "The run", and has nothing of lib/buffer but the run's configuration.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "buffer/run_config.h"
#include "record/records.h"

namespace april::test {

struct ReferenceBuffer {
  struct Rollout {
    record::Rollout now;  // with all journaled tokens
    std::string state = "queued";
    uint64_t lease = 0, leases = 0;
    int64_t resumes = 0;  // of its newest whole record
    bool ungraded = false;
    bool Ended() const { return state == "scored" || state == "failed" || (state == "complete" && ungraded); }
  };
  struct Group {
    uint64_t id = 0;
    std::vector<Rollout> members;
    std::string state = "open", dropped_for;
    int64_t ready_order = 0, dropped_step = 0;
    bool forgotten = false;

    bool AllEnded() const;
    // Policy versions of the tokens of members that are or may still be claimed; nothing without tokens.
    std::optional<uint64_t> Oldest() const;
    std::optional<uint64_t> Newest() const;
    bool HasEqualRewards() const;
  };
  struct Claim {
    std::vector<size_t> groups;
    std::string state = "claimed";
  };
  /// What a claim of some number of groups would take now, in its order, and what it waits for.
  struct Outlook {
    std::vector<size_t> takes;
    bool enough = false;       // so many may be taken
    bool waits = true;         // it cannot be made
    std::set<size_t> awaited;  // unfinished groups that go first
  };

  buffer::RunConfig config;
  buffer::GroupFilter filter = buffer::GroupFilter::kNone;
  int64_t num_prompts = 0;
  std::vector<Group> groups;  // by admission
  std::vector<Claim> claims;  // by step
  size_t first_kept = 0;      // steps before it are forgotten
  std::optional<uint64_t> version;
  uint64_t left_version = 0;        // highest one of a course that a rewind left, until it is reached again
  std::vector<std::string> undone;  // claims' ids
  int64_t next_ready = 0, first_ready = 0;

  Rollout* Find(uint64_t uid);
  std::vector<uint64_t> Take(int64_t count, uint64_t lease, const std::string& order, bool beyond_demand);
  void Release(uint64_t lease);
  /// A record under a lease; only the current one may change anything.
  void Put(const record::Rollout& record);
  bool MakeClaim(int64_t count);
  void Commit(size_t step, bool with_checkpoint);
  /// The newest claim, unless it is committed.
  bool Abandon();
  /// Back to before `step`, when policy version `to_version` was the newest.
  void Rewind(size_t step, uint64_t to_version);
  /// An open or ready group: what is leased of it ends.
  void Drop(size_t index, const std::string& why);

  size_t FirstUncommitted() const;
  std::vector<size_t> Ready() const;  // by the order in which they became it
  Outlook Look(int64_t count) const;
  /// Groups of all claims that may be made before the next commit.
  int64_t ToClaim() const;
  /// Nothing is left to generate, and too little for another claim is there.
  bool Exhausted() const;

 private:
  Group& GroupOf(uint64_t uid);
  void Settle(Group& group);
  void DropStale();
  void Forget();
  int64_t Version() const { return static_cast<int64_t>(version.value_or(0)); }
  int64_t NumUncommitted() const { return static_cast<int64_t>(claims.size() - FirstUncommitted()); }
  bool IsAssigned() const { return config.admission.kind == buffer::Admission::Kind::kAssigned; }
  bool IsWindow() const { return config.admission.kind == buffer::Admission::Kind::kWindow; }
  bool IsStale(const Group& group) const;
  bool IsFiltered(const Group& group) const;
  bool IsAhead(const Group& group) const;
  bool Counts(const Group& group) const;
  bool IsOverdue(const Group& group, const Rollout& rollout) const;
  uint64_t Place(const std::string& order, const Rollout& rollout) const;
  int64_t MostGroups() const;
};

}  // namespace april::test
