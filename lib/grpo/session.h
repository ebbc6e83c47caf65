// A trainer's life: begins at the newest whole checkpoint or at a model, trains claims in order, publishes every version, writes checkpoints.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/options.h"
#include "grpo/checkpoint.h"
#include "grpo/claim.h"
#include "grpo/trainer.h"
#include "kernels/kernels.h"
#include "kernels/thread_pool.h"
#include "ranks/ranks.h"
#include "weights/version_store.h"

namespace april::grpo {

struct SessionOptions {
  std::string from = "run/checkpoints";
  std::string publish = "run/weights";
  std::string model;
  int64_t checkpoint_every = 10;
  int64_t keep = 2;
  int64_t keep_versions = 4;
  int64_t micro_batch_tokens = 8192;
  uint64_t activation_bytes = uint64_t{2} << 30;
  std::string kernels = "auto";
  std::string precision = "auto";
  double matrix_peak = 0;
  int64_t replay = -1;  ///< a step to compute again; -1: none
  MethodOptions method;
  OptimizerOptions optimizer;
  AdapterOptions adapter;
  uint64_t seed = 0;  ///< of the adapter's first factors; not registered: every program has one
  void Register(OptionsVisitor& options);
};

/// The kernel set that these options choose.
const kernels::Kernels& KernelsOf(const SessionOptions& options);

/// What became of one claim.
struct StepReport {
  record::Step step;
  int64_t num_trained = 0, num_skipped = 0, num_excluded = 0;  ///< rollouts
  std::map<std::string, int64_t> excluded;                     ///< of them, by reason
  bool repeated = false;  ///< the checkpoint already contained it: the record that was made then, nothing trained
  Json metrics;
  std::string line;  ///< for a terminal
};

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
