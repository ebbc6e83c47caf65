// The other record types, and the one variant that a stream of records is made of.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "record/rollout.h"
#include "stream/value.h"

namespace april::record {

/// One tool that a stream went through.
struct ProvenanceEntry {
  std::string tool, version;
  std::vector<std::string> argv;
  stream::Map unknown = {};
  bool operator==(const ProvenanceEntry&) const = default;
};

/// First of every stream.
struct Header {
  int64_t major = 1, minor = 0;
  std::string run;
  std::string purpose = "train";  ///< train, eval
  std::optional<uint64_t> policy_version;
  std::optional<uint64_t> tokenizer;        ///< digest of the tokenizer
  std::optional<uint64_t> template_digest;  ///< digest of the chat template ("template" on the wire)
  std::vector<ProvenanceEntry> provenance;
  stream::Map unknown;
  bool operator==(const Header&) const = default;
};

/// A prompt, rendered and tokenised once.
struct Prompt {
  std::string prompt_id;
  std::vector<uint32_t> prompt_tokens;
  std::optional<std::string> label;
  stream::Map meta, unknown;
  bool operator==(const Prompt&) const = default;
};

/// Emitted by `partial-buffer claim` before the group's members.
struct Group {
  uint64_t group_id = 0;
  std::string prompt_id;
  int64_t epoch = 0;
  int64_t members = 0;   ///< rollouts that follow
  int64_t expected = 0;  ///< group size
  std::string claim;     ///< id of the claim that it belongs to
  stream::Map unknown;
  bool operator==(const Group&) const = default;
};

/// What one rollout gained since its last journaled state.
struct Progress {
  uint64_t uid = 0;
  Lease lease;
  int64_t start = 0;  ///< response token index of the first new token
  std::vector<uint32_t> tokens;
  std::vector<float> logprobs, sampled_logprobs;
  std::vector<WeightSpan> weight_versions;  ///< of the new tokens; indices into the whole response
  std::vector<Segment> segments;            ///< of the new tokens; indices into the whole response
  stream::Map unknown;
  bool operator==(const Progress&) const = default;
};

/// As for a rollout; token indices count from the rollout's first response token, not from `start`.
void Validate(const Progress& progress);

/// What the trainer did with a claim.
struct Step {
  std::string claim;
  int64_t step = 0;                                        ///< index from 0
  uint64_t version = 0;                                    ///< policy version that the step made
  uint64_t weights = 0;                                    ///< digest of its published manifest
  bool advanced = true;                                    ///< false: no gradient in the whole claim, the weights are the same
  std::optional<std::string> checkpoint;                   ///< name of the durable checkpoint that contains this step, when one was written
  std::vector<std::pair<uint64_t, std::string>> outcomes;  ///< uid and trained, skipped, excluded:REASON
  stream::Map metrics, unknown;
  bool operator==(const Step&) const = default;
};

/// Numbers of one moment: name to value, units in the names.
struct Metrics {
  stream::Map values, unknown;
  bool operator==(const Metrics&) const = default;
};

/// A policy version became available.
struct Weights {
  uint64_t version = 0, weights = 0;
  std::string path;
  stream::Map unknown;
  bool operator==(const Weights&) const = default;
};

/// Says something about the stream. kind "claim" heads each claim (claim, step, groups, rollouts, policy_version, parent checkpoint, replay) in
/// `values`.
struct Control {
  std::string kind;
  stream::Map values, unknown;
  bool operator==(const Control&) const = default;
};

/// A type that this build does not know, carried through byte for byte.
struct Unknown {
  std::string type;
  std::string bytes;
  bool operator==(const Unknown&) const = default;
};

using Record = std::variant<Rollout, Prompt, Group, Progress, Step, Metrics, Weights, Control, Unknown>;

/// msgpack bytes of one record, keys in the order of formats/records.md. Throws Data, naming record and key, for text that is not UTF-8.
std::string EncodeRecord(const Record& record);
/// Throws Data (a defective record) naming type, key, seen and expected; validates rollouts.
Record DecodeRecord(std::string_view bytes);

std::string EncodeHeader(const Header& header);
/// Throws Incompatible for another major version, Data otherwise.
Header DecodeHeader(std::string_view bytes);

}  // namespace april::record
