// Everything that it takes to generate, put together from options: a model with kernels, threads, weights, tokenizer and engine, or a simulation.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/options.h"
#include "kernels/thread_pool.h"
#include "rollout/local_engine.h"
#include "rollout/policy_source.h"
#include "rollout/scheduler.h"
#include "rollout/sim_engine.h"
#include "rollout/work_source.h"
#include "text/tokenizer.h"

namespace april::rollout {

struct GeneratorOptions {
  std::string engine = "local";
  std::string model;
  std::string weights;
  std::string kernels = "auto";
  std::string precision = "auto";
  std::string kv = "recompute";
  int64_t in_flight = 0;
  int64_t prefill_rows = 256;
  uint64_t memory_bytes = 0;
  void Register(OptionsVisitor& options);
};

class Generator {
 public:
  /// Finds the model, waiting at most `timeout_ms` for a first published version, and reads its tokenizer. A simulation needs neither.
  /// Throws Usage, NotReady, and what reading a model throws.
  Generator(const GeneratorOptions& options, int64_t threads, int64_t timeout_ms);

  bool simulated() const { return profile_.has_value(); }
  const std::string& model_path() const { return model_path_; }
  int64_t threads() const { return pool_.num_threads(); }
  /// Null when a simulation has no model.
  const std::shared_ptr<const text::Tokenizer>& tokenizer() const { return tokenizer_; }
  /// The options with the model's stop tokens and texts, and signals, filled in.
  ScheduleOptions Complete(ScheduleOptions options) const;
  /// Throws Incompatible unless the stream's token ids are this model's.
  void CheckTokenizer(std::optional<uint64_t> digest, const std::string& stream) const;

  /// Reads the weights. `default_in_flight` holds when --in-flight is not given; `expected_positions`: longest prompt and budget, 0 = unknown.
  Engine& Start(int64_t default_in_flight, int64_t expected_positions);
  /// The source, seen by this generator: a simulation without --weights has whatever version is asked for. It must live as long as what is returned.
  WorkSource& Follow(WorkSource& source);
  std::vector<uint32_t> stop_tokens() const;

 private:
  void StartSimulation(int64_t num_slots);

  GeneratorOptions options_;
  kernels::ThreadPool pool_;
  std::unique_ptr<PolicySource> policies_;
  std::string model_path_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::optional<SimProfile> profile_;  // of a simulation
  int64_t timeout_ms_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<WorkSource> followed_;
};

}  // namespace april::rollout
