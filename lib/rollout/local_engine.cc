#include "rollout/local_engine.h"

#include <poll.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/error.h"
#include "base/rng.h"
#include "base/signals.h"
#include "model/forward.h"
#include "rollout/memory_plan.h"
#include "rollout/prompt_cache.h"
#include "rollout/sampler.h"

namespace april::rollout {
namespace {

using model::KvCache;

class LocalEngine : public Engine {
 public:
  LocalEngine(const LocalEngineOptions& options, PolicySource& policies, kernels::ThreadPool& pool)
      : options_(options),
        policies_(policies),
        pool_(pool),
        current_(policies.First()),
        config_(current_.policy->config()),
        cache_(config_, current_.policy->kernels(),
               PlanKvBlocks({options.memory_bytes, current_.policy->NumBytes() * (policies.Changes() ? 2 : 1),
                             KvCache::BytesPerBlock(config_, current_.policy->kernels()), options.num_slots, options.expected_positions,
                             config_.max_positions})),
        prompts_(cache_),
        forward_(config_, current_.policy->kernels(), pool),
        slots_(options.num_slots) {
    for (int i = 0; i < pool.num_threads(); ++i) samplers_.emplace_back(current_.policy->kernels(), config_.vocab);
  }

  std::string name() const override { return "local"; }
  std::string kernels() const override { return current_.policy->kernels().name; }
  int64_t num_slots() const override { return options_.num_slots; }
  int64_t max_positions() const override { return config_.max_positions; }
  uint32_t vocab_size() const override { return static_cast<uint32_t>(config_.vocab); }
  PolicyId policy() const override { return current_.id; }
  const Clock& clock() const override { return SystemClock(); }
  EngineLoad load() const override {
    EngineLoad load = load_;
    load.kv_blocks = cache_.num_blocks();
    load.kv_blocks_used = cache_.num_blocks() - cache_.num_free_blocks();
    return load;
  }

  bool Start(int slot, const record::Rollout& rollout) override;
  void Release(int slot) override;
  void Step(std::vector<SlotEvent>* events) override;
  bool RefreshWeights() override;
  void Wait(int64_t ms) override {
    pollfd stop{StopFd(), POLLIN, 0};
    ::poll(&stop, 1, static_cast<int>(ms));
  }

 private:
  struct Slot {
    const record::Rollout* rollout = nullptr;
    SharedPrompt* prompt = nullptr;  // waited for, or about to be sampled from; nullptr once the slot goes on alone
    model::Sequence sequence;        // its own; empty while it waits for its prompt
    KvOrigin kv = KvOrigin::kFresh;

    int64_t prompt_length() const { return static_cast<int64_t>(rollout->prompt_tokens.size()); }
    int64_t length() const { return prompt_length() + static_cast<int64_t>(rollout->tokens.size()); }
    int64_t unread() const { return length() - sequence.length; }
    bool waits() const { return prompt != nullptr && sequence.length == 0; }
    uint32_t token(int64_t position) const {
      return position < prompt_length() ? rollout->prompt_tokens[position] : rollout->tokens[position - prompt_length()];
    }
  };
  /// A row of logits to sample from.
  struct Draw {
    int slot = 0;
    int64_t logit_row = -1;                // of this step's forward, or
    const SharedPrompt* prompt = nullptr;  // the row that this prompt keeps
  };

  void Attach(int slot);
  void Detach(Slot* slot);
  int64_t BlocksOutstanding() const;
  bool Reserve(model::Sequence* sequence, int64_t length);
  [[noreturn]] void ThrowTooSmall(const record::Rollout& rollout) const;
  void Evict(int slot, std::vector<SlotEvent>* events);
  void PlanStep(std::vector<SlotEvent>* events);
  void JoinPrompts();
  void PlanPromptDraws();
  void PlanDecode(std::vector<SlotEvent>* events);
  void PlanPrefill();
  int64_t AddRows(model::Sequence* sequence, int64_t length, int64_t most, const Slot* slot, const SharedPrompt* prompt);
  void RunForward();
  std::string WhereNotFinite(Slot* slot);
  void Sample(std::vector<SlotEvent>* events);

  LocalEngineOptions options_;
  PolicySource& policies_;
  kernels::ThreadPool& pool_;
  LoadedPolicy current_;
  model::Config config_;
  KvCache cache_;
  PromptCache prompts_;
  model::Forward forward_;
  std::vector<Sampler> samplers_;  // by thread

  std::vector<Slot> slots_;
  std::vector<int> active_;  // slots in the order of their starts: the oldest always gets on

  // Of one step.
  std::vector<model::Row> rows_;
  int64_t num_logit_rows_ = 0;
  std::vector<std::pair<SharedPrompt*, int64_t>> completed_prompts_;  // and their rows of logits
  std::vector<Draw> draws_;
  std::vector<Choice> choices_;
  std::vector<float> logits_;
  std::vector<kernels::ChunkSums> chunks_;
  EngineLoad load_;
};

void LocalEngine::Attach(int slot_index) {
  Slot& slot = slots_[slot_index];
  slot.kv = slot.rollout->tokens.empty() ? KvOrigin::kFresh : KvOrigin::kRecomputed;
  if (options_.share_prompts) slot.prompt = prompts_.Get(slot.rollout->prompt_tokens);
}

void LocalEngine::Detach(Slot* slot) {
  if (slot->prompt != nullptr) prompts_.Leave(slot->prompt);
  slot->prompt = nullptr;
  cache_.Release(&slot->sequence);
}

int64_t LocalEngine::BlocksOutstanding() const {
  int64_t blocks = 0;
  for (const int index : active_) {
    const Slot& slot = slots_[index];
    const int64_t shared = slot.prompt != nullptr ? slot.prompt_length() / kernels::kKvBlock : 0;
    blocks += std::max<int64_t>(0, KvCache::BlocksFor(slot.length() + 1) - shared - static_cast<int64_t>(slot.sequence.blocks.size())) + 1;
  }
  for (const auto& prompt : prompts_.entries()) {
    if (prompt->waiting > 0)
      blocks += KvCache::BlocksFor(static_cast<int64_t>(prompt->tokens.size())) - static_cast<int64_t>(prompt->sequence.blocks.size());
  }
  return blocks;
}

bool LocalEngine::Start(int slot, const record::Rollout& rollout) {
  const int64_t prompt_length = static_cast<int64_t>(rollout.prompt_tokens.size());
  const int64_t length = prompt_length + static_cast<int64_t>(rollout.tokens.size());
  const auto needed = [&] {
    const int64_t own = KvCache::BlocksFor(length + 1);
    if (!options_.share_prompts) return own;
    const bool known = prompts_.Find(rollout.prompt_tokens) != nullptr;
    return own - prompt_length / kernels::kKvBlock + (known ? 0 : KvCache::BlocksFor(prompt_length));
  };
  while (cache_.num_free_blocks() < needed() + BlocksOutstanding()) {
    if (prompts_.DropOldestUnused()) continue;
    if (!active_.empty()) return false;
    ThrowTooSmall(rollout);
  }
  slots_[slot] = {&rollout, nullptr, {}, KvOrigin::kFresh};
  active_.push_back(slot);
  Attach(slot);
  return true;
}

void LocalEngine::Release(int slot) {
  Detach(&slots_[slot]);
  slots_[slot].rollout = nullptr;
  std::erase(active_, slot);
}

void LocalEngine::ThrowTooSmall(const record::Rollout& rollout) const {
  throw Error::Runtime("memory for " + std::to_string(cache_.num_blocks() * kernels::kKvBlock) + " tokens of keys and values cannot hold rollout " +
                           HexU64(rollout.uid) + " of " + std::to_string(rollout.prompt_tokens.size() + rollout.tokens.size()) + " tokens and more",
                       "raise --memory");
}

void LocalEngine::Evict(int slot, std::vector<SlotEvent>* events) {
  Release(slot);
  SlotEvent event;
  event.slot = slot;
  event.kind = SlotEvent::Kind::kEvicted;
  events->push_back(event);
}

bool LocalEngine::Reserve(model::Sequence* sequence, int64_t length) {
  while (!cache_.Reserve(sequence, length)) {
    if (!prompts_.DropOldestUnused()) return false;
  }
  return true;
}

/// Gives waiting slots their own sequence once their prompt is there.
void LocalEngine::JoinPrompts() {
  for (const int index : active_) {
    Slot& slot = slots_[index];
    if (!slot.waits() || !slot.prompt->complete) continue;
    bool forked = cache_.Fork(slot.prompt->sequence, slot.prompt_length(), &slot.sequence);
    while (!forked && prompts_.DropOldestUnused()) forked = cache_.Fork(slot.prompt->sequence, slot.prompt_length(), &slot.sequence);
    if (!forked) return;  // in a later step, when others have finished
    if (slot.rollout->tokens.empty()) continue;
    prompts_.Leave(slot.prompt);
    slot.prompt = nullptr;
  }
}

/// Rollouts without a token sample from their prompt's logits.
void LocalEngine::PlanPromptDraws() {
  for (const int index : active_) {
    const Slot& slot = slots_[index];
    if (slot.prompt != nullptr && !slot.waits()) draws_.push_back({index, -1, slot.prompt});
  }
}

void LocalEngine::PlanDecode(std::vector<SlotEvent>* events) {
  for (size_t i = 0; i < active_.size(); ++i) {
    const int index = active_[i];
    Slot& slot = slots_[index];
    if (slot.prompt != nullptr || slot.unread() != 1) continue;
    bool reserved = Reserve(&slot.sequence, slot.length());
    while (!reserved && active_.back() != index) {  // the youngest gives way; it comes later in this loop, so nothing is planned for it yet
      Evict(active_.back(), events);
      reserved = Reserve(&slot.sequence, slot.length());
    }
    if (!reserved) {  // the youngest itself
      if (active_.size() == 1) ThrowTooSmall(*slot.rollout);
      Evict(index, events);
      continue;
    }
    const int64_t position = slot.sequence.length;
    rows_.push_back({slot.token(position), static_cast<int32_t>(position), &slot.sequence, true, SamplingScale(slot.rollout->sampling)});
    draws_.push_back({index, num_logit_rows_++, nullptr});
  }
}

/// At most `most` rows of a sequence up to `length`, as many as memory allows now; returns how many.
int64_t LocalEngine::AddRows(model::Sequence* sequence, int64_t length, int64_t most, const Slot* slot, const SharedPrompt* prompt) {
  int64_t count = std::min(length - sequence->length, most);
  if (!Reserve(sequence, sequence->length + count)) {
    const int64_t room = (static_cast<int64_t>(sequence->blocks.size()) + cache_.num_free_blocks()) * kernels::kKvBlock;
    count = std::min(count, room - sequence->length);
    if (count <= 0 || !cache_.Reserve(sequence, sequence->length + count)) return 0;
  }
  for (int64_t position = sequence->length; position < sequence->length + count; ++position) {
    const uint32_t token = slot != nullptr ? slot->token(position) : prompt->tokens[position];
    rows_.push_back(
        {token, static_cast<int32_t>(position), sequence, position + 1 == length, slot != nullptr ? SamplingScale(slot->rollout->sampling) : 1.0f});
  }
  return count;
}

void LocalEngine::PlanPrefill() {
  int64_t budget = options_.prefill_rows;
  std::vector<const SharedPrompt*> planned;
  for (const int index : active_) {
    if (budget <= 0) break;
    Slot& slot = slots_[index];
    if (slot.prompt == nullptr) {
      if (slot.unread() <= 1) continue;
      budget -= AddRows(&slot.sequence, slot.length(), budget, &slot, nullptr);
      if (!rows_.empty() && rows_.back().sequence == &slot.sequence && rows_.back().logits) draws_.push_back({index, num_logit_rows_++, nullptr});
    } else if (!slot.prompt->complete && std::find(planned.begin(), planned.end(), slot.prompt) == planned.end()) {
      SharedPrompt& prompt = *slot.prompt;
      planned.push_back(&prompt);
      budget -= AddRows(&prompt.sequence, static_cast<int64_t>(prompt.tokens.size()), budget, nullptr, &prompt);
      if (!rows_.empty() && rows_.back().sequence == &prompt.sequence && rows_.back().logits)
        completed_prompts_.emplace_back(&prompt, num_logit_rows_++);
    }
  }
}

void LocalEngine::PlanStep(std::vector<SlotEvent>* events) {
  while (true) {
    rows_.clear();
    draws_.clear();
    completed_prompts_.clear();
    num_logit_rows_ = 0;
    JoinPrompts();
    PlanDecode(events);
    PlanPromptDraws();
    load_.decode_rows = static_cast<int64_t>(draws_.size());
    const size_t decode_rows = rows_.size();
    PlanPrefill();
    load_.prefill_rows = static_cast<int64_t>(rows_.size() - decode_rows);
    if (!rows_.empty() || !draws_.empty() || active_.empty()) return;
    if (active_.size() == 1) ThrowTooSmall(*slots_[active_[0]].rollout);
    Evict(active_.back(), events);
  }
}

void LocalEngine::RunForward() {
  if (rows_.empty()) return;
  const size_t num_logits = static_cast<size_t>(num_logit_rows_ * config_.vocab);
  if (logits_.size() < num_logits) {
    logits_.resize(num_logits);
    chunks_.resize(static_cast<size_t>(num_logit_rows_ * model::NumChunks(config_.vocab)));
  }
  forward_.Run(*current_.policy, cache_, rows_, logits_.data(), chunks_.data());
  if (completed_prompts_.empty()) return;
  for (const auto& [prompt, row] : completed_prompts_) {
    const float* logits = logits_.data() + row * config_.vocab;
    prompt->logits.assign(logits, logits + config_.vocab);
    prompt->complete = true;
  }
  std::erase_if(draws_, [](const Draw& draw) { return draw.prompt != nullptr; });
  JoinPrompts();
  PlanPromptDraws();
}

/// For a person: the first layer behind which the newest position is not finite.
std::string LocalEngine::WhereNotFinite(Slot* slot) {
  const int64_t position = slot->sequence.length - 1;
  const model::Row row{slot->token(position), static_cast<int32_t>(position), &slot->sequence};
  const int64_t layer = forward_.FirstNotFinite(*current_.policy, cache_, row);
  if (layer < 0) return "first in the embedding of token " + std::to_string(row.token);
  if (layer == config_.layers) return "first in the last matrix";
  return "first in layer " + std::to_string(layer) + " of 0 to " + std::to_string(config_.layers - 1);
}

void LocalEngine::Sample(std::vector<SlotEvent>* events) {
  if (draws_.empty()) return;
  choices_.resize(draws_.size());
  pool_.Run([&](kernels::ThreadPool::Worker& worker) {
    Sampler& sampler = samplers_[worker.index()];
    for (int64_t i; (i = worker.NextTask(static_cast<int64_t>(draws_.size()))) >= 0;) {
      const Draw& draw = draws_[i];
      const record::Rollout& rollout = *slots_[draw.slot].rollout;
      const double unit = RandomUnit(rollout.seed, RandomUse::kSampling, rollout.uid, rollout.tokens.size());
      if (draw.prompt != nullptr) {  // its members may have temperatures of their own
        choices_[i] = sampler.Choose(draw.prompt->logits.data(), rollout.sampling, unit);
        continue;
      }
      const auto num_chunks = static_cast<size_t>(model::NumChunks(config_.vocab));
      const std::span<const kernels::ChunkSums> chunks(chunks_.data() + static_cast<size_t>(draw.logit_row) * num_chunks, num_chunks);
      choices_[i] = sampler.Choose(logits_.data() + draw.logit_row * config_.vocab, chunks, rollout.sampling, unit);
    }
  });
  for (size_t i = 0; i < draws_.size(); ++i) {
    Slot& slot = slots_[draws_[i].slot];
    if (draws_[i].prompt != nullptr) {
      prompts_.Leave(slot.prompt);
      slot.prompt = nullptr;
    }
    SlotEvent event;
    event.slot = draws_[i].slot;
    event.kv = slot.kv;
    if (choices_[i].finite) {
      event.token = choices_[i].token;
      event.logprob = choices_[i].logprob;
      event.sampled_logprob = choices_[i].sampled_logprob;
    } else {
      event.kind = SlotEvent::Kind::kFailed;
      event.error = "the logits hold NaN or infinity under policy version " + std::to_string(current_.id.version) + ", " + WhereNotFinite(&slot);
    }
    events->push_back(std::move(event));
  }
}

void LocalEngine::Step(std::vector<SlotEvent>* events) {
  PlanStep(events);
  RunForward();
  Sample(events);
  std::sort(events->begin(), events->end(), [](const SlotEvent& a, const SlotEvent& b) { return a.slot < b.slot; });
}

bool LocalEngine::RefreshWeights() {
  std::optional<LoadedPolicy> newer = policies_.Newer();
  if (!newer) return false;
  const model::Config& config = newer->policy->config();
  if (config.layers != config_.layers || config.hidden != config_.hidden || config.kv_heads != config_.kv_heads || config.vocab != config_.vocab) {
    throw Error::Incompatible("policy version " + std::to_string(newer->id.version) + " is a model of another shape than version " +
                              std::to_string(current_.id.version));
  }
  current_ = std::move(*newer);
  for (const int index : active_) {
    Slot& slot = slots_[index];
    if (options_.keep_kv && slot.prompt == nullptr && slot.sequence.length > 0) {
      slot.kv = KvOrigin::kKept;
      continue;
    }
    Detach(&slot);
  }
  prompts_.Clear();
  for (const int index : active_) {
    if (slots_[index].sequence.length == 0) Attach(index);
  }
  return true;
}

}  // namespace

std::unique_ptr<Engine> MakeLocalEngine(const LocalEngineOptions& options, PolicySource& policies, kernels::ThreadPool& pool) {
  return std::make_unique<LocalEngine>(options, policies, pool);
}

}  // namespace april::rollout
