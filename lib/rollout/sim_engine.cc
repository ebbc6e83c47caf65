#include "rollout/sim_engine.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/rng.h"

namespace april::rollout {

SimEngine::SimEngine(SimProfile profile, int64_t num_slots, bool keep_kv) : profile_(std::move(profile)), keep_kv_(keep_kv), slots_(num_slots) {
  profile_.lengths.Check();
}

int64_t SimEngine::Positions(const record::Rollout& rollout) { return static_cast<int64_t>(rollout.prompt_tokens.size() + rollout.tokens.size()); }

bool SimEngine::Start(int slot, const record::Rollout& rollout) {
  const int64_t positions = Positions(rollout);
  if (Memory() > 0 && positions_held_ + positions + num_running_ >= Memory()) {
    if (num_running_ == 0)
      throw Error::Runtime("memory of " + std::to_string(Memory()) + " positions is too small for one rollout of " + std::to_string(positions));
    return false;
  }
  slots_[slot] = {&rollout, positions, num_started_++, Length(rollout), rollout.tokens.empty() ? KvOrigin::kFresh : KvOrigin::kRecomputed};
  positions_held_ += positions;
  num_running_++;
  return true;
}

void SimEngine::Release(int slot) {
  if (slots_[slot].rollout == nullptr) return;
  positions_held_ -= Positions(*slots_[slot].rollout);
  num_running_--;
  slots_[slot].rollout = nullptr;
}

void SimEngine::EvictYoungest(std::vector<SlotEvent>* events) {
  int youngest = -1;
  for (int i = 0; i < static_cast<int>(slots_.size()); ++i) {
    if (slots_[i].rollout != nullptr && (youngest < 0 || slots_[i].order > slots_[youngest].order)) youngest = i;
  }
  SlotEvent event;
  event.slot = youngest;
  event.kind = SlotEvent::Kind::kEvicted;
  events->push_back(event);
  Release(youngest);
}

/// The stop token at the drawn length, before it anything else.
uint32_t SimEngine::NextToken(const Slot& slot) const {
  const record::Rollout& rollout = *slot.rollout;
  const std::vector<uint32_t>& own = rollout.sampling.stop_tokens;
  const auto index = static_cast<int64_t>(rollout.tokens.size());
  if (index + 1 >= slot.length) return own.empty() ? profile_.stop_token : own.front();
  auto token = static_cast<uint32_t>(RandomBits(rollout.seed, RandomUse::kSampling, rollout.uid, static_cast<uint64_t>(index)) % profile_.vocab_size);
  const auto stops = [&](uint32_t candidate) {
    return own.empty() ? candidate == profile_.stop_token : std::find(own.begin(), own.end(), candidate) != own.end();
  };
  for (uint32_t tries = 0; stops(token) && tries <= own.size(); ++tries) token = (token + 1) % profile_.vocab_size;
  return token;
}

double SimEngine::StepMs(int64_t context, int64_t read, double read_pairs) const {
  const auto engines = static_cast<double>(profile_.engines);
  const int64_t rows = (load_.decode_rows + profile_.engines - 1) / profile_.engines;
  return profile_.decode.Ms(static_cast<double>(rows), static_cast<double>(context) / engines) +
         (profile_.prefill_token_ms * static_cast<double>(read) + profile_.prefill_position_ns * 1e-6 * read_pairs) / engines;
}

void SimEngine::Step(std::vector<SlotEvent>* events) {
  while (Memory() > 0 && positions_held_ + num_running_ > Memory()) {
    if (num_running_ == 1)
      throw Error::Runtime("memory of " + std::to_string(Memory()) + " positions is too small for one rollout of " +
                           std::to_string(positions_held_ + 1));
    EvictYoungest(events);
  }
  const bool evicted = !events->empty();
  load_ = {};
  load_.kv_blocks = Memory();
  load_.kv_blocks_used = positions_held_;
  int64_t context = 0;
  double read_pairs = 0;
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (slot.rollout == nullptr) continue;
    load_.decode_rows++;
    context += Positions(*slot.rollout);
    if (slot.unread > 1) {
      load_.prefill_rows += slot.unread - 1;
      read_pairs += static_cast<double>(slot.unread - 1) * static_cast<double>(slot.unread - 2) / 2;
    }
    slot.unread = 0;
    SlotEvent event;
    event.slot = static_cast<int>(i);
    event.kv = slot.kv;
    event.token = NextToken(slot);
    event.logprob = event.sampled_logprob = -static_cast<float>(event.token % 8);
    events->push_back(event);
  }
  if (evicted) std::stable_sort(events->begin(), events->end(), [](const SlotEvent& a, const SlotEvent& b) { return a.slot < b.slot; });
  positions_held_ += load_.decode_rows;
  clock_.now_ns += static_cast<int64_t>(StepMs(context, load_.prefill_rows, read_pairs) * 1e6);
}

bool SimEngine::RefreshWeights() {
  if (watch_) {
    if (const std::optional<PolicyId> newest = watch_()) published_ = *newest;
  }
  if (published_ == policy_) return false;
  policy_ = published_;
  for (Slot& slot : slots_) {
    if (slot.rollout == nullptr) continue;
    if (!keep_kv_) slot.unread = Positions(*slot.rollout);
    slot.kv = keep_kv_ ? KvOrigin::kKept : slot.rollout->tokens.empty() ? KvOrigin::kFresh : KvOrigin::kRecomputed;
  }
  return true;
}

void SimEngine::Wait(int64_t ms) {
  clock_.now_ns += ms * 1'000'000;
  if (wait_hook_) wait_hook_(ms);
}

}  // namespace april::rollout
