#include "rollout/scheduler.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"

namespace april::rollout {
namespace {

constexpr int64_t kIdleWaitMs = 5;  // new weights are met within that time, and with them a whole step that waits for them
constexpr double kDrainCheckMs = 50;

std::string Describe(const record::Rollout& rollout) { return "rollout " + HexU64(rollout.uid) + " of prompt " + rollout.prompt_id; }

}  // namespace

Scheduler::Scheduler(ScheduleOptions options, Engine& engine, Sink& sink, WorkSource* source)
    : options_(std::move(options)), engine_(engine), sink_(sink), source_(source), slots_(engine.num_slots()) {
  limits_ = {options_.stop_tokens, engine.max_positions(), engine.vocab_size(), options_.token_bytes};
}

Scheduler::~Scheduler() = default;

double Scheduler::NowMs() const { return static_cast<double>(engine_.clock().MonotonicNs()) * 1e-6; }

void Scheduler::Give(record::Record record) {
  if (auto* rollout = std::get_if<record::Rollout>(&record)) return GiveRollout(std::move(*rollout));
  counters_.other_records++;
  sink_.Write(record);
  wrote_ = true;
}

void Scheduler::GiveRollout(record::Rollout rollout) {
  counters_.read++;
  int64_t* unfinished = nullptr;
  if (source_ == nullptr) unfinished = &unfinished_[rollout.group_id];
  if (rollout.status != record::Status::kQueued && rollout.status != record::Status::kPartial) {
    if (unfinished != nullptr && rollout.status == record::Status::kWaiting)
      ++*unfinished;  // someone else's work: the group cannot become whole here
    sink_.Write(std::move(rollout));
    wrote_ = true;
    counters_.passed++;
    return;
  }
  if (unfinished != nullptr) ++*unfinished;
  const bool resumed = !rollout.tokens.empty();
  auto active = std::make_unique<ActiveRollout>(std::move(rollout), limits_);
  if (const std::string defect = active->Defect(); !defect.empty()) {
    log::Warn(Describe(active->rollout()) + " cannot be generated: " + defect);
    counters_.defective++;
    active->Fail(defect);
  }
  if (active->done()) return Emit(*active);
  counters_.resumed += resumed ? 1 : 0;
  counters_.waiting++;
  waiting_.push_back(std::move(active));
}

void Scheduler::Emit(ActiveRollout& active) {
  const bool done = active.done();
  const record::Record record = active.Take();
  sink_.Write(record);
  wrote_ = true;
  const auto& rollout = std::get<record::Rollout>(record);
  if (rollout.status == record::Status::kComplete) {
    counters_.finished++;
    counters_.finished_tokens += static_cast<int64_t>(rollout.tokens.size());
    if (rollout.finish == record::Finish::kLength) counters_.length_finishes++;
  } else if (rollout.status == record::Status::kFailed) {
    counters_.failed++;
  } else if (rollout.status == record::Status::kPartial) {
    counters_.partial++;
  } else {
    counters_.queued++;
  }
  if (done && source_ == nullptr && --unfinished_[rollout.group_id] == 0 && started_) counters_.whole_groups++;
}

bool Scheduler::TargetReached() const {
  if (options_.round_tokens > 0 && counters_.tokens >= options_.round_tokens) return true;
  return options_.target_groups > 0 && counters_.whole_groups >= options_.target_groups;
}

bool Scheduler::DrainRequested() {
  if (answer_.demand == Demand::kDrain) return true;
  if (options_.drain_when.empty() || NowMs() < next_drain_check_ms_) return false;
  next_drain_check_ms_ = NowMs() + kDrainCheckMs;
  return SystemFiles().Exists(options_.drain_when);
}

ScheduleEnd Scheduler::Run() {
  // Only now are all members known: groups that arrived whole count too.
  started_ = true;
  counters_.groups = static_cast<int64_t>(unfinished_.size());
  counters_.whole_groups = std::count_if(unfinished_.begin(), unfinished_.end(), [](const auto& group) { return group.second == 0; });
  try {
    const ScheduleEnd end = Loop();
    HandBackUnfinished();
    return end;
  } catch (const Error&) {
    try {
      HandBackUnfinished();
    } catch (const Error&) {
      // The first error is the one to report; a closed pipe fails here again.
    }
    throw;
  }
}

ScheduleEnd Scheduler::Loop() {
  while (true) {
    const double begin_ms = NowMs();
    const int64_t tokens = counters_.tokens;
    bool stepped = false;
    if (options_.stop_requested && options_.stop_requested()) return ScheduleEnd::kStopped;
    if (TargetReached()) return ScheduleEnd::kTarget;
    AskSource();
    if (DrainRequested()) return ScheduleEnd::kDrained;
    TakeNewWeights();
    const bool go = MayGenerate();
    if (go) FillSlots();
    if (go && counters_.running > 0) {
      StepOnce();
      stepped = true;
    } else if (counters_.running == 0 && waiting_.empty() && source_ == nullptr) {
      return TargetReached() ? ScheduleEnd::kTarget : ScheduleEnd::kDone;
    } else {
      engine_.Wait(kIdleWaitMs);
    }
    if (wrote_) sink_.Flush();
    wrote_ = false;
    if (observer_) observer_();
    if (stepped) CountTime(NowMs() - begin_ms, counters_.tokens - tokens);
  }
}

void Scheduler::TakeNewWeights() {
  if (!engine_.RefreshWeights()) return;
  counters_.weight_updates++;
  for (auto& active : slots_) {
    if (active) active->BeginSegment(NowMs());
  }
}

bool Scheduler::MayGenerate() {
  if (answer_.demand != Demand::kGo) return false;
  const uint64_t version = engine_.policy().version;
  if (version >= answer_.min_version) {
    too_old_since_ms_ = -1;
    return true;
  }
  if (too_old_since_ms_ < 0) too_old_since_ms_ = NowMs();
  if (NowMs() - too_old_since_ms_ > static_cast<double>(options_.weights_timeout_ms)) {
    throw Error::Peer("policy version " + std::to_string(answer_.min_version) + " is asked for, but for " +
                          HumanSeconds(static_cast<double>(options_.weights_timeout_ms) * 1e-3) + " the newest weights found are version " +
                          std::to_string(version),
                      "does --weights name the directory that grpo-step --publish writes?");
  }
  return false;
}

void Scheduler::AskSource() {
  if (source_ == nullptr) return;
  const int64_t room = engine_.num_slots() - counters_.running - counters_.waiting;
  const bool hungry = room > 0 && answer_.demand == Demand::kGo && source_gave_all_;
  if (!hungry && NowMs() < next_ask_ms_) return;
  std::vector<uint64_t> held;
  for (const auto& active : slots_) {
    if (active) held.push_back(active->rollout().uid);
  }
  for (const auto& active : waiting_) held.push_back(active->rollout().uid);
  answer_ = source_->Ask(room, held, engine_.policy().version);
  next_ask_ms_ = NowMs() + static_cast<double>(answer_.poll_ms);
  source_gave_all_ = static_cast<int64_t>(answer_.rollouts.size()) >= room;  // asking again at once would only repeat a shorter answer
  for (const uint64_t uid : answer_.lost) Forget(uid);
  for (record::Rollout& rollout : answer_.rollouts) GiveRollout(std::move(rollout));
  answer_.rollouts.clear();
}

void Scheduler::Forget(uint64_t uid) {
  const auto is_lost = [uid](const std::unique_ptr<ActiveRollout>& active) { return active && active->rollout().uid == uid; };
  if (const auto slot = std::find_if(slots_.begin(), slots_.end(), is_lost); slot != slots_.end()) {
    engine_.Release(static_cast<int>(slot - slots_.begin()));
    slot->reset();
    counters_.running--;
  } else if (const auto waiting = std::find_if(waiting_.begin(), waiting_.end(), is_lost); waiting != waiting_.end()) {
    waiting_.erase(waiting);
    counters_.waiting--;
  } else {
    return;
  }
  counters_.lost++;
}

void Scheduler::FillSlots() {
  for (int slot = 0; slot < engine_.num_slots() && !waiting_.empty(); ++slot) {
    if (slots_[slot]) continue;
    if (!engine_.Start(slot, waiting_.front()->rollout())) return;
    slots_[slot] = std::move(waiting_.front());
    waiting_.pop_front();
    slots_[slot]->BeginSegment(NowMs());
    counters_.waiting--;
    counters_.running++;
  }
}

void Scheduler::CountTime(double ms, int64_t tokens) {
  const EngineLoad load = engine_.load();
  if (load.prefill_rows == 0) {
    counters_.decode_ms += ms;
    counters_.decode_tokens += tokens;
  } else if (load.decode_rows == 0) {
    counters_.prefill_ms += ms;
    counters_.prefill_tokens += load.prefill_rows;
  }
}

void Scheduler::StepOnce() {
  events_.clear();
  counters_.busy_slot_steps += counters_.running;
  engine_.Step(&events_);
  counters_.steps++;
  const EngineLoad load = engine_.load();
  counters_.decode_rows += load.decode_rows;
  counters_.prefill_rows += load.prefill_rows;
  for (const SlotEvent& event : events_) Handle(event);
  if (options_.progress_every > 0 && counters_.steps % options_.progress_every == 0) WriteProgress();
}

void Scheduler::Handle(const SlotEvent& event) {
  std::unique_ptr<ActiveRollout>& active = slots_[event.slot];
  if (event.kind == SlotEvent::Kind::kEvicted) {
    counters_.evictions++;
    counters_.running--;
    counters_.waiting++;
    waiting_.push_front(std::move(active));
    return;
  }
  if (event.kind == SlotEvent::Kind::kFailed) {
    log::Warn(Describe(active->rollout()) + " failed at token " + std::to_string(active->rollout().tokens.size()) + ": " + event.error);
    active->Fail(event.error);
  } else {
    active->Append(event, engine_, NowMs());
    counters_.tokens++;
    if (token_observer_) token_observer_(active->rollout());
  }
  if (!active->done()) return;
  if (active->hit_context_limit()) {
    log::WarnOnce("context", Describe(active->rollout()) + " reached the model's context of " + std::to_string(limits_.max_positions) +
                                 " tokens before its own budget and ends with finish length");
  }
  engine_.Release(event.slot);
  counters_.running--;
  Emit(*active);
  active.reset();
}

void Scheduler::WriteProgress() {
  const auto write = [&](const std::unique_ptr<ActiveRollout>& active) {
    if (!active) return;
    if (auto progress = active->TakeProgress()) {
      sink_.Write(std::move(*progress));
      wrote_ = true;
    }
  };
  std::for_each(slots_.begin(), slots_.end(), write);
  std::for_each(waiting_.begin(), waiting_.end(), write);
}

void Scheduler::HandBackUnfinished() {
  for (int slot = static_cast<int>(slots_.size()) - 1; slot >= 0; --slot) {
    if (!slots_[slot]) continue;
    engine_.Release(slot);
    counters_.running--;
    waiting_.push_front(std::move(slots_[slot]));
    counters_.waiting++;
  }
  while (!waiting_.empty()) {
    const std::unique_ptr<ActiveRollout> active = std::move(waiting_.front());
    waiting_.pop_front();
    counters_.waiting--;
    Emit(*active);
  }
  sink_.Flush();
}

}  // namespace april::rollout
