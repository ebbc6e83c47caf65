#include "buffer/claiming.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/rng.h"
#include "buffer/admission.h"
#include "buffer/dropping.h"
#include "buffer/map_fields.h"
#include "record/checkpoint_name.h"

namespace april::buffer {
namespace {

std::string Plural(int64_t number, const char* one, const char* many) { return std::to_string(number) + " " + (number == 1 ? one : many); }

std::string DescribeSupply(const State& state) {
  const auto refused =
      std::count_if(state.ready().begin(), state.ready().end(), [&](const auto& item) { return IsFilteredOut(state, state.group(item.second)); });
  std::string text = std::to_string(state.ready().size() - static_cast<size_t>(refused)) + " ready, " +
                     Plural(state.num_leased(), "rollout", "rollouts") + " leased, " + std::to_string(state.partial().size()) + " partial, " +
                     std::to_string(state.queued().size()) + " queued in open groups, " +
                     Plural(state.queue().num_groups() - state.groups_admitted(), "group", "groups") + " not issued yet";
  if (state.num_stalled() > 0) text += ", " + Plural(state.num_stalled(), "group", "groups") + " with too few scored members";
  if (const int64_t unscored = NumAwaitingScore(state); unscored > 0)
    text += ", " + Plural(unscored, "complete rollout waits", "complete rollouts wait") + " for a score (" + kScoreCommand + ")";
  if (state.left_version() > 0) {
    const auto ahead =
        std::count_if(state.ready().begin(), state.ready().end(), [&](const auto& item) { return IsAhead(state, state.group(item.second)); });
    text += ", " + std::to_string(ahead) + " of the ready ahead of policy version " + std::to_string(state.policy_version().value_or(0)) +
            " since a rewind";
  }
  if (state.filter() == GroupFilter::kNone) return text;
  const auto dropped = state.totals().dropped_groups.find(std::string(kZeroStd));
  text += ", " + Plural(refused, "group", "groups") + " with equal rewards";
  return text + " (" + std::to_string(dropped == state.totals().dropped_groups.end() ? 0 : dropped->second) + " dropped before)";
}

std::string DescribeGroup(const State& state, uint64_t admission) {
  const GroupMeta& group = state.group(admission);
  std::set<std::string> workers;
  int64_t leased = 0;
  for (const RolloutMeta& member : group.members) {
    if (member.state != RolloutState::kLeased) continue;
    ++leased;
    workers.insert(state.leases().at(member.lease_id).worker);
  }
  std::string text = "group " + HexU64(group.group_id) + " (" + std::to_string(group.num_ended) + " of " + std::to_string(group.members.size()) +
                     " members ended, " + std::to_string(leased) + " leased";
  for (const std::string& worker : workers) text += (worker == *workers.begin() ? " by " : ", ") + worker;
  return text + ")";
}

/// What the claim waits for by name: "" when any group will do.
std::string DescribeAwaited(const State& state, const Outlook& outlook) {
  std::string text;
  if (!outlook.overdue.empty()) {
    const uint64_t key = outlook.overdue.front();
    const RolloutMeta& rollout = state.rollout(key);
    text += Plural(static_cast<int64_t>(outlook.overdue.size()), "rollout", "rollouts") + " that came back unfinished after " +
            std::to_string(*state.config().max_resumes) + " resumes, first " + HexU64(rollout.uid) + " (" + std::string(Name(rollout.state)) +
            ") of " + DescribeGroup(state, AdmissionOf(key)) + "; ";
  }
  if (outlook.awaited.empty()) return text;
  text += DescribeGroup(state, *outlook.awaited.begin());
  if (outlook.expiring) {
    text += ", which has tokens of policy version " + std::to_string(state.group(*outlook.awaited.begin()).oldest) + ": later it would be too stale";
  }
  if (outlook.awaited.size() > 1) text += ", and " + Plural(static_cast<int64_t>(outlook.awaited.size()) - 1, "group", "groups") + " more";
  return text + "; ";
}

/// One record of a claim: a group's head, or a member.
std::string EncodeGroup(Store& store, const ClaimMeta& claim, const GroupMeta& group) {
  record::Group head;
  head.group_id = group.group_id;
  head.prompt_id = store.ReadPrompt(group.prompt).prompt_id;
  head.epoch = group.epoch;
  head.members = group.num_scored;
  head.expected = static_cast<int64_t>(group.members.size());
  head.claim = claim.id;
  return record::EncodeRecord(head);
}

/// What is missing of the files that a checkpoint's manifest lists, by their sizes: the trainer alone reads them, and checks their digests.
std::string DamageOf(FileSystem& files, const std::string& directory, const Json& manifest) {
  for (const Json& file : manifest.value("files", Json::array())) {
    const std::string path = JoinPath(directory, file.at("name").get<std::string>());
    if (!files.Exists(path)) return path + " is missing";
    const uint64_t size = files.OpenForRead(path)->Size(), listed = file.at("size").get<uint64_t>();
    if (size != listed) return path + " has " + std::to_string(size) + " bytes, its manifest says " + std::to_string(listed);
  }
  return "";
}

}  // namespace

std::string ClaimWaitsFor(const State& state, int64_t num_groups) {
  if (state.next_step() - state.first_uncommitted_step() > state.config().run_ahead) {
    return "the commit of step " + std::to_string(state.first_uncommitted_step()) + " (claim " + state.FindClaim(state.first_uncommitted_step())->id +
           ")";
  }
  const Outlook outlook = LookAhead(state, num_groups);
  if (outlook.missing == 0) return "";
  return Plural(outlook.missing, "more group", "more groups") + " of " + std::to_string(num_groups) + ": " + DescribeAwaited(state, outlook) +
         DescribeSupply(state);
}

std::string MakeClaim(const State& state, Batch& batch, int64_t num_groups, const std::optional<std::string>& parent) {
  if (std::string waits_for = ClaimWaitsFor(state, num_groups); !waits_for.empty()) return waits_for;
  DropFiltered(state, batch);
  DropExpired(state, batch);
  ClaimEntry entry{HexU64(RandomId()), state.next_step(), parent, state.policy_version(), {}};
  for (const uint64_t admission : LookAhead(state, num_groups).takes) {
    const GroupMeta& group = state.group(admission);
    entry.groups.emplace_back(group.group_id, group.ScoredUids());
  }
  std::sort(entry.groups.begin(), entry.groups.end());
  batch.Add(entry);
  return "";
}

void SetFilter(const State& state, Batch& batch, const std::string& name) {
  if (name.empty()) return;
  const auto filter = ParseFilter(name);
  if (!filter) throw Error::Usage("\"" + name + "\" is no filter of groups", "known are none and nonzero-std");
  if (*filter != state.filter()) batch.Add(PolicyEntry{*filter});
}

ClaimInfo InfoOf(const ClaimMeta& claim, bool replay) {
  ClaimInfo info{claim.id, claim.step, claim.parent, claim.version, replay, static_cast<int64_t>(claim.groups.size()), claim.rollouts, {}, {}};
  if (claim.state != GroupState::kClaimed) {
    info.trained_version = claim.trained_version;
    info.trained_weights = claim.trained_weights;
  }
  return info;
}

bool MustRepeat(const State& state, const ClaimMeta& claim) { return claim.state != GroupState::kClaimed || state.left_version() == 0; }

record::Control ControlOf(const ClaimInfo& info) {
  record::Control control;
  control.kind = "claim";
  control.values = {{"claim", info.id},
                    {"step", info.step},
                    {"groups", info.groups},
                    {"rollouts", info.rollouts},
                    {"policy_version", OrNil(info.policy_version)},
                    {"checkpoint", OrNil(info.parent)},
                    {"replay", info.replay},
                    {"trained_version", OrNil(info.trained_version)},
                    {"trained_weights", OrNil(info.trained_weights)}};
  return control;
}

std::vector<std::string> ClaimRecords(Store& store, const ClaimMeta& claim, int64_t first, uint64_t max_bytes) {
  std::vector<std::string> records;
  uint64_t bytes = 0;
  int64_t index = 0;
  const auto add = [&](auto make) {
    if (index++ < first || (!records.empty() && bytes >= max_bytes)) return;
    std::string record = make();
    if (!records.empty() && bytes + record.size() > max_bytes) {
      bytes = max_bytes;
      return;
    }
    bytes += record.size();
    records.push_back(std::move(record));
  };
  for (const uint64_t admission : claim.groups) {
    const GroupMeta& group = store.state().group(admission);
    add([&] { return EncodeGroup(store, claim, group); });
    for (const RolloutMeta& member : group.members) {
      if (member.state == RolloutState::kScored) add([&] { return store.ReadPayload(member.payload); });
    }
  }
  return records;
}

bool CommitStep(const State& state, Batch& batch, const record::Step& step) {
  const ClaimMeta* claim = state.FindClaim(step.claim);
  if (!claim) {
    const ClaimMeta* current = state.FindClaim(step.step);
    throw Error::Runtime("step " + std::to_string(step.step) + " cannot be committed: claim " + step.claim +
                             (state.WasAbandoned(step.claim) ? " was abandoned or undone by a rewind" : " is not one of this buffer") +
                             (current ? "; step " + std::to_string(step.step) + " is claim " + current->id : ""),
                         "the trainer works on an old claim: stop it and start it again from its newest checkpoint");
  }
  if (claim->step != step.step) {
    throw Error::Data("claim " + step.claim + " is of step " + std::to_string(claim->step) + ", the step record says " + std::to_string(step.step));
  }
  const CommitEntry entry{step.claim, step.step, step.version, step.weights, step.advanced, step.checkpoint};
  if (claim->state == GroupState::kClaimed) {
    if (claim->step != state.first_uncommitted_step()) {
      throw Error::Runtime("step " + std::to_string(step.step) + " cannot be committed before step " +
                           std::to_string(state.first_uncommitted_step()));
    }
    batch.Add(entry, record::EncodeRecord(step));
    DropExpired(state, batch);
    return true;
  }
  if (claim->trained_version != step.version || claim->trained_weights != step.weights) {
    throw Error::Data("step " + std::to_string(step.step) + " was recomputed with another result: version " + std::to_string(step.version) +
                          ", weights " + HexU64(step.weights) + "; recorded are version " + std::to_string(claim->trained_version) + ", weights " +
                          HexU64(claim->trained_weights),
                      "a replay needs the same build, kernel set and options as the first run");
  }
  if (!step.checkpoint || claim->state == GroupState::kConsumed) return false;
  batch.Add(entry, record::EncodeRecord(step));
  return true;
}

void AbandonClaim(const State& state, Batch& batch, const std::string& claim_id, const std::string& why) {
  const ClaimMeta* claim = state.FindClaim(claim_id);
  const ClaimMeta* newest = state.FindClaim(state.next_step() - 1);
  if (!claim && state.WasAbandoned(claim_id)) {
    throw Error::Usage("claim " + claim_id + " was given back before, by abandon or rewind: its groups are ready or in a later claim",
                       "nothing is left to do; partial-buffer stat names the uncommitted claims");
  }
  if (!claim || claim->state != GroupState::kClaimed) {
    throw Error::Usage("claim " + claim_id + (claim ? " is already " + std::string(Name(claim->state)) : " is not one of this buffer"),
                       "partial-buffer stat names the uncommitted claims");
  }
  if (claim != newest) throw Error::Usage("claim " + claim_id + " is not the newest: abandon claim " + newest->id + " first");
  batch.Add(AbandonEntry{claim_id, why});
}

std::optional<CheckpointInfo> NewestCheckpoint(FileSystem& files, const std::string& directory, int64_t at_most) {
  if (!files.Exists(directory)) return std::nullopt;
  std::vector<std::pair<int64_t, std::string>> names;
  for (const std::string& name : files.List(directory)) {
    if (const auto step = record::StepOfCheckpoint(name)) names.emplace_back(*step, name);
  }
  std::sort(names.begin(), names.end(), std::greater());
  for (const auto& [number, name] : names) {
    const std::string path = JoinPath(directory, name), manifest_path = JoinPath(path, "manifest.json");
    if (!files.Exists(manifest_path)) continue;
    try {
      const Json manifest = Json::parse(ReadFile(files, manifest_path));
      const auto step = manifest.at("step").get<int64_t>();
      if (step > at_most) continue;
      const std::string damage = DamageOf(files, path, manifest);
      if (damage.empty()) return CheckpointInfo{name, step};
      log::Warn("checkpoint " + path + " is damaged and passed over: " + damage);
    } catch (const Json::exception& error) {
      log::Warn(manifest_path + " is no checkpoint's manifest and was passed over: " + JsonProblem(error));
    }
  }
  return std::nullopt;
}

int64_t FirstStepToEmit(const State& state, const std::optional<CheckpointInfo>& checkpoint) {
  const int64_t uncommitted = state.first_uncommitted_step();
  const int64_t first = checkpoint ? std::min(checkpoint->step, uncommitted) : state.first_unconsumed_step();
  if (checkpoint && checkpoint->step > state.next_step()) {
    throw Error::Runtime(
        "checkpoint " + checkpoint->name + " contains " + std::to_string(checkpoint->step) + " steps, but this buffer claimed only " +
            std::to_string(state.next_step()),
        "the checkpoint belongs to another run, or the buffer is an older copy; when a rewind was cut short, give the same command again: "
        "partial-buffer rewind -s DIR --to CHECKPOINTS/step-…");
  }
  if (first < state.first_kept_step()) {
    throw Error::Runtime("step " + std::to_string(first) + " has to be trained again, but its groups are no longer kept: the oldest kept step is " +
                             std::to_string(state.first_kept_step()),
                         "start the trainer from a newer checkpoint");
  }
  return first;
}

int64_t FirstStepToReplay(const State& state, int64_t step, bool checkpoints_known, const std::optional<CheckpointInfo>& checkpoint) {
  if (step >= state.next_step()) {
    throw Error::Usage("step " + std::to_string(step) + " was not claimed yet: this buffer has the claims of steps " +
                           std::to_string(state.first_kept_step()) + " to " + std::to_string(state.next_step() - 1),
                       "partial-buffer stat tells how far the run is");
  }
  const int64_t kept = state.first_kept_step();
  const char* const hint = "partial-buffer init --retain-steps says how many steps are kept behind the checkpoint that contains them";
  if (step < kept) {
    throw Error::Runtime("the claim of step " + std::to_string(step) + " is no longer kept: the oldest one is of step " + std::to_string(kept), hint);
  }
  const int64_t first = checkpoint ? checkpoint->step : checkpoints_known ? 0 : kept;
  if (first >= kept) return first;
  throw Error::Runtime("step " + std::to_string(step) + " is computed again from " +
                           (checkpoint ? "checkpoint " + checkpoint->name : std::string("the model that the run began with")) +
                           ", but the claims before step " + std::to_string(kept) + " are no longer kept",
                       hint);
}

}  // namespace april::buffer
