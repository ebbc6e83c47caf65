// Keeps the slots of an engine full: continuous top-up, completion per rollout, groups counted, unfinished rollouts handed back whole.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "record/records.h"
#include "rollout/active_rollout.h"
#include "rollout/engine.h"
#include "rollout/work_source.h"

namespace april::rollout {

struct ScheduleOptions {
  int64_t target_groups = 0;             ///< end once so many groups are whole; 0 = until all is done
  int64_t round_tokens = 0;              ///< end once so many response tokens were made; 0 = no limit
  int64_t progress_every = 32;           ///< decode steps between progress records; 0 = none
  std::string drain_when;                ///< end once this path exists; "" = never
  int64_t weights_timeout_ms = 60'000;   ///< longest wait for weights that the source asks for
  std::function<bool()> stop_requested;  ///< a signal, usually
  std::vector<uint32_t> stop_tokens;
  TokenBytes token_bytes;
};

/// Where finished rollouts and progress go.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual void Write(const record::Record& record) = 0;
  virtual void Flush() = 0;  ///< after each step that wrote something, so that scoring overlaps generation
};

struct Counters {
  // Rollouts: read = finished + failed + partial + queued + passed + lost + running + waiting, unless the output fails.
  int64_t read = 0;
  int64_t finished = 0;   ///< complete by this run
  int64_t failed = 0;     ///< failed by this run
  int64_t defective = 0;  ///< of the failed: could not be generated at all
  int64_t partial = 0;    ///< handed back unfinished, with tokens
  int64_t queued = 0;     ///< handed back without a token
  int64_t passed = 0;     ///< arrived complete, failed or waiting for someone else
  int64_t lost = 0;       ///< leased to someone else by now, forgotten here
  int64_t running = 0, waiting = 0;
  int64_t resumed = 0;                   ///< of the started: arrived with tokens
  int64_t groups = 0, whole_groups = 0;  ///< of the input; 0 with a work source, which counts groups itself
  int64_t length_finishes = 0;
  int64_t finished_tokens = 0;  ///< response tokens of the finished rollouts
  // Work.
  int64_t tokens = 0, steps = 0, decode_rows = 0, prefill_rows = 0;
  int64_t busy_slot_steps = 0;  ///< sum over steps of the running slots
  int64_t decode_tokens = 0;    ///< of steps that read no prompt, and their time, whatever happened between it and the next step included
  double decode_ms = 0;
  int64_t prefill_tokens = 0;  ///< read by steps that decoded nothing, and their time likewise
  double prefill_ms = 0;
  int64_t evictions = 0, weight_updates = 0;
  int64_t other_records = 0;
};

enum class ScheduleEnd {
  kDone,     ///< everything is finished
  kTarget,   ///< enough groups are whole, or enough tokens made
  kDrained,  ///< asked for by drain_when or by the work source
  kStopped,  ///< a signal
};

class Scheduler {
 public:
  /// All live as long as the scheduler. `source` may be nullptr: then only what Give was given is worked on.
  Scheduler(ScheduleOptions options, Engine& engine, Sink& sink, WorkSource* source);
  ~Scheduler();

  /// Takes one record of the input: what is not a rollout, or is done already, is written on at once.
  void Give(record::Record record);
  /// Generates. However it ends, by an exception too, unfinished rollouts are written before it returns.
  ScheduleEnd Run();

  const Counters& counters() const { return counters_; }
  /// Called after every step and while waiting.
  void set_observer(std::function<void()> observer) { observer_ = std::move(observer); }
  /// Called with each new token, before the rollout may be written.
  void set_token_observer(std::function<void(const record::Rollout&)> observer) { token_observer_ = std::move(observer); }

 private:
  ScheduleEnd Loop();
  void GiveRollout(record::Rollout rollout);
  void Emit(ActiveRollout& active);
  bool TargetReached() const;
  bool DrainRequested();
  void AskSource();
  void Forget(uint64_t uid);
  void TakeNewWeights();
  bool MayGenerate();
  void FillSlots();
  void StepOnce();
  void CountTime(double ms, int64_t tokens);  ///< of a step that made so many
  void Handle(const SlotEvent& event);
  void WriteProgress();
  void HandBackUnfinished();
  double NowMs() const;

  ScheduleOptions options_;
  Engine& engine_;
  Sink& sink_;
  WorkSource* source_;
  Limits limits_;
  Counters counters_;
  std::function<void()> observer_;
  std::function<void(const record::Rollout&)> token_observer_;

  std::vector<std::unique_ptr<ActiveRollout>> slots_;  // by slot; nullptr = free
  std::deque<std::unique_ptr<ActiveRollout>> waiting_;
  std::map<uint64_t, int64_t> unfinished_;  // members by group; not kept with a source, which counts groups itself
  std::vector<SlotEvent> events_;
  WorkAnswer answer_;
  bool source_gave_all_ = true;  // the last answer gave as much as was wanted
  double next_ask_ms_ = 0, next_drain_check_ms_ = 0;
  double too_old_since_ms_ = -1;  // since when the weights are older than the demand; negative = they are not
  bool started_ = false, wrote_ = false;
};

}  // namespace april::rollout
