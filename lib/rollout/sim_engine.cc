#include "rollout/sim_engine.h"

#include <algorithm>

#include "base/error.h"
#include "base/rng.h"

namespace april::rollout {

SimEngine::SimEngine(SimProfile profile, int64_t num_slots, bool keep_kv) : profile_(std::move(profile)), keep_kv_(keep_kv), slots_(num_slots) {
  if (profile_.lengths.empty()) throw Error::Usage("simulation profile " + profile_.name + " has no response lengths");
}

int64_t SimEngine::Length(uint64_t seed, uint64_t uid) const {
  const double unit = RandomUnit(seed, RandomUse::kSampling, uid, ~uint64_t{0});
  return profile_.lengths[static_cast<size_t>(unit * static_cast<double>(profile_.lengths.size()))];
}

int64_t SimEngine::Positions(const record::Rollout& rollout) { return static_cast<int64_t>(rollout.prompt_tokens.size() + rollout.tokens.size()); }

int64_t SimEngine::PositionsHeld() const {
  int64_t sum = 0;
  for (const Slot& slot : slots_) {
    if (slot.rollout != nullptr) sum += Positions(*slot.rollout);
  }
  return sum;
}

bool SimEngine::Start(int slot, const record::Rollout& rollout) {
  const int64_t positions = Positions(rollout);
  if (profile_.memory_positions > 0 && PositionsHeld() + positions > profile_.memory_positions) {
    if (PositionsHeld() == 0)
      throw Error::Runtime("memory of " + std::to_string(profile_.memory_positions) + " positions is too small for one rollout");
    return false;
  }
  slots_[slot] = {&rollout, positions, num_started_++, rollout.tokens.empty() ? KvOrigin::kFresh : KvOrigin::kRecomputed};
  return true;
}

void SimEngine::EvictYoungest(std::vector<SlotEvent>* events) {
  Slot* youngest = nullptr;
  for (Slot& slot : slots_) {
    if (slot.rollout != nullptr && (youngest == nullptr || slot.order > youngest->order)) youngest = &slot;
  }
  SlotEvent event;
  event.slot = static_cast<int>(youngest - slots_.data());
  event.kind = SlotEvent::Kind::kEvicted;
  events->push_back(event);
  youngest->rollout = nullptr;
}

void SimEngine::Step(std::vector<SlotEvent>* events) {
  const auto running = [&] { return std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.rollout != nullptr; }); };
  while (profile_.memory_positions > 0 && PositionsHeld() + running() > profile_.memory_positions) EvictYoungest(events);
  load_ = {};
  double context = 0;
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (slot.rollout == nullptr) continue;
    const record::Rollout& rollout = *slot.rollout;
    load_.decode_rows++;
    load_.prefill_rows += std::max<int64_t>(0, slot.unread - 1);
    slot.unread = 0;
    context += static_cast<double>(Positions(rollout));
    const uint64_t index = rollout.tokens.size();
    SlotEvent event;
    event.slot = static_cast<int>(i);
    event.kv = slot.kv;
    event.token = static_cast<uint32_t>(RandomBits(rollout.seed, RandomUse::kSampling, rollout.uid, index) % profile_.vocab_size);
    if (event.token == profile_.stop_token) event.token++;
    if (static_cast<int64_t>(index) + 1 >= Length(rollout.seed, rollout.uid)) event.token = profile_.stop_token;
    event.logprob = event.sampled_logprob = -static_cast<float>(event.token % 8);
    events->push_back(event);
  }
  std::stable_sort(events->begin(), events->end(), [](const SlotEvent& a, const SlotEvent& b) { return a.slot < b.slot; });
  const double ms = profile_.step_ms + profile_.row_ms * static_cast<double>(load_.decode_rows) + profile_.context_row_us * 1e-3 * context +
                    profile_.prefill_row_ms * static_cast<double>(load_.prefill_rows);
  clock_.now_ns += static_cast<int64_t>(ms * 1e6);
}

bool SimEngine::RefreshWeights() {
  if (published_ == policy_) return false;
  policy_ = published_;
  for (Slot& slot : slots_) {
    if (slot.rollout == nullptr) continue;
    if (!keep_kv_) slot.unread = Positions(*slot.rollout);
    slot.kv = keep_kv_ ? KvOrigin::kKept : slot.rollout->tokens.empty() ? KvOrigin::kFresh : KvOrigin::kRecomputed;
  }
  return true;
}

}  // namespace april::rollout
