// The rules of formats/records.md that one record can be checked against.
#include <algorithm>
#include <cmath>

#include "base/bytes.h"
#include "base/error.h"
#include "record/records.h"

namespace april::record {
namespace {

[[noreturn]] void Fail(const std::string& key, const std::string& what) { throw Error::Data("key \"" + key + "\": " + what); }

void CheckRange(const std::string& key, int64_t value, int64_t min, int64_t max) {
  if (value < min || value > max) Fail(key, std::to_string(value) + " is outside of [" + std::to_string(min) + ", " + std::to_string(max) + "]");
}

void CheckOneOf(const std::string& key, const std::string& value, std::initializer_list<const char*> allowed) {
  std::string all;
  for (const char* name : allowed) {
    if (value == name) return;
    all += (all.empty() ? "" : ", ") + std::string(name);
  }
  Fail(key, "\"" + value + "\" is none of " + all);
}

void CheckSampling(const std::string& key, double temperature, int64_t top_k, double top_p, double min_p) {
  if (!(temperature >= 0) || !std::isfinite(temperature))
    Fail(key, "temperature " + std::to_string(temperature) + " is not a finite number of at least 0");
  if (top_k < 0) Fail(key, "top_k " + std::to_string(top_k) + " is negative");
  if (!(top_p > 0 && top_p <= 1)) Fail(key, "top_p " + std::to_string(top_p) + " is outside of (0, 1]");
  if (!(min_p >= 0 && min_p <= 1)) Fail(key, "min_p " + std::to_string(min_p) + " is outside of [0, 1]");
}

/// Response tokens and everything that runs beside them; of a rollout (all of them) or a progress record (the new ones, from `first` on).
struct Response {
  int64_t first;
  const std::vector<uint32_t>& tokens;
  const std::vector<float>& logprobs;
  const std::vector<float>& sampled_logprobs;
  const std::vector<WeightSpan>& spans;
  const std::vector<Segment>& segments;

  int64_t end() const { return first + static_cast<int64_t>(tokens.size()); }
};

void CheckLogprobs(const char* key, const std::vector<float>& logprobs, size_t num_tokens) {
  if (logprobs.size() != num_tokens) Fail(key, std::to_string(logprobs.size()) + " values for " + std::to_string(num_tokens) + " response tokens");
  for (size_t i = 0; i < logprobs.size(); ++i) {
    if (!std::isfinite(logprobs[i])) Fail(key, "value " + std::to_string(i) + " is " + std::to_string(logprobs[i]));
  }
}

void CheckSegments(const Response& response) {
  int64_t next = response.first;
  for (const Segment& segment : response.segments) {
    if (segment.start != next) Fail("segments", "one starts at token " + std::to_string(segment.start) + ", expected " + std::to_string(next));
    if (segment.len < 1 || segment.len > response.end() - next) {
      Fail("segments", "the one at token " + std::to_string(segment.start) + " has " + std::to_string(segment.len) + " tokens, but " +
                           std::to_string(response.end() - next) + " remain");
    }
    next += segment.len;
    CheckOneOf("segments", segment.kind, {"generated", "tool", "forced"});
    CheckOneOf("segments", segment.kv, {"fresh", "recomputed", "kept"});
    CheckSampling("segments", segment.temperature, segment.top_k, segment.top_p, segment.min_p);
  }
  if (next != response.end()) {
    Fail("segments", "they cover the tokens to " + std::to_string(next) + ", but there are tokens to " + std::to_string(response.end()));
  }
}

void CheckSpans(const Response& response) {
  int64_t last_end = response.first;
  for (const WeightSpan& span : response.spans) {
    if (span.start < last_end || span.end <= span.start || span.end > response.end()) {
      Fail("weight_versions", "span [" + std::to_string(span.start) + ", " + std::to_string(span.end) + ") does not fit after token " +
                                  std::to_string(last_end) + " of [" + std::to_string(response.first) + ", " + std::to_string(response.end()) + ")");
    }
    last_end = span.end;
  }
}

/// Every generated token has exactly one weight version; other tokens have none, and logprob 0.
void CheckVersionsAgainstSegments(const Response& response) {
  size_t s = 0;
  for (const Segment& segment : response.segments) {
    const int64_t segment_end = segment.start + segment.len;
    for (int64_t token = segment.start; token < segment_end;) {
      while (s < response.spans.size() && response.spans[s].end <= token) ++s;
      const bool covered = s < response.spans.size() && response.spans[s].start <= token;
      if (segment.kind == "generated") {
        if (!covered) Fail("weight_versions", "generated token " + std::to_string(token) + " has no weight version");
        token = std::min(segment_end, response.spans[s].end);
      } else {
        if (covered) Fail("weight_versions", segment.kind + " token " + std::to_string(token) + " has a weight version, but no policy sampled it");
        if (response.logprobs[static_cast<size_t>(token - response.first)] != 0)
          Fail("logprobs", segment.kind + " token " + std::to_string(token) + " has another logprob than 0");
        ++token;
      }
    }
  }
}

void CheckResponse(const Response& response) {
  CheckLogprobs("logprobs", response.logprobs, response.tokens.size());
  if (!response.sampled_logprobs.empty()) CheckLogprobs("sampled_logprobs", response.sampled_logprobs, response.tokens.size());
  CheckSegments(response);
  CheckSpans(response);
  CheckVersionsAgainstSegments(response);
}

/// 0 for a dtype that this build does not know: then only a later build can check the length.
uint64_t ElementBytes(const std::string& dtype) {
  if (dtype == "u8" || dtype == "i8") return 1;
  if (dtype == "u16" || dtype == "f16" || dtype == "bf16") return 2;
  if (dtype == "u32" || dtype == "i32" || dtype == "f32") return 4;
  if (dtype == "u64" || dtype == "i64" || dtype == "f64") return 8;
  return 0;
}

/// What no policy sampled is not trained.
void CheckLossMask(const Rollout& rollout, const PerTokenArray& mask) {
  for (const Segment& segment : rollout.segments) {
    if (segment.kind == "generated") continue;
    for (int64_t token = std::max(segment.start, mask.start); token < segment.start + segment.len; ++token) {
      const auto i = static_cast<size_t>(token - mask.start);
      if (i < mask.data.size() && mask.data[i] != 0)
        Fail("per_token.loss_mask", segment.kind + " token " + std::to_string(token) + " has another mask than 0");
    }
  }
}

void CheckPerToken(const Rollout& rollout) {
  for (const auto& [name, array] : rollout.per_token) {
    const std::string key = "per_token." + name;
    CheckRange(key, array.start, 0, static_cast<int64_t>(rollout.tokens.size()));
    const uint64_t element_bytes = ElementBytes(array.dtype);
    if (element_bytes == 0) continue;
    const uint64_t room = (rollout.tokens.size() - static_cast<uint64_t>(array.start)) * element_bytes;
    if (array.data.size() % element_bytes != 0 || array.data.size() > room) {
      Fail(key, std::to_string(array.data.size()) + " bytes of " + array.dtype + " from token " + std::to_string(array.start) + ", but there are " +
                    std::to_string(rollout.tokens.size()) + " response tokens");
    }
    if (name == "loss_mask" && array.dtype == "u8") CheckLossMask(rollout, array);
  }
}

void CheckStatus(const Rollout& rollout) {
  const bool has_finish = rollout.finish != Finish::kNone;
  const bool whole = rollout.finish == Finish::kStop || rollout.finish == Finish::kLength;
  switch (rollout.status) {
    case Status::kQueued:
      if (!rollout.tokens.empty()) Fail("status", "queued, but there are " + std::to_string(rollout.tokens.size()) + " response tokens");
      [[fallthrough]];
    case Status::kPartial:
    case Status::kWaiting:
      if (has_finish) Fail("finish", "present, but the rollout is not finished by its status");
      break;
    case Status::kComplete:
      if (!whole) Fail("finish", "a complete rollout has finish stop or length");
      break;
    case Status::kFailed:
      if (whole) Fail("finish", "a failed rollout has finish abort or error");
      break;
  }
}

void CheckReward(const Reward& reward) {
  CheckOneOf("reward", reward.status, {"ok", "error", "timeout"});
  if (reward.status == "ok" && !std::isfinite(reward.value)) Fail("reward", "status ok with the value " + std::to_string(reward.value));
}

void CheckRollout(const Rollout& rollout) {
  constexpr int64_t kMax = int64_t{1} << 40;
  CheckRange("epoch", rollout.epoch, 0, kMax);
  CheckRange("group_size", rollout.group_size, 1, kMax);
  CheckRange("index", rollout.index, 0, rollout.group_size - 1);
  CheckRange("attempt", rollout.attempt, 0, kMax);
  CheckRange("resumes", rollout.resumes, 0, kMax);
  CheckRange("max_tokens", rollout.max_tokens, static_cast<int64_t>(rollout.tokens.size()), kMax);
  const Sampling& sampling = rollout.sampling;
  CheckSampling("sampling", sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p);
  CheckResponse({0, rollout.tokens, rollout.logprobs, rollout.sampled_logprobs, rollout.weight_versions, rollout.segments});
  CheckPerToken(rollout);
  CheckStatus(rollout);
  if (rollout.born_version && !rollout.weight_versions.empty() && *rollout.born_version != rollout.weight_versions[0].version) {
    Fail("born_version", std::to_string(*rollout.born_version) + ", but the first token was sampled under version " +
                             std::to_string(rollout.weight_versions[0].version));
  }
  if (rollout.reward) CheckReward(*rollout.reward);
  if (rollout.advantage && !std::isfinite(*rollout.advantage)) Fail("advantage", std::to_string(*rollout.advantage));
}

}  // namespace

std::optional<uint64_t> OldestVersion(const Rollout& rollout) {
  std::optional<uint64_t> oldest;
  for (const WeightSpan& span : rollout.weight_versions) oldest = std::min(oldest.value_or(span.version), span.version);
  return oldest;
}

void Validate(const Rollout& rollout) {
  try {
    CheckRollout(rollout);
  } catch (const Error& error) {
    throw error.Within("rollout " + HexU64(rollout.uid));
  }
}

void Validate(const Progress& progress) {
  try {
    CheckRange("start", progress.start, 0, int64_t{1} << 40);
    CheckResponse({progress.start, progress.tokens, progress.logprobs, progress.sampled_logprobs, progress.weight_versions, progress.segments});
  } catch (const Error& error) {
    throw error.Within("progress " + HexU64(progress.uid));
  }
}

}  // namespace april::record
