#include "run_figures.h"

#include <algorithm>
#include <cmath>

namespace april {
namespace {

double Ratio(double above, double below) { return below > 0 ? above / below : 0; }
double Rounded(double value, double per_unit) { return std::round(value * per_unit) / per_unit; }

}  // namespace

RunSums RunSums::Since(const RunSums& earlier) const {
  RunSums d = *this;
  d.generating_s -= earlier.generating_s;
  d.training_s -= earlier.training_s;
  d.busy_slot_s -= earlier.busy_slot_s;
  d.slot_s -= earlier.slot_s;
  d.generated_tokens -= earlier.generated_tokens;
  d.prefill_tokens -= earlier.prefill_tokens;
  d.evictions -= earlier.evictions;
  d.trained_tokens -= earlier.trained_tokens;
  d.trained_rollouts -= earlier.trained_rollouts;
  d.trained_stale_tokens -= earlier.trained_stale_tokens;
  d.resumed_rollouts -= earlier.resumed_rollouts;
  d.staleness_sum -= earlier.staleness_sum;
  return d;
}

Json RunSums::Figures() const {
  const auto trained = static_cast<double>(trained_tokens);
  Json line;
  line["generating_s"] = Rounded(generating_s, 1e3);
  line["training_s"] = Rounded(training_s, 1e3);
  line["trained_tokens_per_s"] = Rounded(Ratio(trained, generating_s), 10);
  line["trained_tokens_per_s_with_training"] = Rounded(Ratio(trained, generating_s + training_s), 10);
  line["generated_tokens_per_s"] = Rounded(Ratio(static_cast<double>(generated_tokens), generating_s), 10);
  line["idle_share"] = Rounded(1 - Ratio(busy_slot_s, slot_s), 1e4);
  line["trained_rollouts"] = trained_rollouts;
  line["trained_tokens"] = trained_tokens;
  line["generated_tokens"] = generated_tokens;
  line["prefill_tokens"] = prefill_tokens;
  line["prefill_per_trained"] = Rounded(Ratio(static_cast<double>(prefill_tokens), trained), 1e4);
  line["evictions"] = evictions;
  line["stale_share"] = Rounded(Ratio(static_cast<double>(trained_stale_tokens), trained), 1e4);
  line["staleness_mean"] = Rounded(Ratio(staleness_sum, trained), 1e4);
  line["staleness_max"] = max_staleness;
  line["resumed_share"] = Rounded(Ratio(static_cast<double>(resumed_rollouts), static_cast<double>(trained_rollouts)), 1e4);
  line["trained_length_mean"] = Rounded(Ratio(trained, static_cast<double>(trained_rollouts)), 10);
  return line;
}

void RunFigures::Restart(double now_s) {
  last_ = {};
  last_s_ = now_s;
}

void RunFigures::NoteStep(const rollout::Counters& counters, int64_t num_slots, double now_s) {
  const double seconds = now_s - last_s_;
  sums.generating_s += seconds;
  sums.slot_s += seconds * static_cast<double>(num_slots);
  sums.busy_slot_s += seconds * static_cast<double>(counters.busy_slot_steps - last_.busy_slot_steps);
  sums.generated_tokens += counters.tokens - last_.tokens;
  sums.prefill_tokens += counters.prefill_rows - last_.prefill_rows;
  sums.evictions += counters.evictions - last_.evictions;
  last_ = counters;
  last_s_ = now_s;
}

void RunFigures::NoteTraining(double seconds, double now_s) {
  sums.training_s += seconds;
  last_s_ = now_s;
}

void RunFigures::NoteTrained(const record::Rollout& rollout, uint64_t trainer_version) {
  sums.trained_rollouts++;
  sums.trained_tokens += static_cast<int64_t>(rollout.tokens.size());
  sums.resumed_rollouts += rollout.weight_versions.size() > 1;
  for (const record::WeightSpan& span : rollout.weight_versions) {
    const auto staleness = static_cast<int64_t>(trainer_version) - static_cast<int64_t>(span.version);
    const int64_t tokens = span.end - span.start;
    if (staleness > 0) sums.trained_stale_tokens += tokens;
    sums.staleness_sum += static_cast<double>(staleness) * static_cast<double>(tokens);
    sums.max_staleness = std::max(sums.max_staleness, staleness);
  }
}

}  // namespace april
