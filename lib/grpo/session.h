// A trainer's life: begins at the newest whole checkpoint or at a model, trains claims in order, publishes every version, writes checkpoints.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "grpo/claim.h"
#include "grpo/session_options.h"
#include "grpo/step_report.h"
#include "ranks/ranks.h"

namespace april::grpo {

class Session {
 public:
  /// Loads, and publishes the version that it starts with. With `replay` it starts at the newest whole checkpoint at or before that step, publishes
  /// nothing and writes nothing, and Replay takes the place of Train. Throws Usage (conflicting or missing options), Runtime, Data, Incompatible.
  /// Among several ranks this is rank 0's part, and the others have a Follower.
  Session(const SessionOptions& options, int num_threads, std::shared_ptr<ranks::Ranks> ranks = ranks::Ranks::Alone());
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Throws Incompatible for a stream of another purpose or tokenizer.
  void CheckHeader(const record::Header& header);
  /// One update, published. Throws Data for a claim that does not follow or a replay that gives other weights, Runtime when a loss or gradient is not
  /// finite: the claim is then in a file beside the checkpoints, and nothing was applied.
  StepReport Train(const Claim& claim);
  /// Computes the next recorded step again. Returns what records it was compared with, nullopt when there are none. Throws as Train, and Data naming
  /// the first tensor that differs from what is recorded.
  std::optional<std::string> Replay(const Claim& claim, StepReport* report);
  /// What a generator need not wait for, once the step's record is out: the checkpoint, if one is due. True when it was written: the record names it
  /// now, and is given again.
  bool Settle(StepReport* report);
  /// A checkpoint of what the last one lacks. Returns the last step's record again, now with the checkpoint's name; nullopt when nothing was lacking,
  /// or when the last update failed: its weights are never saved.
  std::optional<record::Step> Finish();
  /// Ends the other ranks' part in good order; the last call. `stopped`: by a signal.
  void Dismiss(bool stopped);

  int64_t step() const;               ///< index of the next claim
  const std::string& origin() const;  ///< where it started, for a person

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace april::grpo
