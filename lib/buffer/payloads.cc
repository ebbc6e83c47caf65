#include "buffer/payloads.h"

#include <algorithm>
#include <bit>
#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "base/rng.h"

namespace april::buffer {
namespace {

/// Whether `next` may be the same stretch as `last`, cut in two.
bool Continues(const record::Segment& last, record::Segment next) {
  if (next.start != last.start + last.len) return false;
  next.start = last.start;
  next.len = last.len;
  next.wall_ms = last.wall_ms;
  return next == last;
}

}  // namespace

record::Rollout NewRollout(const RunConfig& config, const record::Prompt& prompt, int64_t epoch, int64_t index) {
  record::Rollout rollout;
  rollout.run = config.run;
  rollout.prompt_id = prompt.prompt_id;
  rollout.uid = record::RolloutUid(config.run, prompt.prompt_id, epoch, index, 0);
  rollout.group_id = record::GroupId(config.run, prompt.prompt_id, epoch);
  rollout.epoch = epoch;
  rollout.index = index;
  rollout.group_size = config.group_size;
  rollout.prompt_tokens = prompt.prompt_tokens;
  rollout.seed = config.seed;
  rollout.max_tokens = config.max_tokens;
  rollout.sampling = config.sampling;
  rollout.label = prompt.label;
  rollout.meta = prompt.meta;
  return rollout;
}

void AppendProgress(const record::Progress& delta, record::Rollout* rollout) {
  const auto length = static_cast<int64_t>(rollout->tokens.size());
  if (delta.uid != rollout->uid || delta.start != length) {
    throw Error::Data("progress of rollout " + HexU64(delta.uid) + " begins at token " + std::to_string(delta.start) + ", the rollout has " +
                      std::to_string(length));
  }
  const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  append(rollout->tokens, delta.tokens);
  append(rollout->logprobs, delta.logprobs);
  append(rollout->sampled_logprobs, delta.sampled_logprobs);
  for (const record::WeightSpan& span : delta.weight_versions) {
    record::WeightSpan* last = rollout->weight_versions.empty() ? nullptr : &rollout->weight_versions.back();
    if (last && last->end == span.start && last->version == span.version && last->weights == span.weights && last->unknown == span.unknown) {
      last->end = span.end;
    } else {
      rollout->weight_versions.push_back(span);
    }
  }
  // A cut for the journal's sake is no interruption: within one lease the stretch goes on.
  for (size_t i = 0; i < delta.segments.size(); ++i) {
    if (i == 0 && rollout->lease == delta.lease && !rollout->segments.empty() && Continues(rollout->segments.back(), delta.segments[0])) {
      rollout->segments.back().len += delta.segments[0].len;
      rollout->segments.back().wall_ms += delta.segments[0].wall_ms;
    } else {
      rollout->segments.push_back(delta.segments[i]);
    }
  }
  if (!rollout->tokens.empty()) rollout->status = record::Status::kPartial;
  rollout->lease = delta.lease;
  if (!rollout->born_version && !delta.weight_versions.empty()) rollout->born_version = delta.weight_versions.front().version;
}

uint64_t ExtendChain(uint64_t chain, const std::vector<uint32_t>& tokens, const std::vector<float>& logprobs, size_t first, size_t end) {
  for (size_t i = first; i < end; ++i) chain = Mix64(chain ^ (uint64_t{tokens[i]} | uint64_t{std::bit_cast<uint32_t>(logprobs[i])} << 32));
  return chain;
}

bool Contains(const record::Rollout& whole, int64_t start, const std::vector<uint32_t>& tokens, const std::vector<float>& logprobs) {
  if (start < 0 || tokens.size() != logprobs.size() || static_cast<size_t>(start) + tokens.size() > whole.tokens.size()) return false;
  const auto same_bits = [](float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); };
  return std::equal(tokens.begin(), tokens.end(), whole.tokens.begin() + start) &&
         std::equal(logprobs.begin(), logprobs.end(), whole.logprobs.begin() + start, same_bits);
}

}  // namespace april::buffer
