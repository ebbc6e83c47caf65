#include "buffer/hub.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "buffer/claiming.h"
#include "buffer/dropping.h"
#include "buffer/leasing.h"
#include "buffer/map_fields.h"
#include "buffer/statistics.h"

namespace april::buffer {
namespace {

using stream::Array;
using stream::Bin;
using stream::Map;
using stream::Value;

constexpr int64_t kLookForRoomNs = 1'000'000'000;
constexpr int64_t kPipeTerms = 10;  // a rollout that nobody holds or puts for so many terms was lost on its way

Map InfoMap(const ClaimInfo& info) {
  return {{"id", info.id},
          {"step", info.step},
          {"parent", OrNil(info.parent)},
          {"version", OrNil(info.policy_version)},
          {"replay", info.replay},
          {"groups", info.groups},
          {"rollouts", info.rollouts},
          {"trained_version", OrNil(info.trained_version)},
          {"trained_weights", OrNil(info.trained_weights)}};
}

}  // namespace

Hub::Hub(Store& store, const HubOptions& options) : store_(store), options_(options) {
  // Leases of an earlier life of the hub get a full term: their generators may only have waited for this one.
  for (const auto& [lease, set] : store_.state().leases()) {
    if (!set.hub || set.held.empty()) continue;
    Session& session = sessions_[lease];
    session.worker = set.worker;
    session.role = "generate";
    session.seen_ns = Now();
  }
}

Map Hub::Answer(const Map& request) {
  store_.CheckWritable();
  if (store_.stale()) store_.Refresh();
  ++num_requests_;
  Session& session = Touch(request);
  Map answer = Dispatch(request, session);
  session.seen_ns = Now();  // a slow disk is not the client's silence
  return answer;
}

Map Hub::Dispatch(const Map& request, Session& session) {
  const MapFields fields(request, kSubject);
  const std::string& op = fields.Text("op");
  const uint64_t id = fields.Uint("session");
  if (op == "lease") return Lease(request, id, session);
  if (op == "put") return Put(request, session);
  if (op == "put_end") return PutEnd(request, session);
  if (op == "hello") return Hello(request, id, session);
  if (op == "claim") return Claim(request, id);
  if (op == "fetch") return Fetch(request);
  if (op == "first_step") return FirstStep(request);
  if (op == "commit") return Commit(request);
  if (op == "bye") return Bye(id, session);
  if (op == "drop") return Drop(request);
  if (op == "stat") return {{"stat", StatMap(store_)}};
  if (op == "abandon") {
    store_.Transact([&](Batch& batch) { AbandonClaim(store_.state(), batch, fields.Text("claim"), "abandoned through the hub"); });
    return {};
  }
  if (op == "drain") {
    Drain();
    return {};
  }
  throw Error::Usage("the hub does not know the request \"" + op + "\"", "formats/buffer.md lists the requests");
}

Hub::Session& Hub::Touch(const Map& request) {
  const MapFields fields(request, kSubject);
  const auto [found, is_new] = sessions_.try_emplace(fields.Uint("session"));
  Session& session = found->second;
  if (is_new) {
    // Its hello was to an earlier life of the hub, or it is the hello.
    session.worker = fields.Text("worker");
    session.role = fields.Text("role");
  }
  session.seen_ns = Now();
  had_sessions_ = true;
  return session;
}

std::string Hub::NameOf(uint64_t id, const Session& session) { return session.worker.empty() ? HexU64(id) : session.worker; }

bool Hub::IsLive(const Session& session) const { return !session.bye && Now() - session.seen_ns < options_.term_ms * kNsPerMs; }

Map Hub::Hello(const Map& request, uint64_t id, Session& session) {
  const MapFields fields(request, kSubject);
  if (fields.Has("steps")) options_.steps = fields.Int("steps");
  if (session.role == "generate" && !session.worker.empty()) {
    int64_t released = 0;
    store_.Transact([&](Batch& batch) { released = ReleaseWorker(store_.state(), batch, session.worker, id, "reclaimed"); }, Wait::kAsLongAsAllowed);
    if (released > 0)
      log::Info("worker " + session.worker + " is back: " + std::to_string(released) + " rollouts that it held returned to the queue");
    for (auto& [other_id, other] : sessions_) {
      if (other_id != id && other.role == "generate" && other.worker == session.worker) other.bye = true;
    }
  }
  return {{"config", ToMap(store_.state().config())}, {"term_ms", options_.term_ms}};
}

/// Generators pause while the reserve is missing, and go on once it can be set aside again.
void Hub::LookForRoom() {
  const bool had_room = has_room_;
  if (!store_.HasReserve() && Now() - looked_for_room_ns_ >= kLookForRoomNs) {
    looked_for_room_ns_ = Now();
    store_.MakeReserve();
  }
  has_room_ = store_.HasReserve();
  if (had_room && !has_room_)
    log::Warn(store_.directory() + ": the disk is full; generators pause until there is room again, while put, claim and commit go on");
  if (!had_room && has_room_) log::Info("there is room on the disk again: generators go on");
}

Map Hub::Claim(const Map& request, uint64_t id) {
  const MapFields fields(request, kSubject);
  const State& state = store_.state();
  const int64_t step = fields.Int("step");
  if (step > state.next_step()) {
    throw Error::Usage("step " + std::to_string(step) + " is asked for, but the next one is " + std::to_string(state.next_step()));
  }
  if (step < state.first_kept_step()) throw Error::Runtime("the groups of step " + std::to_string(step) + " are no longer kept");
  if (fields.Int("groups") < 0) throw Error::Usage("a claim of " + std::to_string(fields.Int("groups")) + " groups");
  if (step == state.next_step()) {
    if (fields.Has("filter") && ParseFilter(fields.Text("filter")) != state.filter())
      store_.Transact([&](Batch& batch) { SetFilter(state, batch, fields.Text("filter")); });
    if (draining_) return {{"state", "stopped"}};
    const int64_t groups = fields.Int("groups") == 0 ? state.config().groups_per_step : fields.Int("groups");
    // While this hub serves nobody else writes: what is asked again and again needs no transaction.
    std::string waits_for = ClaimWaitsFor(state, groups);
    if (!waits_for.empty()) {
      const bool generating =
          std::any_of(sessions_.begin(), sessions_.end(), [&](const auto& item) { return item.second.role == "generate" && IsLive(item.second); });
      if (!generating) waits_for += "; no generator is connected";
      return {{"state", IsExhausted(state) ? "empty" : "wait"}, {"waits_for", waits_for}, {"poll_ms", options_.poll_ms}};
    }
    store_.Transact([&](Batch& batch) { MakeClaim(state, batch, groups, fields.MaybeText("parent")); });
    claimed_by_.clear();
    claimed_by_[state.FindClaim(step)->id] = id;
  }
  const ClaimMeta* claim = state.FindClaim(step);
  const auto made_for = claimed_by_.find(claim->id);
  const bool replay = (made_for == claimed_by_.end() || made_for->second != id) && MustRepeat(state, *claim);
  return {{"state", "granted"}, {"claim", InfoMap(InfoOf(*claim, replay))}};
}

Map Hub::Fetch(const Map& request) {
  const MapFields fields(request, kSubject);
  const ClaimMeta* claim = store_.state().FindClaim(fields.Text("claim"));
  if (!claim) throw Error::Runtime("claim " + fields.Text("claim") + " is not one of this buffer, or no longer kept");
  Array records;
  for (std::string& record : ClaimRecords(store_, *claim, fields.Int("first"), HubClient::kMaxRecordBytes)) records.push_back(Bin{std::move(record)});
  return {{"records", std::move(records)}};
}

Map Hub::FirstStep(const Map& request) {
  const MapFields fields(request, kSubject);
  std::optional<CheckpointInfo> checkpoint;
  if (fields.Has("checkpoint")) checkpoint = CheckpointInfo{fields.Text("checkpoint"), fields.Int("step")};
  return {{"step", FirstStepToEmit(store_.state(), checkpoint)}};
}

Map Hub::Commit(const Map& request) {
  const record::Record record = record::DecodeRecord(MapFields(request, kSubject).Bin("record"));
  const auto* step = std::get_if<record::Step>(&record);
  if (!step) throw Error::Data("a commit needs a step record");
  bool is_new = false;
  store_.Transact([&](Batch& batch) { is_new = CommitStep(store_.state(), batch, *step); });
  return {{"repeated", !is_new}};
}

Map Hub::Drop(const Map& request) {
  const MapFields fields(request, kSubject);
  const std::vector<uint64_t> groups = ParseUids(fields.Array("groups"));
  int64_t dropped = 0;
  store_.Transact([&](Batch& batch) { dropped = DropGroups(store_.state(), batch, groups, fields.Text("why")); });
  return {{"dropped", dropped}, {"repeated", static_cast<int64_t>(groups.size()) - dropped}};
}

Map Hub::Bye(uint64_t id, Session& session) {
  session.bye = true;
  if (session.role == "generate") CloseIfOver(id);
  return {};
}

bool Hub::AwaitsCommit() const {
  if (store_.state().num_claimed() == 0) return false;
  return std::any_of(sessions_.begin(), sessions_.end(), [&](const auto& item) { return item.second.role == "commit" && IsLive(item.second); });
}

bool Hub::Quiet(int64_t silent_ms) const {
  if (AwaitsCommit()) return false;
  const int64_t now = Now();
  for (const auto& [id, session] : sessions_) {
    if (!session.bye && now - session.seen_ns < silent_ms * kNsPerMs) return false;
  }
  for (const auto& [lease, set] : store_.state().leases()) {
    if (set.hub && !set.held.empty()) return false;
  }
  return true;
}

void Hub::Tick() {
  if (store_.stale()) store_.Refresh();
  LookForRoom();
  const int64_t term_ns = options_.term_ms * kNsPerMs;
  for (auto& [id, session] : sessions_) {
    const bool silent = Now() - session.seen_ns >= term_ns;
    if (silent && !session.leases.empty()) {
      // A sink that died: what was in its pipe comes no more.
      for (const uint64_t lease : std::exchange(session.leases, {})) ReleaseInPipe(lease, 0);
    }
    const auto set = store_.state().leases().find(id);
    if (session.role != "generate" || set == store_.state().leases().end() || set->second.held.empty()) continue;
    if (!silent) {
      ReleaseInPipe(id, kPipeTerms * term_ns);
      continue;
    }
    int64_t released = 0;
    store_.Transact([&, lease = id](Batch& batch) { released = ReleaseLease(store_.state(), batch, lease, "expired"); }, Wait::kAsLongAsAllowed);
    session.in_pipe.clear();
    log::Warn("generator " + NameOf(id, session) + " was silent for " + HumanSeconds(static_cast<double>(options_.term_ms) / 1000) + ": " +
              std::to_string(released) + " rollouts returned to the queue");
  }
  // Those who left and hold nothing are forgotten: a run has as many sessions as programs that came and went.
  std::erase_if(sessions_, [&](const auto& item) {
    const auto set = store_.state().leases().find(item.first);
    return item.second.bye && (set == store_.state().leases().end() || set->second.held.empty());
  });
}

}  // namespace april::buffer
