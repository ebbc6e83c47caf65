#include "simulated_run.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "base/signals.h"
#include "buffer/admission.h"
#include "buffer/claiming.h"
#include "buffer/leasing.h"
#include "buffer/putting.h"
#include "buffer/store.h"
#include "rollout/scheduler.h"
#include "run_figures.h"

namespace april {
namespace {

using buffer::Batch;
using buffer::Store;

constexpr int64_t kPollMs = 1;

buffer::RunConfig ConfigOf(const SimulatedRunOptions& options) {
  buffer::RunConfig config;
  config.run = "simulation";
  config.seed = options.seed;
  config.group_size = options.group_size;
  config.groups_per_step = options.groups;
  config.in_flight = options.schedule == Schedule::kSync ? config.Need() : std::llround(options.over_issue * static_cast<double>(config.Need()));
  config.max_tokens = options.max_tokens;
  config.min_members = std::min<int64_t>(2, options.group_size);
  config.admission = options.admission;
  config.retain_steps = 1;
  buffer::CheckPolicies(config);
  return config;
}

/// A reward that tells nothing: half of the rollouts have 1.
record::Reward Judge(const record::Rollout& rollout) {
  record::Reward reward;
  reward.value = static_cast<double>(Mix64(rollout.uid) & 1);
  reward.scorer = "simulation";
  return reward;
}

/// The run: a buffer, an engine, and in place of grpo-step something that takes time.
class Run : private rollout::Sink, private rollout::WorkSource {
 public:
  Run(const SimulatedRunOptions& options, const std::function<void(const Json&)>& on_step)
      : options_(options),
        on_step_(on_step),
        config_(ConfigOf(options)),
        engine_(options.profile, options.slots > 0 ? options.slots : config_.in_flight, options.keep_kv),
        store_(OpenStore()) {
    AddPrompts();
  }

  Json Train() {
    if (options_.schedule == Schedule::kTopUp) {
      Generate(Schedulable(0), this);
    } else {
      while (step_ < options_.steps) Round();
    }
    Json line = figures_.sums.Since(warm_).Figures();
    line["sampled_length_mean"] = std::round(sampled_sum_ / static_cast<double>(std::max<int64_t>(1, sampled_)) * 10) / 10;
    line["steps"] = options_.steps - options_.warm_up;
    line["slots"] = engine_.num_slots();
    line["in_flight"] = config_.in_flight;
    return line;
  }

 private:
  /// On virtual time, and without a wait for the disk: nothing of a simulation outlives it.
  Store OpenStore() {
    Store::Init(SystemFiles(), engine_.clock(), options_.scratch, config_);
    return Store(SystemFiles(), engine_.clock(), options_.scratch, {.durability = {buffer::Durability::Mode::kOs, 0}});
  }

  void AddPrompts() {
    const auto in_flight_groups = (config_.in_flight + config_.group_size - 1) / config_.group_size;
    const int64_t count = (options_.steps + 2) * config_.groups_per_step + 2 * std::max({in_flight_groups, options_.admission.number, int64_t{0}}) +
                          (options_.admission.kind == buffer::Admission::Kind::kAssigned ? options_.admission.number * config_.groups_per_step : 0);
    store_.Transact([&](Batch& batch) {
      for (int64_t i = 0; i < count; ++i) {
        record::Prompt prompt;
        prompt.prompt_id = std::to_string(i);
        prompt.prompt_tokens.assign(static_cast<size_t>(options_.prompt_tokens), 3);
        batch.Add(buffer::PromptEntry{1, prompt.prompt_id, options_.prompt_tokens}, record::EncodeRecord(prompt));
      }
      batch.Add(buffer::PlanEntry{1, count, 1, std::nullopt, "simulation"});
    });
  }

  rollout::ScheduleOptions Schedulable(int64_t target_groups) const {
    rollout::ScheduleOptions schedule;
    schedule.target_groups = target_groups;
    schedule.progress_every = 0;
    schedule.stop_tokens = {options_.profile.stop_token};
    schedule.stop_requested = StopRequested;
    return schedule;
  }

  void Generate(const rollout::ScheduleOptions& schedule, rollout::WorkSource* source) {
    rollout::Scheduler scheduler(schedule, engine_, *this, source);
    figures_.Restart(Now());
    scheduler.set_observer([&] { figures_.NoteStep(scheduler.counters(), engine_.num_slots(), Now()); });
    for (record::Rollout& rollout : issued_) scheduler.Give(std::move(rollout));
    issued_.clear();
    if (scheduler.Run() == rollout::ScheduleEnd::kStopped) throw Error::Stopped("stopped; a simulation leaves nothing behind");
  }

  /// One step as plain pipes: take, generate, put, claim.
  void Round() {
    const buffer::State& state = store_.state();
    if (const int64_t wanted = buffer::GroupsWanted(state); wanted > 0) {
      Lease(options_.schedule == Schedule::kSync ? buffer::RolloutsWanted(state) : WaveSize());
      Generate(Schedulable(wanted), nullptr);
      store_.Transact([&](Batch& batch) { buffer::ReleaseLease(state, batch, lease_, "ended"); });
    }
    while (step_ < options_.steps && TrainIfReady()) {
    }
  }

  /// The paper issues groups: open ones, whatever is left of them, and new ones up to the number.
  int64_t WaveSize() const {
    const buffer::State& state = store_.state();
    const auto in_flight_groups = (config_.in_flight + config_.group_size - 1) / config_.group_size;
    const int64_t fresh = std::max<int64_t>(0, in_flight_groups - static_cast<int64_t>(state.unclaimed().size()));
    return static_cast<int64_t>(state.partial().size() + state.queued().size()) + fresh * config_.group_size;
  }

  void Lease(int64_t count) {
    buffer::LeaseRequest request;
    request.lease = lease_ = ++num_leases_;
    request.worker = "simulation";
    request.max_rollouts = count;
    request.beyond_demand = options_.schedule == Schedule::kWave;
    std::vector<uint64_t> keys;
    store_.Transact([&](Batch& batch) { keys = buffer::LeaseRollouts(store_, batch, request); });
    for (const uint64_t key : keys) {
      issued_.push_back(store_.ReadRollout(key));
      NoteSampled(issued_.back());
    }
  }

  /// The length that it will have, once for each rollout of the steps that count.
  void NoteSampled(const record::Rollout& rollout) {
    if (!rollout.tokens.empty() || !seen_.insert(rollout.uid).second) return;
    sampled_sum_ += static_cast<double>(std::min(engine_.Length(rollout), rollout.max_tokens));
    sampled_++;
  }

  // Sink: what reward-score and `put` do.
  void Write(const record::Record& record) override {
    record::Rollout rollout = std::get<record::Rollout>(record);
    if (rollout.status == record::Status::kFailed) throw Error::Runtime("a simulated rollout failed");
    if (rollout.status == record::Status::kComplete) {
      rollout.reward = Judge(rollout);
      finished_[rollout.uid] = Summary(rollout);
    }
    written_.push_back(record::EncodeRecord(rollout));
  }
  void Flush() override {
    if (written_.empty()) return;
    buffer::PutCounts counts;
    std::set<uint64_t> leases;
    store_.Transact(
        [&](Batch& batch) {
          for (const std::string& bytes : written_) buffer::PutRecord(store_, batch, bytes, &counts, &leases);
        },
        buffer::Wait::kAsLongAsAllowed);
    written_.clear();
    if (counts.rejected > 0) throw Error::Runtime("the buffer rejected a simulated rollout: " + counts.first_reject);
  }

  // WorkSource: what the hub does. Training takes place inside, since generation pauses for it.
  rollout::WorkAnswer Ask(int64_t want, const std::vector<uint64_t>&, uint64_t) override {
    while (step_ < options_.steps && TrainIfReady()) {
    }
    rollout::WorkAnswer answer;
    answer.poll_ms = kPollMs;
    if (step_ >= options_.steps) {
      answer.demand = rollout::Demand::kDrain;
      return answer;
    }
    if (want > 0) Lease(std::min(want, buffer::RolloutsWanted(store_.state())));
    answer.rollouts = std::move(issued_);
    issued_.clear();
    return answer;
  }

  bool TrainIfReady() {
    const buffer::State& state = store_.state();
    if (buffer::GroupsWanted(state) > 0) return false;
    std::string waits_for;
    store_.Transact([&](Batch& batch) { waits_for = buffer::MakeClaim(state, batch, options_.groups, std::nullopt); },
                    buffer::Wait::kAsLongAsAllowed);
    if (!waits_for.empty()) return false;
    const buffer::ClaimMeta& claim = *state.FindClaim(step_);
    const auto version = static_cast<uint64_t>(step_);  // the trainer's: the engine takes it up at its next step
    const int64_t before = figures_.sums.trained_tokens;
    for (const uint64_t admission : claim.groups) {
      for (const uint64_t uid : state.group(admission).ScoredUids()) figures_.NoteTrained(finished_.at(uid), version);
      for (const uint64_t uid : state.group(admission).ScoredUids()) finished_.erase(uid);
    }
    WaitForTraining(figures_.sums.trained_tokens - before);
    record::Step step;
    step.claim = claim.id;
    step.step = step_;
    step.version = version + 1;
    step.weights = step.version;
    step.checkpoint = "simulated";
    store_.Transact([&](Batch& batch) { buffer::CommitStep(state, batch, step); }, buffer::Wait::kAsLongAsAllowed);
    engine_.Publish({step.version, step.weights});
    EndStep();
    return true;
  }

  void WaitForTraining(int64_t tokens) {
    const auto ms = static_cast<int64_t>(options_.train_token_ms * static_cast<double>(tokens));
    engine_.Wait(ms);
    figures_.NoteTraining(static_cast<double>(ms) * 1e-3, Now());
  }

  void EndStep() {
    Json line = figures_.sums.Since(last_).Figures();
    line["step"] = step_;
    line["time_s"] = std::round(Now() * 1e3) * 1e-3;
    on_step_(line);
    last_ = figures_.sums;
    last_.max_staleness = 0;
    if (++step_ > options_.warm_up) return;
    figures_.sums.max_staleness = 0;
    warm_ = figures_.sums;
  }

  /// What training looks at.
  static record::Rollout Summary(const record::Rollout& rollout) {
    record::Rollout summary;
    summary.tokens.resize(rollout.tokens.size());
    summary.weight_versions = rollout.weight_versions;
    return summary;
  }

  double Now() const { return engine_.clock().MonotonicSeconds(); }

  const SimulatedRunOptions& options_;
  const std::function<void(const Json&)>& on_step_;
  buffer::RunConfig config_;
  rollout::SimEngine engine_;
  Store store_;
  RunFigures figures_;
  RunSums warm_, last_;
  int64_t step_ = 0;
  uint64_t lease_ = 0, num_leases_ = 0;
  std::vector<record::Rollout> issued_;
  std::vector<std::string> written_;
  std::unordered_map<uint64_t, record::Rollout> finished_;  // and not trained
  std::unordered_set<uint64_t> seen_;
  double sampled_sum_ = 0;
  int64_t sampled_ = 0;
};

}  // namespace

Json Simulate(const SimulatedRunOptions& options, const std::function<void(const Json&)>& on_step) {
  if (options.warm_up >= options.steps) throw Error::Usage("--warm-up leaves no step that counts", "raise --steps");
  return Run(options, on_step).Train();
}

}  // namespace april
