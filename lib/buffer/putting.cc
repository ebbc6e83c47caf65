#include "buffer/putting.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "buffer/map_fields.h"
#include "buffer/payloads.h"

namespace april::buffer {
namespace {

using record::Lease;
using record::Progress;
using record::Rollout;
using record::Status;

enum class Outcome { kAccepted, kRepeated, kSuperseded };

/// What is wrong with a record: counted, where an Error would end the run.
struct Defect {
  std::string what;
};

[[noreturn]] void Reject(uint64_t uid, const std::string& what) { throw Defect{"rollout " + HexU64(uid) + ": " + what}; }

record::Record Decode(std::string_view bytes) {
  try {
    return record::DecodeRecord(bytes);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kData) throw;
    throw Defect{error.message()};
  }
}

/// Whether the journal already has these tokens of the rollout.
bool AlreadyJournaled(Store& store, uint64_t key, int64_t start, const std::vector<uint32_t>& tokens, const std::vector<float>& logprobs) {
  const RolloutMeta& meta = store.state().rollout(key);
  if (start + static_cast<int64_t>(tokens.size()) > meta.tokens) return false;
  return tokens.empty() || Contains(store.ReadRollout(key), start, tokens, logprobs);
}

RolloutState StateOf(const Rollout& rollout) {
  switch (rollout.status) {
    case Status::kComplete:
      return rollout.reward && rollout.reward->status == "ok" ? RolloutState::kScored : RolloutState::kComplete;
    case Status::kFailed:
      return RolloutState::kFailed;
    default:
      return rollout.tokens.empty() ? RolloutState::kQueued : RolloutState::kPartial;
  }
}

RolloutEntry MakeEntry(const Rollout& rollout, RolloutState state, uint64_t chain) {
  RolloutEntry entry;
  entry.uid = rollout.uid;
  entry.state = state;
  entry.tokens = static_cast<int64_t>(rollout.tokens.size());
  entry.chain = chain;
  entry.finish = rollout.finish;
  if (rollout.reward) {
    entry.reward_status = rollout.reward->status;
    if (entry.reward_status == "ok") entry.reward = rollout.reward->value;
  }
  entry.resumes = rollout.resumes;
  entry.oldest = record::OldestVersion(rollout);
  for (const record::WeightSpan& span : rollout.weight_versions) entry.newest = std::max(entry.newest.value_or(0), span.version);
  return entry;
}

/// The key of a record's rollout; nullopt for one that was issued by this run, trained and forgotten.
std::optional<uint64_t> FindKey(const State& state, const Rollout& rollout) {
  const std::string& run = state.config().run;
  if (rollout.run != run) Reject(rollout.uid, "is of run \"" + rollout.run + "\", this buffer's is \"" + run + "\"");
  if (const auto key = state.FindRollout(rollout.uid)) return key;
  const bool is_ours = rollout.lease && rollout.uid == record::RolloutUid(run, rollout.prompt_id, rollout.epoch, rollout.index, rollout.attempt);
  if (!is_ours) Reject(rollout.uid, "was never issued by this buffer");
  return std::nullopt;
}

Outcome Supersede(Batch& batch, uint64_t uid, const std::optional<Lease>& lease, size_t tokens) {
  batch.Add(SupersededEntry{uid, lease, static_cast<int64_t>(tokens)});
  return Outcome::kSuperseded;
}

/// A record whose lease is not current: a new reward for a finished rollout, a repeat, or too late.
Outcome PutUnleased(Store& store, Batch& batch, const Rollout& rollout, uint64_t key, std::string_view bytes) {
  const RolloutMeta& meta = store.state().rollout(key);
  if (Digest(bytes) == meta.record_digest) return Outcome::kRepeated;
  const uint64_t chain = ExtendChain(0, rollout.tokens, rollout.logprobs, 0, rollout.tokens.size());
  const bool same_response = static_cast<int64_t>(rollout.tokens.size()) == meta.tokens && chain == meta.chain;
  const bool finished = meta.state == RolloutState::kComplete || meta.state == RolloutState::kScored;
  const GroupState group = store.state().group(AdmissionOf(key)).state;
  const bool unclaimed = group == GroupState::kOpen || group == GroupState::kReady;
  const bool has_score = rollout.reward && rollout.reward->status == "ok";
  if (finished && same_response && rollout.status == Status::kComplete && has_score && unclaimed) {
    batch.Add(MakeEntry(rollout, RolloutState::kScored, chain), bytes);
    return Outcome::kAccepted;
  }
  const bool ends = rollout.status == Status::kComplete || rollout.status == Status::kFailed;
  if (finished && same_response && !has_score) return Outcome::kRepeated;  // a scorer that failed again: nothing was generated anew
  if ((!ends || meta.Ended()) && AlreadyJournaled(store, key, 0, rollout.tokens, rollout.logprobs)) return Outcome::kRepeated;
  return Supersede(batch, rollout.uid, rollout.lease, rollout.tokens.size());
}

Outcome PutRollout(Store& store, Batch& batch, const Rollout& rollout, std::string_view bytes) {
  const State& state = store.state();
  const auto key = FindKey(state, rollout);
  if (!key) return Supersede(batch, rollout.uid, rollout.lease, rollout.tokens.size());
  const RolloutMeta& meta = state.rollout(*key);
  if (!rollout.lease || !meta.IsLeasedBy(*rollout.lease)) return PutUnleased(store, batch, rollout, *key, bytes);
  const auto journaled = static_cast<size_t>(meta.tokens);
  if (rollout.tokens.size() < journaled) {
    Reject(rollout.uid, "has " + std::to_string(rollout.tokens.size()) + " tokens, but " + std::to_string(journaled) + " are journaled");
  }
  const uint64_t chain = ExtendChain(0, rollout.tokens, rollout.logprobs, 0, journaled);
  if (chain != meta.chain)
    Reject(rollout.uid, "its first " + std::to_string(journaled) + " tokens or log-probabilities are not those that are journaled");
  RolloutEntry entry = MakeEntry(rollout, StateOf(rollout), ExtendChain(chain, rollout.tokens, rollout.logprobs, journaled, rollout.tokens.size()));
  entry.lease = rollout.lease;
  if (entry.state == RolloutState::kQueued) {
    // Nothing was generated: it returns as it was issued.
    batch.Add(ReleaseEntry{rollout.lease->id, "returned", {rollout.uid}});
  } else {
    batch.Add(entry, bytes);
  }
  return Outcome::kAccepted;
}

Outcome PutProgress(Store& store, Batch& batch, const Progress& progress, std::string_view bytes) {
  const State& state = store.state();
  const auto key = state.FindRollout(progress.uid);
  // A delta does not name its run; what this buffer does not know it cannot have lost.
  if (!key) return Supersede(batch, progress.uid, progress.lease, progress.tokens.size());
  const RolloutMeta& meta = state.rollout(*key);
  if (Digest(bytes) == meta.record_digest) return Outcome::kRepeated;
  if (!meta.IsLeasedBy(progress.lease)) {
    if (AlreadyJournaled(store, *key, progress.start, progress.tokens, progress.logprobs)) return Outcome::kRepeated;
    return Supersede(batch, progress.uid, progress.lease, progress.tokens.size());
  }
  if (progress.start != meta.tokens) {
    if (progress.start < meta.tokens && AlreadyJournaled(store, *key, progress.start, progress.tokens, progress.logprobs)) return Outcome::kRepeated;
    Reject(progress.uid,
           "progress begins at token " + std::to_string(progress.start) + ", but " + std::to_string(meta.tokens) + " tokens are journaled");
  }
  if (progress.tokens.empty()) return Outcome::kRepeated;
  ProgressEntry entry;
  entry.uid = progress.uid;
  entry.lease = progress.lease;
  entry.tokens = meta.tokens + static_cast<int64_t>(progress.tokens.size());
  entry.chain = ExtendChain(meta.chain, progress.tokens, progress.logprobs, 0, progress.tokens.size());
  if (meta.has_versions) entry.oldest = meta.oldest, entry.newest = meta.newest;
  for (const record::WeightSpan& span : progress.weight_versions) {
    entry.oldest = std::min(entry.oldest.value_or(span.version), span.version);
    entry.newest = std::max(entry.newest.value_or(span.version), span.version);
  }
  batch.Add(entry, bytes);
  return Outcome::kAccepted;
}

/// A defective record ended its rollout: nobody works on it any more, so it returns to the queue with what is journaled of it.
void ReleaseRejected(const State& state, Batch& batch, std::string_view bytes) {
  uint64_t uid = 0;
  std::optional<Lease> lease;
  try {
    const stream::Value record = stream::Decode(bytes);
    const MapFields fields(record.AsMap(), "record");
    if (fields.Text("type") != "rollout") return;
    const MapFields lease_fields(fields.Map("lease"), "lease");
    uid = fields.Uint("uid");
    lease = Lease{lease_fields.Uint("id"), lease_fields.Uint("epoch")};
  } catch (const Error&) {
    return;  // too defective to tell whose it is: its lease's end or term brings the rollout back
  }
  const auto key = state.FindRollout(uid);
  if (key && lease && state.rollout(*key).IsLeasedBy(*lease)) batch.Add(ReleaseEntry{lease->id, "rejected", {uid}});
}

}  // namespace

void CheckHeader(const RunConfig& config, const record::Header& header) {
  if (header.purpose != config.purpose) {
    throw Error::Usage("a stream of purpose \"" + header.purpose + "\" does not belong into this buffer, whose purpose is \"" + config.purpose + "\"",
                       "evaluation streams are read by rollout-cat and reward-score, and kept as files");
  }
  if (!header.run.empty() && header.run != config.run) {
    throw Error::Incompatible("the stream is of run \"" + header.run + "\", this buffer's run is \"" + config.run + "\"");
  }
  const auto check = [](const char* what, const std::optional<uint64_t>& theirs, const std::optional<uint64_t>& ours) {
    if (theirs && ours && *theirs != *ours) {
      throw Error::Incompatible(std::string("the stream was made with ") + what + " " + HexU64(*theirs) + ", this buffer's run has " + HexU64(*ours),
                                "generate with the model that the buffer was made for: partial-buffer show names it");
    }
  };
  check("tokenizer", header.tokenizer, config.tokenizer);
  check("chat template", header.template_digest, config.template_digest);
}

void PutRecord(Store& store, Batch& batch, std::string_view bytes, PutCounts* counts, std::set<uint64_t>* leases) {
  try {
    const record::Record record = Decode(bytes);
    Outcome outcome;
    if (const auto* rollout = std::get_if<Rollout>(&record)) {
      if (rollout->lease) leases->insert(rollout->lease->id);
      outcome = PutRollout(store, batch, *rollout, bytes);
    } else if (const auto* progress = std::get_if<Progress>(&record)) {
      leases->insert(progress->lease.id);
      outcome = PutProgress(store, batch, *progress, bytes);
    } else {
      const auto* control = std::get_if<record::Control>(&record);
      const stream::Value* lease = control && control->kind == "take" ? stream::Find(control->values, "lease") : nullptr;
      if (lease) leases->insert(lease->AsUint());
      return;
    }
    ++(outcome == Outcome::kAccepted ? counts->accepted : outcome == Outcome::kRepeated ? counts->repeated : counts->superseded);
  } catch (const Defect& defect) {
    if (counts->rejected++ == 0) counts->first_reject = defect.what;
    ReleaseRejected(store.state(), batch, bytes);
  }
}

}  // namespace april::buffer
