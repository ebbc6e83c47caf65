// An engine without a model: a virtual clock, a decode-time curve and given response lengths. Schedules become exact and instant.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rollout/engine.h"

namespace april::rollout {

/// How long a step takes and how long responses become.
struct SimProfile {
  std::string name = "flat";
  double step_ms = 10;               ///< of any step
  double row_ms = 0.1;               ///< and for each decoding slot
  double context_row_us = 0;         ///< and for each position that a decoding slot attends to
  double prefill_row_ms = 0.02;      ///< and for each token read: prompts and resumed responses
  std::vector<int64_t> lengths{64};  ///< equally likely response lengths, stop token included; a rollout's is drawn by its seed and uid
  int64_t max_positions = 1 << 20;
  int64_t memory_positions = 0;  ///< positions that fit in memory; 0 = no limit
  uint32_t vocab_size = 1000;
  uint32_t stop_token = 2;  ///< ends a response of its drawn length
};

class SimEngine : public Engine {
 public:
  SimEngine(SimProfile profile, int64_t num_slots, bool keep_kv);

  /// Weights that the next RefreshWeights takes up.
  void Publish(PolicyId policy) { published_ = policy; }
  /// Response length of a rollout that is not cut by its budget.
  int64_t Length(uint64_t seed, uint64_t uid) const;

  std::string name() const override { return "sim:" + profile_.name; }
  std::string kernels() const override { return "sim"; }
  int64_t num_slots() const override { return static_cast<int64_t>(slots_.size()); }
  int64_t max_positions() const override { return profile_.max_positions; }
  uint32_t vocab_size() const override { return profile_.vocab_size; }
  PolicyId policy() const override { return policy_; }
  const Clock& clock() const override { return clock_; }
  EngineLoad load() const override { return load_; }
  bool Start(int slot, const record::Rollout& rollout) override;
  void Release(int slot) override { slots_[slot].rollout = nullptr; }
  void Step(std::vector<SlotEvent>* events) override;
  bool RefreshWeights() override;
  void Wait(int64_t ms) override { clock_.now_ns += ms * 1'000'000; }

 private:
  struct Slot {
    const record::Rollout* rollout = nullptr;
    int64_t unread = 0;  // tokens whose keys and values are missing
    int64_t order = 0;   // of starting
    KvOrigin kv = KvOrigin::kFresh;
  };
  struct VirtualClock : Clock {
    int64_t now_ns = 0;
    int64_t MonotonicNs() const override { return now_ns; }
    int64_t WallNs() const override { return now_ns; }
  };

  static int64_t Positions(const record::Rollout& rollout);
  int64_t PositionsHeld() const;
  void EvictYoungest(std::vector<SlotEvent>* events);

  SimProfile profile_;
  bool keep_kv_;
  VirtualClock clock_;
  PolicyId policy_, published_;
  std::vector<Slot> slots_;
  EngineLoad load_;
  int64_t num_started_ = 0;
};

}  // namespace april::rollout
