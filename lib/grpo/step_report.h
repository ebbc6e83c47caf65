// What a step became, for its record, for --metrics and for a person.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/json.h"
#include "grpo/batch.h"
#include "grpo/trainer.h"
#include "record/records.h"

namespace april::grpo {

/// Of one claim.
struct StepReport {
  record::Step step;
  int64_t num_trained = 0, num_skipped = 0, num_excluded = 0;  ///< rollouts
  int64_t num_missing = 0;                                     ///< that the claim's groups once had, and that failed for good
  std::map<std::string, int64_t> excluded;                     ///< of them, by reason
  bool repeated = false;  ///< the checkpoint already contained it: the record that was made then, nothing trained
  Json metrics;
  std::string line;  ///< for a terminal

  void CountOutcomes(const Claim& claim, const Batch& batch);
  /// The numbers, in the record, for --metrics and for a terminal; the step's index and version are set already.
  void SetMetrics(const UpdateResult& result, bool replay);
};

/// "3 (reward-error 1, failed 2)"
std::string ExcludedText(const std::map<std::string, int64_t>& reasons);

/// Steps and rollouts so far; each line's counts add up.
class StepTally {
 public:
  void Add(const StepReport& report, int64_t claim_rollouts);
  std::string Text() const;

 private:
  int64_t steps_ = 0, repeated_ = 0, unmoved_ = 0, rollouts_ = 0, trained_ = 0, skipped_ = 0;
  std::map<std::string, int64_t> excluded_;  ///< by reason
};

}  // namespace april::grpo
