// The rollout: one response to one prompt, finished or not, with everything that training and resuming it need.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "stream/value.h"

namespace april::record {

/// Half-open span of generated tokens sampled under one policy version. Spans ascend and do not overlap; gaps are tool output or forced tokens.
struct WeightSpan {
  uint64_t version = 0;        ///< policy version
  uint64_t weights = 0;        ///< digest of the weights' manifest
  int64_t start = 0, end = 0;  ///< response token indices
  stream::Map unknown;
  bool operator==(const WeightSpan&) const = default;
};

/// One uninterrupted stretch of response tokens.
struct Segment {
  int64_t start = 0, len = 0;      ///< response token indices
  std::string kind = "generated";  ///< generated, tool, forced
  std::string engine;              ///< "local", "sim:NAME", …
  std::string kernels;             ///< kernel set: the bits of log-probabilities hold per kernel set
  std::string kv = "fresh";        ///< fresh, recomputed, kept
  double temperature = 1;
  int64_t top_k = 0;            ///< 0 = off
  double top_p = 1, min_p = 0;  ///< 1 and 0 = off
  double wall_ms = 0;
  stream::Map unknown;
  bool operator==(const Segment&) const = default;
};

/// A per-token array that the format does not name itself.
struct PerTokenArray {
  std::string dtype;  ///< "f32", "u8", "u32", …
  int64_t start = 0;  ///< response token index of the first element
  std::string data;   ///< little-endian elements
  stream::Map unknown = {};
  bool operator==(const PerTokenArray&) const = default;
};

enum class Status { kQueued, kPartial, kWaiting, kComplete, kFailed };
enum class Finish { kNone, kStop, kLength, kAbort, kError };

struct Reward {
  double value = 0;  ///< left out on the wire unless status is ok
  std::vector<std::pair<std::string, double>> parts;
  std::string status = "ok";  ///< ok, error, timeout: only ok has a meaningful value
  std::string scorer;
  std::string detail;  ///< extracted answer, or what went wrong
  stream::Map unknown;
  bool operator==(const Reward&) const = default;
};

/// Fences late writers: only the current lease may change a rollout.
struct Lease {
  uint64_t id = 0;
  uint64_t epoch = 0;
  stream::Map unknown = {};
  bool operator==(const Lease&) const = default;
};

/// Fixed when the rollout is issued. temperature 0 is greedy, for evaluation only.
struct Sampling {
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1, min_p = 0;
  std::vector<uint32_t> stop_tokens;  ///< empty: the model's own end-of-turn tokens
  std::vector<std::string> stop_strings;
  stream::Map unknown = {};
  bool operator==(const Sampling&) const = default;
};

struct Rollout {
  uint64_t uid = 0;  ///< hash(run, prompt_id, epoch, index, attempt)
  std::string run;
  std::string prompt_id;
  uint64_t group_id = 0;  ///< the rollouts of one prompt in one epoch
  int64_t epoch = 0, index = 0, attempt = 0, group_size = 1;
  std::vector<uint32_t> prompt_tokens;
  std::vector<uint32_t> tokens;         ///< response only, with its stop token
  std::vector<float> logprobs;          ///< nats, full softmax at the segment's temperature; one per response token
  std::vector<float> sampled_logprobs;  ///< of the truncated distribution; empty when nothing truncates
  std::map<std::string, PerTokenArray> per_token;
  std::vector<WeightSpan> weight_versions;
  std::vector<Segment> segments;
  Status status = Status::kQueued;
  Finish finish = Finish::kNone;
  uint64_t seed = 0;
  int64_t max_tokens = 0;  ///< budget of response tokens over all segments
  Sampling sampling;
  int64_t resumes = 0;
  std::optional<uint64_t> born_version;  ///< policy version that sampled its first token
  std::optional<int64_t> admitted_step;
  std::optional<Lease> lease;
  std::optional<std::string> label;  ///< reference answer
  stream::Map meta;                  ///< carried through
  std::optional<Reward> reward;
  std::optional<double> advantage;
  stream::Map unknown;  ///< keys of later minor versions, carried through
  bool operator==(const Rollout&) const = default;
};

/// Policy version of the oldest generated token; nullopt when nothing was generated.
std::optional<uint64_t> OldestVersion(const Rollout& rollout);

/// Every rule of formats/records.md that one record can be checked against: lengths, spans, segments. Throws Data naming uid, key, seen and expected.
void Validate(const Rollout& rollout);

/// hash(run, prompt_id, epoch, index, attempt): the digest of these five as a msgpack array.
uint64_t RolloutUid(const std::string& run, const std::string& prompt_id, int64_t epoch, int64_t index, int64_t attempt);
/// hash(run, prompt_id, epoch).
uint64_t GroupId(const std::string& run, const std::string& prompt_id, int64_t epoch);

}  // namespace april::record
