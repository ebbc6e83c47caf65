// An engine without a model: a virtual clock, a decode-time curve and given response lengths. Schedules become exact and instant.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "rollout/engine.h"
#include "rollout/sim_profile.h"

namespace april::rollout {

class SimEngine : public Engine {
 public:
  SimEngine(SimProfile profile, int64_t num_slots, bool keep_kv);

  /// Weights that the next RefreshWeights takes up.
  void Publish(PolicyId policy) { published_ = policy; }
  /// Asked by RefreshWeights in place of what was published.
  void set_policy_watch(std::function<std::optional<PolicyId>()> watch) { watch_ = std::move(watch); }
  /// Also called by Wait: where somebody real is waited for, real time has to pass with the virtual one.
  void set_wait_hook(std::function<void(int64_t ms)> hook) { wait_hook_ = std::move(hook); }
  /// Response length of a rollout that is not cut by its budget.
  int64_t Length(const record::Rollout& rollout) const { return profile_.lengths.Of(rollout); }
  const SimProfile& profile() const { return profile_; }

  std::string name() const override { return "sim:" + profile_.name; }
  std::string kernels() const override { return "sim"; }
  bool simulated() const override { return true; }
  int64_t num_slots() const override { return static_cast<int64_t>(slots_.size()); }
  int64_t max_positions() const override { return profile_.max_positions; }
  uint32_t vocab_size() const override { return kAnyPrompt; }
  PolicyId policy() const override { return policy_; }
  const Clock& clock() const override { return clock_; }
  EngineLoad load() const override { return load_; }
  bool Start(int slot, const record::Rollout& rollout) override;
  void Release(int slot) override;
  void Step(std::vector<SlotEvent>* events) override;
  bool RefreshWeights() override;
  void Wait(int64_t ms) override;

 private:
  static constexpr uint32_t kAnyPrompt = 1u << 31;  // whatever tokenizer made the prompts
  struct Slot {
    const record::Rollout* rollout = nullptr;
    int64_t unread = 0;  // tokens whose keys and values are missing
    int64_t order = 0;   // of starting
    int64_t length = 0;  // of the whole response
    KvOrigin kv = KvOrigin::kFresh;
  };
  struct VirtualClock : Clock {
    int64_t now_ns = 0;
    int64_t MonotonicNs() const override { return now_ns; }
    int64_t WallNs() const override { return now_ns; }
  };

  static int64_t Positions(const record::Rollout& rollout);
  int64_t Memory() const { return profile_.memory_positions * profile_.engines; }
  void EvictYoungest(std::vector<SlotEvent>* events);
  uint32_t NextToken(const Slot& slot) const;
  double StepMs(int64_t context, int64_t read, double read_pairs) const;

  SimProfile profile_;
  bool keep_kv_;
  VirtualClock clock_;
  PolicyId policy_, published_;
  std::function<std::optional<PolicyId>()> watch_;
  std::function<void(int64_t)> wait_hook_;
  std::vector<Slot> slots_;
  EngineLoad load_;
  int64_t num_started_ = 0, num_running_ = 0;
  int64_t positions_held_ = 0;
};

}  // namespace april::rollout
