// The client side of the buffer's hub (`partial-buffer serve`): what a generator, a sink, a trainer's feed or a viewer asks of it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "buffer/claim_info.h"
#include "buffer/put_counts.h"
#include "buffer/run_config.h"
#include "record/records.h"
#include "stream/rpc.h"
#include "stream/value.h"

namespace april::buffer {

/// What the hub wants of a generator.
enum class Demand {
  kGo,     ///< generate, fill free slots
  kPause,  ///< enough is ready: stop decoding, keep the unfinished rollouts, ask again after `poll_ms`
  kDrain,  ///< the run ends: emit what is unfinished as partial (or queued), finish the stream, Bye
};

struct LeaseAnswer {
  std::vector<record::Rollout> rollouts;  ///< new for this worker: queued or partial, each with its lease, to be carried in everything emitted for it
  Demand demand = Demand::kPause;
  /// Policy version that generation needs from now on: with an older one, fetch weights before the next token. nullopt: none was trained yet.
  std::optional<uint64_t> min_version;
  std::vector<uint64_t> lost;  ///< held uids whose lease is no longer this worker's: forget them, emit nothing for them
  int64_t poll_ms = 20;        ///< ask again after this long, or when slots become free; well below the leases' term
};

struct ClaimAnswer {
  enum class State {
    kGranted,  ///< `claim` is set: fetch its records
    kWait,     ///< not enough is ready, or the step before is not committed: `waits_for` says what; ask again after `poll_ms`
    kStopped,  ///< the hub is ending: no further claim
    kEmpty,    ///< nothing is left to generate and too little is ready: `waits_for` says what is missing
  };
  State state = State::kWait;
  std::optional<ClaimInfo> claim;
  std::string waits_for;
  int64_t poll_ms = 20;
};

enum class CommitOutcome { kCommitted, kRepeated };

/// One object, one session, one thread. Every call throws Peer when the hub does not answer in time, and the hub's own errors by their kind.
/// Calls are idempotent: one that is repeated after a lost connection or a restart of the hub does what it did.
///   A generator      Hello("generate"); Lease in a loop; on kDrain or a stop emit everything held, finish the stream, Bye.
///   A sink           Hello("put"); Put in batches, Beat in between; PutEnd; Bye.
///   A trainer's feed Hello("claim"); Claim(step), FetchClaim; next step; Bye. A committer: Hello("commit"); Commit, Beat in between; Bye.
class HubClient {
 public:
  /// `worker` names the process over restarts ("" = this process alone): Hello("generate") gives back what an earlier session of that name still
  /// held.
  HubClient(const std::string& endpoint, std::string worker, int64_t timeout_ms);
  ~HubClient();
  HubClient(const HubClient&) = delete;
  HubClient& operator=(const HubClient&) = delete;

  /// Opens the session. `role` is generate, put, claim, commit or look; `steps` (claim only) is the run's length, after which the hub drains.
  /// Waits for a hub that is not up yet, within the timeout.
  const RunConfig& Hello(const std::string& role, std::optional<int64_t> steps = std::nullopt);
  const RunConfig& config() const { return config_; }
  /// A session that has nothing to ask beats at least so often: well within the leases' term, and within the silence after which a hub that ends
  /// takes a client for gone.
  int64_t beat_ms() const;

  /// Asks for up to `want` rollouts (0: only news), renews the session's leases. `held` are the uids that this worker is still working on: a leased
  /// rollout that is no longer held counts as emitted and on its way through the pipe. `version` is the policy version now loaded.
  LeaseAnswer Lease(int64_t want, const std::vector<uint64_t>& held, std::optional<uint64_t> version);

  /// Encoded rollout and progress records (other types are ignored). Returns once they are durable. Split into messages as the limits ask.
  /// Adds the leases that they name to `leases`, for PutEnd.
  PutCounts Put(const std::vector<std::string>& records, std::set<uint64_t>* leases);
  /// Nothing to say, but alive.
  void Beat();
  /// The input ended. Whole (its end was verified): closes the lease sets that its records named, once their generators said bye; their rollouts that
  /// were not mentioned return to the queue. Cut: what generators emitted and nobody put returns at once.
  void PutEnd(const std::vector<uint64_t>& lease_ids, bool whole);

  /// The first step that a trainer which resumes from `checkpoint` (nullopt: from what the buffer knows to be durable) has to be given.
  int64_t FirstStep(const std::optional<CheckpointInfo>& checkpoint);
  /// The claim of step `step`: the recorded one if it was made already, otherwise a new one of `groups` groups (0 = the run's groups per step).
  /// `filter`: none or nonzero-std from now on; "" = as it is.
  ClaimAnswer Claim(int64_t step, int64_t groups, const std::optional<std::string>& parent, const std::string& filter = "");
  /// The encoded group and rollout records of a claim from record `first` on, as many as one message holds; empty after the last.
  std::vector<std::string> FetchClaim(const std::string& claim_id, int64_t first);

  CommitOutcome Commit(const record::Step& step);
  void Abandon(const std::string& claim_id);
  /// Returns how many of these groups were not dropped before.
  int64_t Drop(const std::vector<uint64_t>& group_ids, const std::string& why);
  /// Numbers of the hub and its buffer, as `partial-buffer stat --json` prints them.
  stream::Map Stat();
  /// Tells generators to drain and claims to stop, as a first signal to the hub does.
  void Drain();
  /// Ends the session: everything asked before was answered, so a hub that is gone is no error. A generator's leases stay until the sink's PutEnd or
  /// their term.
  void Bye();

  /// Bytes of records that one message holds at most, beyond its first record.
  static constexpr uint64_t kMaxRecordBytes = 32u << 20;

 private:
  stream::Map Call(const char* op, stream::Map arguments);

  std::unique_ptr<stream::RpcClient> rpc_;
  std::string worker_, role_ = "look";
  uint64_t session_ = 0;
  uint64_t lease_request_ = 0;
  int64_t term_ms_ = 60'000;
  RunConfig config_;
};

}  // namespace april::buffer
