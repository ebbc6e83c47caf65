#include "grpo/metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace april::grpo {
namespace {

double Share(int64_t part, int64_t whole) { return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole); }

}  // namespace

void Metrics::AddBatch(const Batch& batch) {
  for (const BatchGroup& group : batch.groups) {
    ++num_groups_;
    num_zero_groups_ += group.zero_advantage;
    for (const TrainingSequence& sequence : group.sequences) {
      ++num_sequences_;
      num_continued_ += sequence.rollout->resumes > 0 || sequence.rollout->weight_versions.size() > 1;
      num_length_finish_ += sequence.rollout->finish == record::Finish::kLength;
      num_response_tokens_ += static_cast<int64_t>(sequence.rollout->tokens.size());
      const double reward = sequence.rollout->reward->value;
      reward_sum_ += reward;
      reward_squares_ += reward * reward;
      for (const int32_t age : sequence.staleness) ++tokens_by_age_[age];
    }
  }
}

void Metrics::AddSequence(const Method& method, const TrainingSequence& sequence, std::span<const double> current, std::span<const double> old,
                          const SequenceTerms& terms) {
  has_reference_ = method.UsesReference();
  kl_reference_ += terms.kl;
  for (size_t t = 0; t < current.size(); ++t) {
    ++num_tokens_;
    const double behaviour = sequence.behaviour[t], weight = terms.weights[t];
    const bool clipped = terms.policy_gradients[t] == 0 && sequence.advantage != 0;
    num_clipped_low_ += clipped && sequence.advantage < 0;
    num_clipped_high_ += clipped && sequence.advantage > 0;
    num_capped_ += weight != 1 && weight < Exp(old[t] - behaviour);
    weight_sum_ += weight;
    weight_squares_ += weight * weight;
    kl_behaviour_k1_ += KlK1(behaviour, current[t]).value;
    kl_behaviour_k3_ += KlK3(behaviour, current[t]).value;
    if (sequence.same_forward[t]) {
      ++num_compared_;
      num_differing_ += behaviour != current[t];
      largest_difference_ = std::max(largest_difference_, std::abs(behaviour - current[t]));
    }
  }
}

double Metrics::reward_mean() const { return num_sequences_ == 0 ? 0 : reward_sum_ / static_cast<double>(num_sequences_); }
double Metrics::truncated_share() const { return Share(num_length_finish_, num_sequences_); }

double Metrics::stale_share() const {
  int64_t all = 0, fresh = 0;
  for (const auto& [age, count] : tokens_by_age_) {
    all += count;
    fresh += age == 0 ? count : 0;
  }
  return Share(all - fresh, all);
}

Json Metrics::ToJson() const {
  Json json = {{"loss", loss}, {"grad_norm", grad_norm}, {"lr", lr}, {"groups", num_groups_}};
  if (num_sequences_ > 0) {
    const double mean = reward_mean(), variance = reward_squares_ / static_cast<double>(num_sequences_) - mean * mean;
    json["reward_mean"] = mean;
    json["reward_std"] = std::sqrt(std::max(variance, 0.0));
    json["rollouts_continued"] = num_continued_;
    json["zero_advantage_group_share"] = Share(num_zero_groups_, num_groups_);
    json["response_mean_tokens"] = static_cast<double>(num_response_tokens_) / static_cast<double>(num_sequences_);
    json["truncated_share"] = truncated_share();
    json["stale_share"] = stale_share();
    int64_t all = 0;
    for (const auto& [age, count] : tokens_by_age_) all += count;
    Json by_age = Json::object();
    for (const auto& [age, count] : tokens_by_age_) by_age[std::to_string(age)] = Share(count, all);
    json["token_share_by_age"] = by_age;
  }
  json["forward_tokens"] = forward_tokens;
  json["trained_tokens"] = num_tokens_;
  if (num_tokens_ > 0) {
    const auto tokens = static_cast<double>(num_tokens_);
    json["clip_low_share"] = Share(num_clipped_low_, num_tokens_);
    json["clip_high_share"] = Share(num_clipped_high_, num_tokens_);
    json["correction_weight_mean"] = weight_sum_ / tokens;
    json["correction_capped_share"] = Share(num_capped_, num_tokens_);
    json["effective_token_share"] = weight_squares_ == 0 ? 0 : weight_sum_ * weight_sum_ / (tokens * weight_squares_);
    json["kl_behaviour_k1_nats"] = kl_behaviour_k1_ / tokens;
    json["kl_behaviour_k3_nats"] = kl_behaviour_k3_ / tokens;
    if (has_reference_) json["kl_reference_nats"] = kl_reference_ / tokens;
  }
  json["on_policy_tokens"] = num_compared_;
  json["on_policy_differing_tokens"] = num_differing_;
  json["on_policy_largest_difference_nats"] = largest_difference_;
  const double busy = seconds.forward + seconds.backward + seconds.optimizer;
  json["forward_s"] = seconds.forward;
  json["backward_s"] = seconds.backward;
  json["optimizer_s"] = seconds.optimizer;
  json["publish_s"] = seconds.publish;
  json["checkpoint_s"] = seconds.checkpoint;
  json["tokens_per_s"] = busy > 0 ? static_cast<double>(forward_tokens) / busy : 0;
  const MemoryUse memory = ReadMemoryUse();
  json["memory_bytes"] = memory.now;
  json["peak_memory_bytes"] = memory.peak;
  return json;
}

std::string Metrics::Line() const {
  char text[256];
  const double total = seconds.forward + seconds.backward + seconds.optimizer + seconds.publish + seconds.checkpoint;
  std::snprintf(text, sizeof text, "reward %.3f, %lld tokens trained (%.0f%% stale, %.0f%% truncated), loss %.4g, gradient norm %.3g, %.2f s",
                reward_mean(), static_cast<long long>(num_tokens_), 100 * stale_share(), 100 * truncated_share(), loss, grad_norm, total);
  return text;
}

MemoryUse ReadMemoryUse() {
  MemoryUse use;
  std::FILE* file = std::fopen("/proc/self/status", "r");
  if (file == nullptr) return use;
  char line[256];
  unsigned long long kilobytes = 0;
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::sscanf(line, "VmRSS: %llu", &kilobytes) == 1) use.now = kilobytes * 1024;
    if (std::sscanf(line, "VmHWM: %llu", &kilobytes) == 1) use.peak = kilobytes * 1024;
  }
  std::fclose(file);
  return use;
}

}  // namespace april::grpo
