// The hub's half that faces the pipe: what generators lease and sinks put, the demand, and what is on its way from one to the other.
#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/log.h"
#include "buffer/hub.h"
#include "buffer/leasing.h"
#include "buffer/map_fields.h"
#include "buffer/putting.h"

namespace april::buffer {
namespace {

using stream::Array;
using stream::Bin;
using stream::Map;
using stream::Value;

constexpr const char* kDemandNames[] = {"go", "pause", "drain"};

Map Counts(const PutCounts& counts, const std::set<uint64_t>& leases = {}) {
  return {{"accepted", counts.accepted}, {"repeated", counts.repeated},         {"superseded", counts.superseded},
          {"rejected", counts.rejected}, {"first_reject", counts.first_reject}, {"leases", UidArray({leases.begin(), leases.end()})}};
}

}  // namespace

Map Hub::Lease(const Map& request, uint64_t id, Session& session) {
  std::vector<uint64_t> lost;
  NoteHeld(request, id, session, &lost);
  const Demand demand = CurrentDemand();
  Array rollouts;
  for (const uint64_t key : NewLeases(request, id, session, demand)) {
    rollouts.push_back(Bin{record::EncodeRecord(store_.ReadRollout(key))});
    session.in_pipe.erase(key);
  }
  const std::optional<uint64_t> version = store_.state().policy_version();
  const auto ahead = static_cast<uint64_t>(store_.state().config().run_ahead);
  return {{"rollouts", std::move(rollouts)},
          {"demand", kDemandNames[static_cast<int>(demand)]},
          {"min_version", version && *version >= ahead ? Value(*version - ahead) : Value()},
          {"lost", UidArray(lost)},
          // Who generates asks anyway when a slot is free; who waits for the trainer should not wait longer than it must.
          {"poll_ms", demand == Demand::kGo ? 10 * options_.poll_ms : options_.poll_ms}};
}

/// Renews the leases, and learns which rollouts are in the generator's hands and which on their way through the pipe.
void Hub::NoteHeld(const Map& request, uint64_t id, Session& session, std::vector<uint64_t>* lost) {
  const State& state = store_.state();
  const std::vector<uint64_t> held = ParseUids(MapFields(request, kSubject).Array("held"));
  std::set<uint64_t> held_keys;
  for (const uint64_t uid : held) {
    const auto key = state.FindRollout(uid);
    if (key && state.rollout(*key).state == RolloutState::kLeased && state.rollout(*key).lease_id == id) {
      held_keys.insert(*key);
    } else {
      lost->push_back(uid);
    }
  }
  std::map<uint64_t, int64_t> in_pipe;
  if (const auto set = state.leases().find(id); set != state.leases().end()) {
    for (const uint64_t key : set->second.held) {
      if (held_keys.contains(key)) continue;
      const auto since = session.in_pipe.find(key);
      in_pipe[key] = since == session.in_pipe.end() ? Now() : since->second;
    }
  }
  session.in_pipe = std::move(in_pipe);
}

std::vector<uint64_t> Hub::NewLeases(const Map& request, uint64_t id, const Session& session, Demand demand) {
  const MapFields fields(request, kSubject);
  const State& state = store_.state();
  const uint64_t number = fields.Uint("request");
  std::vector<uint64_t> keys;
  if (const auto set = state.leases().find(id); set != state.leases().end() && set->second.last_request == number) {
    for (const uint64_t uid : set->second.last_uids) {
      const auto key = state.FindRollout(uid);
      if (key && set->second.held.contains(*key)) keys.push_back(*key);
    }
    return keys;
  }
  const int64_t want = std::min(fields.Int("want"), RolloutsWanted(state));
  if (want <= 0 || demand != Demand::kGo) return keys;
  LeaseRequest lease;
  lease.lease = id;
  lease.worker = session.worker;
  lease.request = number;
  lease.hub = true;
  lease.max_rollouts = want;
  lease.max_bytes = HubClient::kMaxRecordBytes;
  lease.order = options_.order;
  store_.Transact([&](Batch& batch) { keys = LeaseRollouts(store_, batch, lease); }, Wait::kAsLongAsAllowed);
  leased_count_ += static_cast<int64_t>(keys.size());
  return keys;
}

/// Groups that lack nothing but what is in the pipe.
std::set<uint64_t> Hub::PresumedReady() const {
  const State& state = store_.state();
  std::set<uint64_t> in_pipe, groups;
  for (const auto& [id, session] : sessions_) {
    const auto set = state.leases().find(id);
    if (set == state.leases().end()) continue;
    for (const auto& [key, since] : session.in_pipe) {
      if (!set->second.held.contains(key)) continue;  // it was put since
      in_pipe.insert(key);
      groups.insert(AdmissionOf(key));
    }
  }
  std::erase_if(groups, [&](uint64_t admission) {
    const std::vector<RolloutMeta>& members = state.group(admission).members;
    for (size_t i = 0; i < members.size(); ++i) {
      if (!members[i].Ended() && !in_pipe.contains(MakeKey(admission, i))) return true;
    }
    return false;
  });
  return groups;
}

Demand Hub::CurrentDemand() const {
  const State& state = store_.state();
  if (draining_ || (options_.steps && state.next_step() >= *options_.steps) || IsExhausted(state)) return Demand::kDrain;
  if (!store_.HasReserve()) return Demand::kPause;
  const int64_t wanted = GroupsWanted(state);
  if (wanted == 0) return Demand::kPause;
  size_t in_pipe = 0;  // at least as many as groups that are presumed ready
  for (const auto& [id, session] : sessions_) in_pipe += session.in_pipe.size();
  return wanted > static_cast<int64_t>(in_pipe) || GroupsWanted(state, PresumedReady()) > 0 ? Demand::kGo : Demand::kPause;
}

Map Hub::Put(const Map& request, Session& session) {
  PutCounts counts;
  std::set<uint64_t> leases;
  if (MapFields(request, kSubject).Array("records").empty()) return Counts(counts);  // a beat
  store_.Transact(
      [&](Batch& batch) {
        for (const Value& record : MapFields(request, kSubject).Array("records")) PutRecord(store_, batch, record.AsBin(), &counts, &leases);
      },
      Wait::kAsLongAsAllowed);
  for (const uint64_t lease : leases) {
    session.leases.insert(lease);
    if (const auto generator = sessions_.find(lease); generator != sessions_.end()) generator->second.seen_ns = Now();
  }
  put_counts_ += counts;
  return Counts(counts, leases);
}

Map Hub::PutEnd(const Map& request, Session& session) {
  session.leases.clear();
  const MapFields fields(request, kSubject);
  for (const uint64_t lease : ParseUids(fields.Array("leases"))) {
    if (!fields.Bool("whole")) {
      ReleaseInPipe(lease, 0);
      continue;
    }
    const auto generator = sessions_.find(lease);
    if (generator == sessions_.end()) {
      store_.Transact([&](Batch& batch) { ReleaseLease(store_.state(), batch, lease, "ended"); }, Wait::kAsLongAsAllowed);
      continue;
    }
    generator->second.put_ended = true;
    CloseIfOver(lease);
  }
  return {};
}

/// Gives a lease set's rest back once nothing can come for it any more: its generator ended, and so did every sink that named it.
void Hub::CloseIfOver(uint64_t lease) {
  const Session& generator = sessions_.at(lease);
  if (IsLive(generator) || !generator.put_ended) return;
  for (const auto& [id, session] : sessions_) {
    if (session.leases.contains(lease) && !session.bye) return;
  }
  store_.Transact([&](Batch& batch) { ReleaseLease(store_.state(), batch, lease, "ended"); }, Wait::kAsLongAsAllowed);
}

/// Gives back what the generator emitted and nobody put for `min_age_ns`.
void Hub::ReleaseInPipe(uint64_t lease, int64_t min_age_ns) {
  const auto generator = sessions_.find(lease);
  const auto set = store_.state().leases().find(lease);
  if (generator == sessions_.end() || set == store_.state().leases().end()) return;
  ReleaseEntry lost{lease, "lost", {}};
  for (const auto& [key, since] : generator->second.in_pipe) {
    if (Now() - since >= min_age_ns && set->second.held.contains(key)) lost.rollouts.push_back(store_.state().rollout(key).uid);
  }
  if (lost.rollouts.empty()) return;
  store_.Transact([&](Batch& batch) { batch.Add(lost); }, Wait::kAsLongAsAllowed);
  log::Warn(std::to_string(lost.rollouts.size()) + " rollouts left generator " + NameOf(lease, generator->second) +
            " and were never put: they returned to the queue");
}

}  // namespace april::buffer
