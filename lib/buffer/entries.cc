#include "buffer/entries.h"

#include "base/error.h"
#include "buffer/map_fields.h"
#include "buffer/snapshot_entries.h"
#include "record/view.h"
#include "stream/scanner.h"

namespace april::buffer {
namespace {

using stream::Array;
using stream::Map;
using stream::Value;

/// An array of exactly `size` values.
const Array& Tuple(const Value& value, size_t size) {
  const Array& array = value.AsArray();
  if (array.size() != size) throw Error::Data("an array has " + std::to_string(array.size()) + " elements, expected " + std::to_string(size));
  return array;
}

Value LeaseValue(const record::Lease& lease) { return Array{lease.id, lease.epoch}; }
record::Lease ParseLease(const Value& value) {
  const Array& pair = Tuple(value, 2);
  return {pair[0].AsUint(), pair[1].AsUint()};
}
Value MaybeLeaseValue(const std::optional<record::Lease>& lease) { return lease ? LeaseValue(*lease) : Value(); }
std::optional<record::Lease> ParseMaybeLease(const Map& map) {
  const Value* value = stream::Find(map, "lease");
  return value && !value->is_nil() ? std::optional(ParseLease(*value)) : std::nullopt;
}

Map Fields(const InitEntry& entry) { return {{"type", "init"}, {"config", ToMap(entry.config)}}; }
Map Fields(const PromptEntry& entry) { return {{"type", "prompt"}, {"add", entry.add}, {"id", entry.id}, {"tokens", entry.tokens}}; }
Map Fields(const PlanEntry& entry) {
  return {{"type", "plan"},        {"add", entry.add}, {"prompts", entry.prompts}, {"epochs", entry.epochs}, {"shuffle", OrNil(entry.shuffle)},
          {"source", entry.source}};
}
Map Fields(const LeaseEntry& entry) {
  Array groups, rollouts;
  for (const OpenedGroup& group : entry.groups) groups.push_back(Array{group.group_id, group.prompt, group.epoch, UidArray(group.uids)});
  for (const auto& [uid, epoch] : entry.rollouts) rollouts.push_back(Array{uid, epoch});
  return {{"type", "lease"},  {"lease", entry.lease}, {"worker", entry.worker},      {"request", entry.request},
          {"hub", entry.hub}, {"step", entry.step},   {"groups", std::move(groups)}, {"rollouts", std::move(rollouts)}};
}
Map Fields(const RolloutEntry& entry) {
  return {{"type", "rollout"},
          {"uid", entry.uid},
          {"lease", MaybeLeaseValue(entry.lease)},
          {"state", Name(entry.state)},
          {"tokens", entry.tokens},
          {"chain", entry.chain},
          {"finish", record::FinishText(entry.finish)},
          {"reward", OrNil(entry.reward)},
          {"reward_status", entry.reward_status},
          {"resumes", entry.resumes},
          {"oldest", OrNil(entry.oldest)},
          {"newest", OrNil(entry.newest)}};
}
Map Fields(const ProgressEntry& entry) {
  return {{"type", "progress"},           {"uid", entry.uid},     {"lease", LeaseValue(entry.lease)},
          {"tokens", entry.tokens},       {"chain", entry.chain}, {"oldest", OrNil(entry.oldest)},
          {"newest", OrNil(entry.newest)}};
}
Map Fields(const ReleaseEntry& entry) {
  return {{"type", "release"}, {"lease", entry.lease}, {"why", entry.why}, {"rollouts", UidArray(entry.rollouts)}};
}
Map Fields(const SupersededEntry& entry) {
  return {{"type", "superseded"}, {"uid", entry.uid}, {"lease", MaybeLeaseValue(entry.lease)}, {"tokens", entry.tokens}};
}
Map Fields(const ClaimEntry& entry) {
  Array groups;
  for (const auto& [group_id, uids] : entry.groups) groups.push_back(Array{group_id, UidArray(uids)});
  return {{"type", "claim"}, {"claim", entry.claim}, {"step", entry.step}, {"parent", OrNil(entry.parent)}, {"version", OrNil(entry.version)},
          {"groups", groups}};
}
Map Fields(const CommitEntry& entry) {
  return {{"type", "commit"},
          {"claim", entry.claim},
          {"step", entry.step},
          {"version", entry.version},
          {"weights", entry.weights},
          {"advanced", entry.advanced},
          {"checkpoint", OrNil(entry.checkpoint)}};
}
Map Fields(const AbandonEntry& entry) { return {{"type", "abandon"}, {"claim", entry.claim}, {"why", entry.why}}; }
Map Fields(const RewindEntry& entry) {
  return {{"type", "rewind"}, {"to_step", entry.to_step}, {"checkpoint", entry.checkpoint}, {"version", entry.version}};
}
Map Fields(const DropEntry& entry) { return {{"type", "drop"}, {"groups", UidArray(entry.groups)}, {"why", entry.why}}; }
Map Fields(const PolicyEntry& entry) { return {{"type", "policy"}, {"filter", Name(entry.filter)}}; }

/// A rollout entry's keys, and two of its own.
Map Fields(const MemberEntry& entry) {
  Map map = Fields(entry.rollout);
  map[0].second = "member";
  map.emplace_back("digest", entry.digest);
  map.emplace_back("changed", entry.changed_ns);
  return map;
}

LeaseEntry ParseLeaseEntry(const MapFields& fields) {
  LeaseEntry entry{fields.Uint("lease"), fields.Text("worker"), fields.Uint("request"), fields.Bool("hub"), fields.Int("step"), {}, {}};
  for (const Value& value : fields.Array("groups")) {
    const Array& group = Tuple(value, 4);
    entry.groups.push_back({group[0].AsUint(), group[1].AsInt(), group[2].AsInt(), ParseUids(group[3].AsArray())});
  }
  for (const Value& value : fields.Array("rollouts")) {
    const Array& pair = Tuple(value, 2);
    entry.rollouts.emplace_back(pair[0].AsUint(), pair[1].AsUint());
  }
  return entry;
}

RolloutEntry ParseRolloutEntry(const Map& map, const MapFields& fields) {
  RolloutEntry entry;
  entry.uid = fields.Uint("uid");
  entry.lease = ParseMaybeLease(map);
  entry.state = ParseRolloutState(fields.Text("state"));
  entry.tokens = fields.Int("tokens");
  entry.chain = fields.Uint("chain");
  entry.finish = record::ParseFinish(fields.Text("finish"));
  if (fields.Has("reward")) entry.reward = fields.Double("reward");
  entry.reward_status = fields.Text("reward_status");
  entry.resumes = fields.Int("resumes");
  entry.oldest = fields.MaybeUint("oldest");
  entry.newest = fields.MaybeUint("newest");
  return entry;
}

ProgressEntry ParseProgressEntry(const Map& map, const MapFields& fields) {
  ProgressEntry entry;
  entry.uid = fields.Uint("uid");
  const auto lease = ParseMaybeLease(map);
  if (!lease) throw Error::Data("journal entry \"progress\": key \"lease\" is missing");
  entry.lease = *lease;
  entry.tokens = fields.Int("tokens");
  entry.chain = fields.Uint("chain");
  entry.oldest = fields.MaybeUint("oldest");
  entry.newest = fields.MaybeUint("newest");
  return entry;
}

ClaimEntry ParseClaimEntry(const MapFields& fields) {
  ClaimEntry entry{fields.Text("claim"), fields.Int("step"), fields.MaybeText("parent"), fields.MaybeUint("version"), {}};
  for (const Value& value : fields.Array("groups")) {
    const Array& group = Tuple(value, 2);
    entry.groups.emplace_back(group[0].AsUint(), ParseUids(group[1].AsArray()));
  }
  return entry;
}

PolicyEntry ParsePolicyEntry(const MapFields& fields) {
  const auto filter = ParseFilter(fields.Text("filter"));
  if (!filter) throw Error::Incompatible("a filter \"" + fields.Text("filter") + "\", which this build does not know", "use a newer build");
  return {*filter};
}

Entry ParseEntry(const Map& map) {
  const std::string& type = MapFields(map, "journal entry").Text("type");
  const std::string subject = "journal entry \"" + type + "\"";
  const MapFields fields(map, subject);
  if (type == "rollout") return ParseRolloutEntry(map, fields);
  if (type == "progress") return ParseProgressEntry(map, fields);
  if (type == "lease") return ParseLeaseEntry(fields);
  if (type == "release") return ReleaseEntry{fields.Uint("lease"), fields.Text("why"), ParseUids(fields.Array("rollouts"))};
  if (type == "prompt") return PromptEntry{fields.Uint("add"), fields.Text("id"), fields.Int("tokens")};
  if (type == "superseded") return SupersededEntry{fields.Uint("uid"), ParseMaybeLease(map), fields.Int("tokens")};
  if (type == "claim") return ParseClaimEntry(fields);
  if (type == "commit") {
    return CommitEntry{fields.Text("claim"),   fields.Int("step"),      fields.Uint("version"),
                       fields.Uint("weights"), fields.Bool("advanced"), fields.MaybeText("checkpoint")};
  }
  if (type == "abandon") return AbandonEntry{fields.Text("claim"), fields.Text("why")};
  if (type == "rewind") return RewindEntry{fields.Int("to_step"), fields.Text("checkpoint"), fields.Uint("version")};
  if (type == "drop") return DropEntry{ParseUids(fields.Array("groups")), fields.Text("why")};
  if (type == "policy") return ParsePolicyEntry(fields);
  if (type == "plan")
    return PlanEntry{fields.Uint("add"), fields.Int("prompts"), fields.Int("epochs"), fields.MaybeUint("shuffle"), fields.Text("source")};
  if (type == "member") return MemberEntry{ParseRolloutEntry(map, fields), fields.Uint("digest"), fields.Int("changed")};
  if (type == "group") return ParseGroupEntry(map);
  if (type == "snapshot") return ParseSnapshotEntry(map);
  if (type == "init") return InitEntry{RunConfigFromMap(fields.Map("config"))};
  throw Error::Incompatible("journal entry of type \"" + type + "\", which this build does not know", "use the build that wrote it");
}

}  // namespace

void AppendEntry(const Entry& entry, int64_t ns, std::string_view payload, std::string* out) {
  Map map = std::visit([](const auto& held) { return Fields(held); }, entry);
  map.emplace_back("ns", ns);
  if (!payload.empty()) map.emplace_back("payload", uint64_t{payload.size()});
  stream::Encode(map, out);
  out->append(payload);
}

DecodedEntry ReadEntry(std::string_view bytes) {
  const auto length = stream::Scanner({kMaxRawFrameBytes, 16}).Scan(bytes);
  if (!length) throw Error::Data("a journal entry is cut short");
  const Value value = stream::Decode(bytes.substr(0, *length));
  const Map& map = value.AsMap();
  DecodedEntry decoded;
  decoded.entry = ParseEntry(map);
  const MapFields fields(map, "journal entry");
  decoded.ns = fields.Int("ns");
  decoded.entry_bytes = *length;
  if (fields.Has("payload")) {
    const uint64_t payload = fields.Uint("payload");
    if (payload > bytes.size() - *length) throw Error::Data("the payload of a journal entry is cut short");
    decoded.payload = bytes.substr(*length, payload);
  }
  return decoded;
}

}  // namespace april::buffer
