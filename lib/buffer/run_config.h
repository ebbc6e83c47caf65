// What `partial-buffer init` fixes for a whole run: every later program reads it from the buffer or its hub.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "buffer/policies.h"
#include "record/records.h"
#include "stream/value.h"

namespace april::buffer {

struct RunConfig {
  std::string run;  ///< name of the run, part of every uid
  std::string purpose = "train";
  uint64_t seed = 0;                        ///< of sampling and shuffling
  std::string model;                        ///< directory or .gguf whose tokenizer and template are used; only its digests bind
  std::optional<uint64_t> tokenizer;        ///< digest of the tokenizer
  std::optional<uint64_t> template_digest;  ///< digest of the chat template
  int64_t max_prompt_tokens = 0;            ///< longest prompt that `add` accepts
  int64_t group_size = 8;                   ///< rollouts of one prompt
  int64_t groups_per_step = 8;
  int64_t in_flight = 0;    ///< rollouts under way at once; at most Need() makes the run synchronous
  int64_t min_members = 0;  ///< scored members without which a group is not ready
  int64_t run_ahead = 0;    ///< claims that may be made before the one before them is committed
  int64_t max_tokens = 0;   ///< response budget of every rollout
  record::Sampling sampling;
  Admission admission;
  int64_t retain_steps = 4;              ///< consumed steps whose groups are kept for replay
  std::optional<int64_t> max_staleness;  ///< policy versions that a claimed rollout's oldest token may be behind
  std::optional<int64_t> max_resumes;    ///< after so many an unfinished rollout is awaited by the next claim
  GroupFilter filter = GroupFilter::kNone;

  int64_t Need() const { return group_size * groups_per_step; }
  /// No over-issue: a step's rollouts are issued once, and no others until it is committed.
  bool Synchronous() const { return in_flight <= Need(); }

  bool operator==(const RunConfig&) const = default;
};

/// The map of formats/buffer.md ("init" entry, "hello" answer).
stream::Map ToMap(const RunConfig& config);
/// Throws Data naming the key.
RunConfig RunConfigFromMap(const stream::Map& map);

/// The header of a stream that this run's buffer writes.
record::Header StreamHeader(const RunConfig& config);

}  // namespace april::buffer
