// The buffer's server: the requests of formats/buffer.md answered from one store, leases by term, and the demand that tells generators what is
// wanted.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "buffer/hub_client.h"
#include "buffer/store.h"
#include "stream/value.h"

namespace april::buffer {

struct HubOptions {
  int64_t term_ms = 60'000;      ///< of a lease: how long a generator may be silent
  int64_t poll_ms = 20;          ///< how soon clients that wait ask again
  std::optional<int64_t> steps;  ///< the run's length, when it is known
  TakeOrder order = TakeOrder::kPartialsFirst;
};

/// Knows no socket: one request in, one answer out.   Thread  one object, one thread.
class Hub {
 public:
  Hub(Store& store, const HubOptions& options);

  /// Throws what goes wrong; the buffer is unchanged then. When the store collects transactions, the answer is true only once the store was flushed.
  stream::Map Answer(const stream::Map& request);
  /// Takes back leases whose term is over. To be called several times a term.
  void Tick();

  void Drain() { draining_ = true; }
  bool draining() const { return draining_; }
  /// Every step of the run is committed.
  bool Finished() const { return options_.steps && store_.state().first_uncommitted_step() >= *options_.steps; }
  /// A claim is in training, and who will commit it is alive: said no bye, and something within a term.
  bool AwaitsCommit() const;
  /// Every session said bye or was silent for `silent_ms`, no rollout is leased through this hub, and no commit is awaited.
  bool Quiet(int64_t silent_ms) const;
  bool HadSessions() const { return had_sessions_; }

  Demand CurrentDemand() const;
  const PutCounts& put_counts() const { return put_counts_; }
  int64_t num_leased() const { return leased_count_; }
  int64_t num_requests() const { return num_requests_; }

 private:
  static constexpr std::string_view kSubject = "request to the hub";
  static constexpr int64_t kNsPerMs = 1'000'000;
  struct Session {
    std::string worker, role;
    int64_t seen_ns = 0;
    bool bye = false;
    bool put_ended = false;               ///< generator: a sink's input, which named its leases, was verified to its end
    std::set<uint64_t> leases;            ///< sink: lease sets that its records named
    std::map<uint64_t, int64_t> in_pipe;  ///< generator: keys that it leased and holds no longer → since when
  };

  Session& Touch(const stream::Map& request);
  bool IsLive(const Session& session) const;
  static std::string NameOf(uint64_t id, const Session& session);
  stream::Map Hello(const stream::Map& request, uint64_t id, Session& session);
  stream::Map Lease(const stream::Map& request, uint64_t id, Session& session);
  stream::Map Put(const stream::Map& request, Session& session);
  stream::Map PutEnd(const stream::Map& request, Session& session);
  stream::Map Claim(const stream::Map& request, uint64_t id);
  stream::Map Fetch(const stream::Map& request);
  stream::Map FirstStep(const stream::Map& request);
  stream::Map Commit(const stream::Map& request);
  stream::Map Drop(const stream::Map& request);
  stream::Map Bye(uint64_t id, Session& session);
  void NoteHeld(const stream::Map& request, uint64_t id, Session& session, std::vector<uint64_t>* lost);
  std::vector<uint64_t> NewLeases(const stream::Map& request, uint64_t id, const Session& session, Demand demand);
  void CloseIfOver(uint64_t lease);
  void LookForRoom();
  void ReleaseInPipe(uint64_t lease, int64_t min_age_ns);
  std::set<uint64_t> PresumedReady() const;
  stream::Map Dispatch(const stream::Map& request, Session& session);
  int64_t Now() const { return store_.clock().MonotonicNs(); }

  Store& store_;
  HubOptions options_;
  std::map<uint64_t, Session> sessions_;
  std::map<std::string, uint64_t> claimed_by_;  ///< claim id → session that it was made for
  bool draining_ = false, had_sessions_ = false;
  bool has_room_ = true;  ///< on the disk, for more than what comes back, as was told last
  int64_t looked_for_room_ns_ = 0;
  PutCounts put_counts_;
  int64_t leased_count_ = 0, num_requests_ = 0;
};

}  // namespace april::buffer
