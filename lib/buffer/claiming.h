// Gives whole groups to the trainer, step by step, and records what became of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/options.h"
#include "buffer/claim_info.h"
#include "buffer/store.h"
#include "record/records.h"

namespace april::buffer {

/// What a claim of `num_groups` groups would wait for now; "" when it could be made.
std::string ClaimWaitsFor(const State& state, int64_t num_groups);
/// Claims `num_groups` groups for the next step, as the run's admission says; drops those that the filter refuses. Returns "" when it did, else what
/// it waits for, having changed nothing.
std::string MakeClaim(const State& state, Batch& batch, int64_t num_groups, const std::optional<std::string>& parent);

/// From now on groups pass by this filter; "" leaves it as it is.
void SetFilter(const State& state, Batch& batch, const std::string& name);

ClaimInfo InfoOf(const ClaimMeta& claim, bool replay);
/// Whether a claim that is given out again must become the weights that it became before. After a rewind nothing is known of one without a commit:
/// what was published under its version may be of the course that was left.
bool MustRepeat(const State& state, const ClaimMeta& claim);
/// The control record of kind "claim" that heads a claim in a stream.
record::Control ControlOf(const ClaimInfo& info);

/// The encoded group and rollout records of a claim, from record `first` on, as many as fit into `max_bytes` (at least one); empty after the last.
std::vector<std::string> ClaimRecords(Store& store, const ClaimMeta& claim, int64_t first, uint64_t max_bytes);

/// claimed → trained, and → consumed when the step names a checkpoint. Returns false when the same was committed before.
/// Throws Runtime when the claim is not current, Data when a step was recomputed with other weights.
bool CommitStep(const State& state, Batch& batch, const record::Step& step);

/// claimed → ready. Throws Usage unless it is the newest uncommitted claim.
void AbandonClaim(const State& state, Batch& batch, const std::string& claim_id, const std::string& why);

/// nullopt when `directory` is missing or holds none of a checkpoint's name. One whose manifest cannot be read, or lists a file that is not there
/// with its size, is passed over with a warning. Those whose next step is above `at_most` do not count.
std::optional<CheckpointInfo> NewestCheckpoint(FileSystem& files, const std::string& directory, int64_t at_most = kNoUpperLimit);

/// The first step that has to be emitted for a trainer that resumes from `checkpoint`: its next one, or an earlier one that was never committed.
/// Without a checkpoint: the first that no durable checkpoint is known to contain. Throws Runtime when its groups are no longer kept, or were never
/// claimed.
int64_t FirstStepToEmit(const State& state, const std::optional<CheckpointInfo>& checkpoint);
/// The first step that has to be given to a trainer that computes `step` again from `checkpoint`, the newest at or before it; without one from the
/// model that the run began with or, when the checkpoints are not known, from the oldest step that is kept. Throws Usage when the step was never
/// claimed, Runtime when a claim on the way is no longer kept.
int64_t FirstStepToReplay(const State& state, int64_t step, bool checkpoints_known, const std::optional<CheckpointInfo>& checkpoint);

}  // namespace april::buffer
