#include "rollout/active_rollout.h"

#include <algorithm>

#include "rollout/sampler.h"

namespace april::rollout {
namespace {

int64_t Size(const std::vector<uint32_t>& tokens) { return static_cast<int64_t>(tokens.size()); }

}  // namespace

ActiveRollout::ActiveRollout(record::Rollout rollout, const Limits& limits)
    : rollout_(std::move(rollout)), limits_(limits), stop_strings_(rollout_.sampling.stop_strings), truncates_(Truncates(rollout_.sampling)) {
  journaled_ = Size(rollout_.tokens);
  taken_up_again_ = journaled_ == 0;
  if (!Defect().empty()) return;
  if (rollout_.tokens.empty()) {
    if (rollout_.max_tokens <= 0) Complete(record::Finish::kLength);
    return;
  }
  if (!stop_strings_.empty()) {
    for (int64_t i = 0; i + 1 < journaled_; ++i) stop_strings_.Feed(limits_.token_bytes(rollout_.tokens[i]));
  }
  CheckEnd();
}

record::Rollout ActiveRollout::Take() {
  if (!done()) {
    rollout_.status = rollout_.tokens.empty() ? record::Status::kQueued : record::Status::kPartial;
    rollout_.finish = record::Finish::kNone;
  }
  return std::move(rollout_);
}

std::string ActiveRollout::Defect() const {
  if (rollout_.prompt_tokens.empty()) return "prompt_tokens is empty: there is nothing to continue";
  for (const auto* tokens : {&rollout_.prompt_tokens, &rollout_.tokens}) {
    const auto bad = std::find_if(tokens->begin(), tokens->end(), [&](uint32_t token) { return token >= limits_.vocab_size; });
    if (bad == tokens->end()) continue;
    return std::string(tokens == &rollout_.prompt_tokens ? "prompt_tokens" : "tokens") + "[" + std::to_string(bad - tokens->begin()) + "] is " +
           std::to_string(*bad) + ", but the model's vocabulary has " + std::to_string(limits_.vocab_size) + " tokens";
  }
  if (Size(rollout_.prompt_tokens) >= limits_.max_positions) {
    return "the prompt of " + std::to_string(Size(rollout_.prompt_tokens)) + " tokens leaves no room in the model's context of " +
           std::to_string(limits_.max_positions) + " tokens";
  }
  return {};
}

void ActiveRollout::BeginSegment(double now_ms) {
  segment_open_ = false;
  segment_begin_ms_ = now_ms;
}

void ActiveRollout::Append(const SlotEvent& event, const Engine& engine, double now_ms) {
  const int64_t index = Size(rollout_.tokens);
  if (!segment_open_) {
    segment_open_ = true;
    const record::Sampling& sampling = rollout_.sampling;
    record::Segment segment;
    segment.start = index;
    segment.engine = engine.name();
    segment.kernels = engine.kernels();
    segment.kv = Name(event.kv);
    segment.temperature = sampling.temperature;
    segment.top_k = sampling.top_k;
    segment.top_p = sampling.top_p;
    segment.min_p = sampling.min_p;
    rollout_.segments.push_back(std::move(segment));
  }
  if (!taken_up_again_) rollout_.resumes++;
  taken_up_again_ = true;
  rollout_.tokens.push_back(event.token);
  rollout_.logprobs.push_back(event.logprob);
  if (truncates_) rollout_.sampled_logprobs.push_back(event.sampled_logprob);
  rollout_.segments.back().len++;
  rollout_.segments.back().wall_ms = now_ms - segment_begin_ms_;

  const PolicyId policy = engine.policy();
  auto& spans = rollout_.weight_versions;
  if (!spans.empty() && spans.back().end == index && spans.back().version == policy.version && spans.back().weights == policy.weights) {
    spans.back().end++;
  } else {
    spans.push_back({policy.version, policy.weights, index, index + 1, {}});
  }
  if (!rollout_.born_version) rollout_.born_version = policy.version;
  CheckEnd();
}

void ActiveRollout::CheckEnd() {
  const uint32_t token = rollout_.tokens.back();
  const auto& stops = rollout_.sampling.stop_tokens.empty() ? limits_.stop_tokens : rollout_.sampling.stop_tokens;
  const bool stop_string = !stop_strings_.empty() && stop_strings_.Feed(limits_.token_bytes(token));
  if (stop_string || std::find(stops.begin(), stops.end(), token) != stops.end()) {
    Complete(record::Finish::kStop);
  } else if (Size(rollout_.tokens) >= rollout_.max_tokens) {
    Complete(record::Finish::kLength);
  } else if (Size(rollout_.prompt_tokens) + Size(rollout_.tokens) >= limits_.max_positions) {
    Complete(record::Finish::kLength);
    hit_context_limit_ = true;
  }
}

void ActiveRollout::Complete(record::Finish finish) {
  rollout_.status = record::Status::kComplete;
  rollout_.finish = finish;
}

void ActiveRollout::Fail(const std::string& reason) {
  rollout_.status = record::Status::kFailed;
  rollout_.finish = record::Finish::kError;
  stream::Set(rollout_.meta, "generation_error", reason);
}

std::optional<record::Progress> ActiveRollout::TakeProgress() {
  const int64_t end = Size(rollout_.tokens);
  if (!rollout_.lease || journaled_ >= end) return std::nullopt;
  record::Progress progress;
  progress.uid = rollout_.uid;
  progress.lease = *rollout_.lease;
  progress.start = journaled_;
  progress.tokens.assign(rollout_.tokens.begin() + journaled_, rollout_.tokens.end());
  progress.logprobs.assign(rollout_.logprobs.begin() + journaled_, rollout_.logprobs.end());
  if (truncates_) progress.sampled_logprobs.assign(rollout_.sampled_logprobs.begin() + journaled_, rollout_.sampled_logprobs.end());
  for (record::WeightSpan span : rollout_.weight_versions) {
    span.start = std::max(span.start, journaled_);
    if (span.start < span.end) progress.weight_versions.push_back(std::move(span));
  }
  for (size_t i = 0; i < rollout_.segments.size(); ++i) {
    record::Segment segment = rollout_.segments[i];
    if (i == told_segment_) segment.wall_ms -= told_wall_ms_;  // so that the times of deltas add up
    const int64_t segment_end = segment.start + segment.len;
    segment.start = std::max(segment.start, journaled_);
    segment.len = segment_end - segment.start;
    if (segment.len > 0) progress.segments.push_back(std::move(segment));
  }
  told_segment_ = rollout_.segments.size() - 1;
  told_wall_ms_ = rollout_.segments.back().wall_ms;
  journaled_ = end;
  return progress;
}

}  // namespace april::rollout
