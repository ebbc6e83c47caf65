#include "grpo/step_report.h"

#include <algorithm>
#include <string_view>

#include "base/bytes.h"
#include "grpo/state_digest.h"

namespace april::grpo {
namespace {

stream::Map ToMap(const Json& json) {
  stream::Map map;
  for (const auto& [key, value] : json.items()) {
    if (value.is_number_integer()) stream::Set(map, key, value.get<int64_t>());
    if (value.is_number_float()) stream::Set(map, key, value.get<double>());
  }
  return map;
}

}  // namespace

void StepReport::CountOutcomes(const Claim& claim, const Batch& batch) {
  for (const ClaimGroup& group : claim.groups) num_missing += std::max<int64_t>(0, group.group.expected - group.group.members);
  constexpr std::string_view kExcluded = "excluded:";
  num_trained = batch.num_trained;
  num_skipped = batch.num_skipped;
  num_excluded = batch.num_excluded;
  for (const auto& [uid, outcome] : batch.outcomes) {
    if (outcome.starts_with(kExcluded)) ++excluded[outcome.substr(kExcluded.size())];
  }
}

void StepReport::SetMetrics(const UpdateResult& result, bool replay) {
  const Json numbers = result.metrics.ToJson();
  step.metrics = ToMap(numbers);
  stream::Set(step.metrics, kOptimizerDigest, result.optimizer_digest);
  metrics = {{"step", step.step},
             {"version", step.version},
             {kOptimizerDigest, HexU64(result.optimizer_digest)},
             {"advanced", result.advanced},
             {"replay", replay},
             {"rollouts_trained", num_trained},
             {"rollouts_skipped", num_skipped},
             {"rollouts_excluded", num_excluded},
             {"rollouts_missing", num_missing}};
  metrics.update(numbers);
  line = result.metrics.Line();
}

std::string ExcludedText(const std::map<std::string, int64_t>& reasons) {
  int64_t all = 0;
  std::string text;
  for (const auto& [reason, count] : reasons) {
    all += count;
    text += (text.empty() ? " (" : ", ") + reason + " " + std::to_string(count);
  }
  return std::to_string(all) + (text.empty() ? "" : text + ")");
}

void StepTally::Add(const StepReport& report, int64_t claim_rollouts) {
  ++steps_;
  repeated_ += report.repeated;
  if (report.repeated) return;
  unmoved_ += !report.step.advanced;
  rollouts_ += claim_rollouts;
  trained_ += report.num_trained;
  skipped_ += report.num_skipped;
  for (const auto& [reason, count] : report.excluded) excluded_[reason] += count;
}

std::string StepTally::Text() const {
  std::string text = std::to_string(steps_) + " steps, " + std::to_string(rollouts_) + " rollouts: trained " + std::to_string(trained_) +
                     ", skipped " + std::to_string(skipped_) + ", excluded " + ExcludedText(excluded_);
  if (unmoved_ > 0) text += "; " + std::to_string(unmoved_) + " steps without any gradient";
  if (repeated_ > 0) text += "; " + std::to_string(repeated_) + " steps were in the checkpoint already";
  return text;
}

}  // namespace april::grpo
