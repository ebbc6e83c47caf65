// What the scheduler asks of whatever makes tokens: slots that hold one rollout each, and steps that give each running slot at most one token.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "record/rollout.h"

namespace april::rollout {

/// The weights that generate right now.
struct PolicyId {
  uint64_t version = 0;  ///< policy version
  uint64_t weights = 0;  ///< digest of the weights' manifest
  bool operator==(const PolicyId&) const = default;
};

/// Where the keys and values behind a token came from.
enum class KvOrigin {
  kFresh,       ///< one unbroken run under one policy
  kRecomputed,  ///< the prefix was computed again from its tokens
  kKept,        ///< part of the prefix was computed under older weights
};
const char* Name(KvOrigin origin);

/// What one step gave one slot.
struct SlotEvent {
  enum class Kind {
    kToken,
    kEvicted,  ///< memory was short: the slot was released, start the rollout again later
    kFailed,   ///< `error` says why; the slot still has to be released
  };
  int slot = 0;
  Kind kind = Kind::kToken;
  uint32_t token = 0;
  float logprob = 0;          ///< nats, full softmax at the rollout's temperature
  float sampled_logprob = 0;  ///< of the truncated distribution; equals logprob when nothing truncates
  KvOrigin kv = KvOrigin::kFresh;
  std::string error;
};

/// Rows of the last step, and memory, for progress and metrics.
struct EngineLoad {
  int64_t decode_rows = 0, prefill_rows = 0;
  int64_t kv_blocks = 0, kv_blocks_used = 0;
};

/// Thread  one thread calls; an engine may use more inside.
class Engine {
 public:
  virtual ~Engine() = default;

  virtual std::string name() const = 0;             ///< "local", "sim:NAME": as segments record it
  virtual std::string kernels() const = 0;          ///< kernel set, as segments record it
  virtual bool simulated() const { return false; }  ///< its clock and log-probabilities are made up
  virtual int64_t num_slots() const = 0;
  virtual int64_t max_positions() const = 0;  ///< prompt and response together
  virtual uint32_t vocab_size() const = 0;
  virtual PolicyId policy() const = 0;
  virtual const Clock& clock() const = 0;  ///< virtual in a simulation: waiting goes through Wait
  virtual EngineLoad load() const = 0;

  /// Begins or continues `rollout` in a free slot. It must stay where it is until Release, and its tokens must grow by exactly what Step returned.
  /// False, with nothing changed, when memory is short now: try again once another slot is free.
  /// Throws Runtime when the rollout would not fit even alone.
  virtual bool Start(int slot, const record::Rollout& rollout) = 0;
  virtual void Release(int slot) = 0;
  /// One step over all started slots; events in ascending slot order. A slot without an event is still reading its prompt.
  virtual void Step(std::vector<SlotEvent>* events) = 0;

  /// Takes up newer weights if they are ready; true when policy() changed. Running slots go on at their token.
  virtual bool RefreshWeights() = 0;
  /// Lets time pass while there is nothing to do; returns early when a stop was requested.
  virtual void Wait(int64_t ms) = 0;
};

}  // namespace april::rollout
