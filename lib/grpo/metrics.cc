#include "grpo/metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "grpo/quantile.h"

namespace april::grpo {
namespace {

constexpr const char* kModuleNames[kNumModules] = {"embedding", "attention", "mlp", "norms", "head"};
constexpr double kGiga = 1e-9;

double Share(int64_t part, int64_t whole) { return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole); }

/// Over n.
double Deviation(double sum, double sum_squares, int64_t count) {
  const double mean = sum / static_cast<double>(count);
  return std::sqrt(std::max(sum_squares / static_cast<double>(count) - mean * mean, 0.0));
}

/// Kish's effective sample size, as a share of the tokens.
double EffectiveShare(double sum, double sum_squares, int64_t count) {
  return sum_squares == 0 ? 0 : sum * sum / (static_cast<double>(count) * sum_squares);
}

void AddRatios(const char* name, std::vector<double> log_ratios, Json* json) {
  for (const auto& [key, share] :
       {std::pair("min", 0.0), std::pair("p01", 0.01), std::pair("p50", 0.5), std::pair("p99", 0.99), std::pair("max", 1.0)}) {
    (*json)[std::string(name) + "_" + key] = Exp(Quantile(log_ratios, share));
  }
}

/// One set of weights may have several spans, with tokens between them that were not generated.
bool WasInterrupted(const record::Rollout& rollout) {
  const std::vector<record::WeightSpan>& spans = rollout.weight_versions;
  const auto other = [&](const record::WeightSpan& span) { return span.version != spans[0].version || span.weights != spans[0].weights; };
  return rollout.resumes > 0 || std::any_of(spans.begin(), spans.end(), other);
}

bool Contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

Module ModuleOf(const std::string& tensor) {
  if (Contains(tensor, "norm")) return Module::kNorms;
  if (Contains(tensor, "embed_tokens")) return Module::kEmbedding;
  if (Contains(tensor, "lm_head")) return Module::kHead;
  return Contains(tensor, "self_attn") ? Module::kAttention : Module::kMlp;
}

void Metrics::AddBatch(const Batch& batch) {
  for (const BatchGroup& group : batch.groups) {
    ++num_groups_;
    num_zero_groups_ += group.zero_advantage;
    for (const TrainingSequence& sequence : group.sequences) {
      ++num_sequences_;
      num_continued_ += WasInterrupted(*sequence.rollout);
      num_length_finish_ += sequence.rollout->finish == record::Finish::kLength;
      num_response_tokens_ += static_cast<int64_t>(sequence.rollout->tokens.size());
      const double reward = sequence.rollout->reward->value;
      reward_sum_ += reward;
      reward_squares_ += reward * reward;
      const double advantage = sequence.advantage;
      advantage_sum_ += advantage;
      advantage_squares_ += advantage * advantage;
      advantage_min_ = num_sequences_ == 1 ? advantage : std::min(advantage_min_, advantage);
      advantage_max_ = num_sequences_ == 1 ? advantage : std::max(advantage_max_, advantage);
      for (const int32_t age : sequence.staleness) {
        ++tokens_by_age_[age];
        masked_by_age_[age] += sequence.policy_masked;
      }
      for (const int32_t age : sequence.filtered) {
        ++tokens_by_age_[age];
        ++masked_by_age_[age];
      }
    }
  }
}

void Metrics::AddSequence(const Method& method, const TrainingSequence& sequence, std::span<const double> current, std::span<const double> old,
                          std::span<const double> entropies, const SequenceTerms& terms) {
  has_reference_ = method.UsesReference();
  // The policy at the start of the claim is the one whose log-probabilities can be as recorded. With --old behaviour later parts do not compute it.
  const std::span<const double> start = method.old_is_behaviour ? current : old;
  const bool has_start = !method.old_is_behaviour || num_gradients_ == 0;
  kl_reference_ += terms.kl;
  for (size_t t = 0; t < current.size(); ++t) {
    ++num_tokens_;
    const double behaviour = sequence.behaviour[t], weight = terms.weights[t];
    entropy_ += entropies[t];
    log_ratios_.push_back(current[t] - old[t]);
    behaviour_log_ratios_.push_back(current[t] - behaviour);
    num_clipped_low_ += terms.clips[t] < 0;
    num_clipped_high_ += terms.clips[t] > 0;
    ByAge& age = trained_by_age_[sequence.staleness[t]];
    ++age.num_tokens;
    age.num_clipped += terms.clips[t] != 0;
    age.num_bounded += terms.bounded[t];
    age.weight_sum += weight;
    const double ratio = Exp(current[t] - behaviour);
    ratio_sum_ += ratio;
    ratio_squares_ += ratio * ratio;
    age.ratio_sum += ratio;
    age.ratio_squares += ratio * ratio;
    weight_sum_ += weight;
    weight_squares_ += weight * weight;
    kl_behaviour_k1_ += KlK1(behaviour, current[t]).value;
    kl_behaviour_k3_ += KlK3(behaviour, current[t]).value;
    if (has_start && sequence.same_forward[t]) {
      ++num_compared_;
      num_differing_ += behaviour != start[t];
      largest_difference_ = std::max(largest_difference_, std::abs(behaviour - start[t]));
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

void Metrics::AddGradient(double norm, std::span<const std::string> names, std::span<const double> tensor_squares) {
  grad_norm_ += norm;
  ++num_gradients_;
  std::array<double, kNumModules> squares{};
  for (size_t i = 0; i < names.size(); ++i) {
    const auto module = static_cast<size_t>(ModuleOf(names[i]));
    squares[module] += tensor_squares[i];
    has_module_[module] = true;
  }
  for (size_t i = 0; i < kNumModules; ++i) module_norms_[i] += std::sqrt(squares[i]);
}

void Metrics::FinishParts() {
  if (num_gradients_ == 0) return;
  const auto parts = static_cast<double>(num_gradients_);
  loss /= parts;
  grad_norm_ /= parts;
  for (double& norm : module_norms_) norm /= parts;
}

Json Metrics::ToJson() const {
  Json json = {{"groups", num_groups_}, {"loss", loss}};
  if (num_sequences_ > 0) AddRollouts(&json);
  json["forward_tokens"] = forward_tokens;
  json["trained_tokens"] = num_tokens_;
  if (num_tokens_ > 0) AddTokens(&json);
  json["on_policy_tokens"] = num_compared_;
  json["on_policy_differing_tokens"] = num_differing_;
  json["on_policy_largest_difference_nats"] = largest_difference_;
  json["grad_norm"] = grad_norm();
  for (size_t i = 0; i < kNumModules; ++i) {
    if (has_module_[i]) json[std::string("grad_norm_") + kModuleNames[i]] = module_norms_[i];
  }
  json["optimizer_steps"] = num_gradients_;
  json["lr"] = lr;
  AddWork(&json);
  return json;
}

void Metrics::AddRollouts(Json* json) const {
  (*json)["reward_mean"] = reward_mean();
  (*json)["reward_std"] = Deviation(reward_sum_, reward_squares_, num_sequences_);
  (*json)["advantage_std"] = Deviation(advantage_sum_, advantage_squares_, num_sequences_);
  (*json)["advantage_min"] = advantage_min_;
  (*json)["advantage_max"] = advantage_max_;
  (*json)["zero_advantage_group_share"] = Share(num_zero_groups_, num_groups_);
  (*json)["rollouts_continued"] = num_continued_;
  (*json)["response_mean_tokens"] = static_cast<double>(num_response_tokens_) / static_cast<double>(num_sequences_);
  (*json)["truncated_share"] = truncated_share();
  (*json)["stale_share"] = stale_share();
  int64_t all = 0;
  for (const auto& [age, count] : tokens_by_age_) all += count;
  Json by_age = Json::object();
  for (const auto& [age, count] : tokens_by_age_) by_age[std::to_string(age)] = Share(count, all);
  (*json)["token_share_by_age"] = by_age;
  int64_t num_masked = 0;
  Json masked = Json::object();
  for (const auto& [age, count] : masked_by_age_) {
    num_masked += count;
    masked[std::to_string(age)] = Share(count, tokens_by_age_.at(age));
  }
  (*json)["masked_share"] = Share(num_masked, all);
  (*json)["masked_share_by_age"] = masked;
}

void Metrics::AddTokens(Json* json) const {
  const auto tokens = static_cast<double>(num_tokens_);
  (*json)["entropy_nats"] = entropy_ / tokens;
  (*json)["kl_behaviour_k1_nats"] = kl_behaviour_k1_ / tokens;
  (*json)["kl_behaviour_k3_nats"] = kl_behaviour_k3_ / tokens;
  if (has_reference_) (*json)["kl_reference_nats"] = kl_reference_ / tokens;
  AddRatios("ratio", log_ratios_, json);
  AddRatios("behaviour_ratio", behaviour_log_ratios_, json);
  (*json)["clip_low_share"] = Share(num_clipped_low_, num_tokens_);
  (*json)["clip_high_share"] = Share(num_clipped_high_, num_tokens_);
  (*json)["correction_weight_mean"] = weight_sum_ / tokens;
  int64_t num_bounded = 0;
  Json clipped = Json::object(), weights = Json::object(), bounded = Json::object(), effective = Json::object();
  for (const auto& [age, values] : trained_by_age_) {
    clipped[std::to_string(age)] = Share(values.num_clipped, values.num_tokens);
    num_bounded += values.num_bounded;
    bounded[std::to_string(age)] = Share(values.num_bounded, values.num_tokens);
    weights[std::to_string(age)] = values.weight_sum / static_cast<double>(values.num_tokens);
    effective[std::to_string(age)] = EffectiveShare(values.ratio_sum, values.ratio_squares, values.num_tokens);
  }
  (*json)["clip_share_by_age"] = clipped;
  (*json)["correction_weight_mean_by_age"] = weights;
  (*json)["correction_capped_share"] = Share(num_bounded, num_tokens_);
  (*json)["correction_capped_share_by_age"] = bounded;
  (*json)["effective_token_share"] = EffectiveShare(weight_sum_, weight_squares_, num_tokens_);
  (*json)["behaviour_effective_token_share"] = EffectiveShare(ratio_sum_, ratio_squares_, num_tokens_);
  (*json)["behaviour_effective_token_share_by_age"] = effective;
}

void Metrics::AddWork(Json* json) const {
  (*json)["forward_s"] = seconds.forward;
  (*json)["backward_s"] = seconds.backward;
  (*json)["optimizer_s"] = seconds.optimizer;
  (*json)["publish_s"] = seconds.publish;
  (*json)["checkpoint_s"] = seconds.checkpoint;
  (*json)["wait_s"] = seconds.wait;
  (*json)["time_s"] = seconds.clock;
  (*json)["tokens_per_s"] = tokens_per_second();
  (*json)["matrix_gflops"] = matrix_operations_per_second() * kGiga;
  if (peak_operations_per_second > 0) {
    (*json)["matrix_peak_gflops"] = peak_operations_per_second * kGiga;
    (*json)["peak_share"] = matrix_operations_per_second() / peak_operations_per_second;
  }
  const MemoryUse memory = ReadMemoryUse();
  (*json)["memory_bytes"] = memory.now;
  (*json)["peak_memory_bytes"] = memory.peak;
}

double Metrics::tokens_per_second() const { return UpdateSeconds() > 0 ? static_cast<double>(forward_tokens) / UpdateSeconds() : 0; }
double Metrics::matrix_operations_per_second() const { return UpdateSeconds() > 0 ? matrix_operations / UpdateSeconds() : 0; }

std::string Metrics::Line() const {
  std::string line;
  const auto add = [&line](const char* format, auto... values) {
    char text[64];
    std::snprintf(text, sizeof text, format, values...);
    line += (line.empty() ? "" : ", ") + std::string(text);
  };
  if (num_sequences_ > 0) add("reward %.3f", reward_mean());
  if (num_tokens_ > 0) {
    const auto tokens = static_cast<double>(num_tokens_);
    add("loss %.3g", loss);
    add("entropy %.3g", entropy_ / tokens);
    add("KL %.1e", kl_behaviour_k3_ / tokens);
    if (const double clipped = Share(num_clipped_low_ + num_clipped_high_, num_tokens_); clipped > 0) add("clipped %.1f%%", 100 * clipped);
  }
  if (num_sequences_ > 0) {
    add("stale %.0f%%", 100 * stale_share());
    if (truncated_share() > 0) add("truncated %.0f%%", 100 * truncated_share());
  }
  add("gradient %.3g", grad_norm());
  if (tokens_per_second() > 0) {
    add("%.0f tokens/s", tokens_per_second());
    if (peak_operations_per_second > 0) add("%.0f%% of peak", 100 * matrix_operations_per_second() / peak_operations_per_second);
  }
  add("%.2f s", UpdateSeconds() + seconds.publish + seconds.checkpoint);
  return line;
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
