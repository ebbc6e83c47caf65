#include "buffer/prompt_queue.h"

#include <algorithm>
#include <numeric>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/rng.h"
#include "buffer/index_fields.h"

namespace april::buffer {
namespace {

constexpr int64_t kMaxGroups = int64_t{1} << 48;  // of a run: MakeKey has no more bits for them

}  // namespace

void PromptQueue::AddPrompt(uint64_t add, const std::string& id, const PromptMeta& prompt) {
  Pending& pending = pending_[add];
  pending.prompts.push_back(prompt);
  pending.ids.push_back(Digest(id));
}

void PromptQueue::AddPlan(uint64_t add, int64_t num_prompts, int64_t epochs, std::optional<uint64_t> shuffle) {
  if (num_prompts < 1 || epochs < 1)
    throw Error::Data("a plan of " + std::to_string(num_prompts) + " prompts and " + std::to_string(epochs) + " epochs");
  if (epochs > (kMaxGroups - num_groups_) / num_prompts)
    throw Error::Data(std::to_string(epochs) + " epochs of " + std::to_string(num_prompts) + " prompts are more groups than a run may have, " +
                      std::to_string(kMaxGroups));
  const Pending pending = std::move(pending_[add]);
  pending_.erase(add);
  if (static_cast<int64_t>(pending.prompts.size()) != num_prompts) {
    throw Error::Data("a plan names " + std::to_string(num_prompts) + " prompts, but the journal has " + std::to_string(pending.prompts.size()));
  }
  std::unordered_set<uint64_t> ids;
  for (const uint64_t id : pending.ids) {
    if (ids_.contains(id) || !ids.insert(id).second) throw Error::Data("a plan brings a prompt that the queue has already, of digest " + HexU64(id));
  }
  plans_.push_back({this->num_prompts(), num_prompts, num_groups_, epochs, shuffle.has_value(), shuffle.value_or(0)});
  prompts_.insert(prompts_.end(), pending.prompts.begin(), pending.prompts.end());
  ids_.merge(ids);
  num_groups_ += num_prompts * epochs;
}

bool PromptQueue::HasPrompt(const std::string& id) const { return ids_.contains(Digest(id)); }

PromptQueue::Group PromptQueue::At(int64_t place) const {
  const auto after =
      std::upper_bound(plans_.begin(), plans_.end(), place, [](int64_t wanted, const Plan& plan) { return wanted < plan.first_place; });
  const Plan& plan = *std::prev(after);
  const int64_t epoch = (place - plan.first_place) / plan.num_prompts;
  const int64_t index = (place - plan.first_place) % plan.num_prompts;
  if (!plan.is_shuffled) return {plan.first_prompt + index, epoch};
  const int64_t plan_index = &plan - plans_.data();
  if (permuted_plan_ != plan_index || permuted_epoch_ != epoch) {
    permutation_.resize(static_cast<size_t>(plan.num_prompts));
    std::iota(permutation_.begin(), permutation_.end(), 0u);
    for (uint64_t i = permutation_.size() - 1; i > 0; --i) {
      std::swap(permutation_[i], permutation_[RandomBits(plan.seed, RandomUse::kShuffle, static_cast<uint64_t>(epoch), i) % (i + 1)]);
    }
    permuted_plan_ = plan_index;
    permuted_epoch_ = epoch;
  }
  return {plan.first_prompt + permutation_[static_cast<size_t>(index)], epoch};
}

namespace {

/// Both ways: `fields` writes them or reads them.
constexpr auto kPromptFields = [](auto& fields, auto& prompt) { fields(prompt.payload, prompt.tokens); };
constexpr auto kPlanFields = [](auto& fields, auto& plan) {
  fields(plan.first_prompt, plan.num_prompts, plan.first_place, plan.epochs, plan.is_shuffled, plan.seed);
};

}  // namespace

void PromptQueue::Save(FieldWriter& fields) const {
  std::vector<uint64_t> ids(ids_.begin(), ids_.end());
  std::sort(ids.begin(), ids.end());
  fields.List(prompts_, kPromptFields);
  fields.List(ids);
  fields.List(plans_, kPlanFields);
  fields(uint64_t{pending_.size()});
  for (const auto& [add, pending] : pending_) {
    fields(add);
    fields.List(pending.prompts, kPromptFields);
    fields.List(pending.ids);
  }
  fields(num_groups_);
}

void PromptQueue::Load(FieldReader& fields) {
  std::vector<uint64_t> ids;
  fields.List(prompts_, kPromptFields);
  fields.List(ids);
  ids_ = {ids.begin(), ids.end()};
  fields.List(plans_, kPlanFields);
  uint64_t num_pending = 0;
  for (fields(num_pending); num_pending > 0; --num_pending) {
    uint64_t add = 0;
    fields(add);
    fields.List(pending_[add].prompts, kPromptFields);
    fields.List(pending_[add].ids);
  }
  fields(num_groups_);
}

}  // namespace april::buffer
