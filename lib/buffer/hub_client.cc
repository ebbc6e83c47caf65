#include "buffer/hub_client.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/rng.h"
#include "buffer/map_fields.h"

namespace april::buffer {
namespace {

using stream::Array;
using stream::Bin;
using stream::Map;
using stream::Value;

constexpr int64_t kMaxBeatMs = 2'500;

constexpr std::string_view kAnswer = "answer of the hub";

Demand ParseDemand(const std::string& name) {
  if (name == "go") return Demand::kGo;
  if (name == "pause") return Demand::kPause;
  if (name == "drain") return Demand::kDrain;
  throw Error::Data("answer of the hub: demand \"" + name + "\" is none of go, pause, drain");
}

ClaimInfo ParseClaimInfo(const Map& map) {
  const MapFields fields(map, kAnswer);
  ClaimInfo info{
      fields.Text("id"),    fields.Int("step"),     fields.MaybeText("parent"),          fields.MaybeUint("version"),        fields.Bool("replay"),
      fields.Int("groups"), fields.Int("rollouts"), fields.MaybeUint("trained_version"), fields.MaybeUint("trained_weights")};
  return info;
}

}  // namespace

HubClient::HubClient(const std::string& endpoint, std::string worker, int64_t timeout_ms)
    : rpc_(stream::RpcClient::Connect(endpoint, timeout_ms)), worker_(std::move(worker)), session_(RandomId()) {}

HubClient::~HubClient() = default;

Map HubClient::Call(const char* op, Map arguments) {
  Map request = {{"op", op}, {"session", session_}, {"worker", worker_}, {"role", role_}};
  for (auto& [key, value] : arguments) request.emplace_back(key, std::move(value));
  return rpc_->Call(std::move(request));
}

const RunConfig& HubClient::Hello(const std::string& role, std::optional<int64_t> steps) {
  role_ = role;
  const Map answer = Call("hello", {{"steps", OrNil(steps)}});
  config_ = RunConfigFromMap(MapFields(answer, kAnswer).Map("config"));
  term_ms_ = MapFields(answer, kAnswer).Int("term_ms");
  return config_;
}

LeaseAnswer HubClient::Lease(int64_t want, const std::vector<uint64_t>& held, std::optional<uint64_t> version) {
  const Map answer = Call("lease", {{"request", ++lease_request_}, {"want", want}, {"held", UidArray(held)}, {"version", OrNil(version)}});
  const MapFields fields(answer, kAnswer);
  LeaseAnswer lease;
  for (const Value& rollout : fields.Array("rollouts")) {
    record::Record record = record::DecodeRecord(rollout.AsBin());
    if (!std::holds_alternative<record::Rollout>(record)) throw Error::Data("answer of the hub: a leased record is no rollout");
    lease.rollouts.push_back(std::move(std::get<record::Rollout>(record)));
  }
  lease.demand = ParseDemand(fields.Text("demand"));
  lease.min_version = fields.MaybeUint("min_version");
  lease.lost = ParseUids(fields.Array("lost"));
  lease.poll_ms = fields.Int("poll_ms");
  return lease;
}

PutCounts HubClient::Put(const std::vector<std::string>& records, std::set<uint64_t>* leases) {
  PutCounts counts;
  for (size_t next = 0; next < records.size();) {
    Array message;
    for (uint64_t bytes = 0; next < records.size() && (message.empty() || bytes + records[next].size() <= kMaxRecordBytes); ++next) {
      bytes += records[next].size();
      message.push_back(Bin{records[next]});
    }
    const Map answer = Call("put", {{"records", std::move(message)}});
    const MapFields fields(answer, kAnswer);
    counts += {fields.Int("accepted"), fields.Int("repeated"), fields.Int("superseded"), fields.Int("rejected"), fields.Text("first_reject")};
    for (const uint64_t lease : ParseUids(fields.Array("leases"))) leases->insert(lease);
  }
  return counts;
}

int64_t HubClient::beat_ms() const { return std::min<int64_t>(term_ms_ / 4, kMaxBeatMs); }

void HubClient::Beat() { Call("put", {{"records", Array{}}}); }

void HubClient::PutEnd(const std::vector<uint64_t>& lease_ids, bool whole) { Call("put_end", {{"leases", UidArray(lease_ids)}, {"whole", whole}}); }

int64_t HubClient::FirstStep(const std::optional<CheckpointInfo>& checkpoint) {
  Map arguments;
  if (checkpoint) arguments = {{"checkpoint", checkpoint->name}, {"step", checkpoint->step}};
  return MapFields(Call("first_step", std::move(arguments)), kAnswer).Int("step");
}

ClaimAnswer HubClient::Claim(int64_t step, int64_t groups, const std::optional<std::string>& parent, const std::string& filter) {
  Map arguments = {{"step", step}, {"groups", groups}, {"parent", OrNil(parent)}};
  if (!filter.empty()) arguments.emplace_back("filter", filter);
  const Map answer = Call("claim", std::move(arguments));
  const MapFields fields(answer, kAnswer);
  const std::string& state = fields.Text("state");
  ClaimAnswer result;
  if (state == "granted") {
    result.state = ClaimAnswer::State::kGranted;
    result.claim = ParseClaimInfo(fields.Map("claim"));
  } else if (state == "stopped") {
    result.state = ClaimAnswer::State::kStopped;
  } else {
    result.state = state == "empty" ? ClaimAnswer::State::kEmpty : ClaimAnswer::State::kWait;
    result.waits_for = fields.Text("waits_for");
    result.poll_ms = fields.Int("poll_ms");
  }
  return result;
}

std::vector<std::string> HubClient::FetchClaim(const std::string& claim_id, int64_t first) {
  Map answer = Call("fetch", {{"claim", claim_id}, {"first", first}});
  std::vector<std::string> records;
  for (const Value& record : MapFields(answer, kAnswer).Array("records")) records.push_back(record.AsBin());
  return records;
}

CommitOutcome HubClient::Commit(const record::Step& step) {
  const Map answer = Call("commit", {{"record", Bin{record::EncodeRecord(step)}}});
  return MapFields(answer, kAnswer).Bool("repeated") ? CommitOutcome::kRepeated : CommitOutcome::kCommitted;
}

void HubClient::Abandon(const std::string& claim_id) { Call("abandon", {{"claim", claim_id}}); }

int64_t HubClient::Drop(const std::vector<uint64_t>& group_ids, const std::string& why) {
  return MapFields(Call("drop", {{"groups", UidArray(group_ids)}, {"why", why}}), kAnswer).Int("dropped");
}

Map HubClient::Stat() { return MapFields(Call("stat", {}), kAnswer).Map("stat"); }

void HubClient::Drain() { Call("drain", {}); }

void HubClient::Bye() {
  try {
    Call("bye", {});
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kPeer) throw;
    log::Info("the hub was gone before the goodbye; all that was said to it before is safe");
  }
}

}  // namespace april::buffer
