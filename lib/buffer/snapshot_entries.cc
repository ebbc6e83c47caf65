#include "buffer/snapshot_entries.h"

#include <utility>

#include "base/error.h"
#include "buffer/map_fields.h"

namespace april::buffer {
namespace {

using stream::Array;
using stream::Map;
using stream::Value;

constexpr std::string_view kSubject = "journal entry \"snapshot\"";

Map ClaimMap(const ClaimMeta& claim) {
  return {{"claim", claim.id},
          {"step", claim.step},
          {"parent", OrNil(claim.parent)},
          {"version", OrNil(claim.version)},
          {"groups", UidArray(claim.groups)},
          {"state", Name(claim.state)},
          {"trained_version", claim.trained_version},
          {"trained_weights", claim.trained_weights},
          {"checkpoint", OrNil(claim.checkpoint)},
          {"rollouts", claim.rollouts}};
}

ClaimMeta ParseClaim(const Value& value) {
  const MapFields fields(value.AsMap(), kSubject);
  return {fields.Text("claim"),
          fields.Int("step"),
          fields.MaybeText("parent"),
          fields.MaybeUint("version"),
          ParseUids(fields.Array("groups")),
          ParseGroupState(fields.Text("state")),
          fields.Uint("trained_version"),
          fields.Uint("trained_weights"),
          fields.MaybeText("checkpoint"),
          fields.Int("rollouts")};
}

Map LeaseMap(const HeldLease& lease) {
  return {{"lease", lease.lease},    {"worker", lease.worker},        {"hub", lease.hub},
          {"since", lease.since_ns}, {"request", lease.last_request}, {"uids", UidArray(lease.last_uids)}};
}

HeldLease ParseHeldLease(const Value& value) {
  const MapFields fields(value.AsMap(), kSubject);
  return {fields.Uint("lease"), fields.Text("worker"),  fields.Bool("hub"),
          fields.Int("since"),  fields.Uint("request"), ParseUids(fields.Array("uids"))};
}

/// The lengths' classes, from 0 to the last that has any.
Map ToMap(const LengthCounts& lengths) {
  Array classes(lengths.classes.begin(), lengths.classes.end());
  while (!classes.empty() && classes.back().AsInt() == 0) classes.pop_back();
  return {{"count", lengths.count}, {"tokens", lengths.tokens}, {"longest", lengths.longest}, {"classes", std::move(classes)}};
}

LengthCounts ParseLengths(const Map& map) {
  const MapFields fields(map, kSubject);
  LengthCounts lengths;
  lengths.count = fields.Int("count");
  lengths.tokens = fields.Int("tokens");
  lengths.longest = fields.Int("longest");
  const Array& classes = fields.Array("classes");
  if (classes.size() > lengths.classes.size())
    throw Error::Data(std::string(kSubject) + ": " + std::to_string(classes.size()) + " classes of lengths");
  for (size_t i = 0; i < classes.size(); ++i) lengths.classes[i] = classes[i].AsInt();
  return lengths;
}

Map TotalsMap(const Totals& totals) {
  Array staleness;
  for (const auto& [versions, rollouts] : totals.trained_staleness) staleness.push_back(Array{versions, rollouts});
  Array dropped;
  for (const auto& [why, account] : totals.dropped) dropped.push_back(Array{why, account.rollouts, account.tokens});
  Map map = {{"superseded", totals.superseded},
             {"superseded_tokens", totals.superseded_tokens},
             {"finished", totals.finished},
             {"trained_rollouts", totals.trained_rollouts},
             {"trained_tokens", totals.trained_tokens},
             {"resumes", totals.resumes},
             {"trained_groups", totals.trained_groups},
             {"forgotten_groups", totals.forgotten_groups},
             {"journaled_tokens", totals.journaled_tokens},
             {"dropped", std::move(dropped)},
             {"trained_reward", totals.trained_reward},
             {"trained_staleness", std::move(staleness)},
             {"sampled_lengths", ToMap(totals.sampled_lengths)},
             {"trained_lengths", ToMap(totals.trained_lengths)}};
  Map groups;
  for (const auto& [why, count] : totals.dropped_groups) groups.emplace_back(why, count);
  if (!groups.empty()) map.emplace_back("dropped_groups", std::move(groups));
  return map;
}

Totals ParseTotals(const Map& map) {
  const MapFields fields(map, kSubject);
  Totals totals;
  totals.superseded = fields.Int("superseded");
  totals.superseded_tokens = fields.Int("superseded_tokens");
  totals.finished = fields.Int("finished");
  totals.trained_rollouts = fields.Int("trained_rollouts");
  totals.trained_tokens = fields.Int("trained_tokens");
  totals.resumes = fields.Int("resumes");
  totals.trained_groups = fields.Int("trained_groups");
  totals.forgotten_groups = fields.Int("forgotten_groups");
  totals.journaled_tokens = fields.Int("journaled_tokens");
  for (const Value& value : fields.Array("dropped")) {
    const Array& account = value.AsArray();
    if (account.size() != 3) throw Error::Data(std::string(kSubject) + ": a reason to drop without its numbers");
    totals.dropped[account[0].AsString()] = {account[1].AsInt(), account[2].AsInt()};
  }
  totals.trained_reward = fields.Double("trained_reward");
  for (const Value& value : fields.Array("trained_staleness")) {
    const Array& pair = value.AsArray();
    if (pair.size() != 2) throw Error::Data(std::string(kSubject) + ": staleness without a count");
    totals.trained_staleness[pair[0].AsInt()] = pair[1].AsInt();
  }
  totals.sampled_lengths = ParseLengths(fields.Map("sampled_lengths"));
  totals.trained_lengths = ParseLengths(fields.Map("trained_lengths"));
  if (!fields.Has("dropped_groups")) return totals;
  for (const auto& [why, groups] : fields.Map("dropped_groups")) totals.dropped_groups[why] = groups.AsInt();
  return totals;
}

}  // namespace

Map Fields(const SnapshotEntry& entry) {
  Array claims, leases;
  for (const ClaimMeta& claim : entry.claims) claims.push_back(ClaimMap(claim));
  for (const HeldLease& lease : entry.leases) leases.push_back(LeaseMap(lease));
  Map map = {{"type", "snapshot"},
             {"admitted", entry.admitted},
             {"next_ready", entry.next_ready},
             {"first_step", entry.first_step},
             {"version", OrNil(entry.version)},
             {"abandoned", Array(entry.abandoned.begin(), entry.abandoned.end())},
             {"claims", std::move(claims)},
             {"leases", std::move(leases)},
             {"totals", TotalsMap(entry.totals)}};
  if (entry.filter) map.emplace_back("filter", Name(*entry.filter));
  if (entry.left_version > 0) map.emplace_back("left_version", entry.left_version);
  return map;
}

SnapshotEntry ParseSnapshotEntry(const Map& map) {
  const MapFields fields(map, kSubject);
  SnapshotEntry entry;
  entry.admitted = fields.Int("admitted");
  entry.next_ready = fields.Int("next_ready");
  entry.first_step = fields.Int("first_step");
  entry.version = fields.MaybeUint("version");
  for (const Value& claim : fields.Array("abandoned")) entry.abandoned.push_back(claim.AsString());
  for (const Value& claim : fields.Array("claims")) entry.claims.push_back(ParseClaim(claim));
  for (const Value& lease : fields.Array("leases")) entry.leases.push_back(ParseHeldLease(lease));
  entry.totals = ParseTotals(fields.Map("totals"));
  if (fields.Has("filter")) entry.filter = ParseFilter(fields.Text("filter"));
  entry.left_version = fields.MaybeUint("left_version").value_or(0);
  return entry;
}

Map Fields(const GroupEntry& entry) {
  Map map = {{"type", "group"},    {"admission", entry.admission}, {"group_id", entry.group_id}, {"prompt", entry.prompt},    {"epoch", entry.epoch},
             {"step", entry.step}, {"opened", entry.opened_ns},    {"ready", entry.ready_order}, {"state", Name(entry.state)}};
  if (entry.state == GroupState::kDropped) {
    map.emplace_back("dropped_step", entry.dropped_step);
    map.emplace_back("why", entry.why);
  }
  return map;
}

GroupEntry ParseGroupEntry(const Map& map) {
  const MapFields fields(map, "journal entry \"group\"");
  GroupEntry entry{fields.Uint("admission"),
                   fields.Uint("group_id"),
                   fields.Int("prompt"),
                   fields.Int("epoch"),
                   fields.Int("step"),
                   fields.Int("opened"),
                   fields.Int("ready"),
                   ParseGroupState(fields.Text("state")),
                   0,
                   ""};
  if (entry.state != GroupState::kDropped) return entry;
  entry.dropped_step = fields.Int("dropped_step");
  entry.why = fields.Text("why");
  return entry;
}

}  // namespace april::buffer
