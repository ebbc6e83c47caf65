#include "buffer/prompt_queue.h"

#include <algorithm>
#include <numeric>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/rng.h"

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
  plans_.push_back({this->num_prompts(), num_prompts, num_groups_, epochs, shuffle});
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
  if (!plan.shuffle) return {plan.first_prompt + index, epoch};
  const int64_t plan_index = &plan - plans_.data();
  if (permuted_plan_ != plan_index || permuted_epoch_ != epoch) {
    permutation_.resize(static_cast<size_t>(plan.num_prompts));
    std::iota(permutation_.begin(), permutation_.end(), 0u);
    for (uint64_t i = permutation_.size() - 1; i > 0; --i) {
      std::swap(permutation_[i], permutation_[RandomBits(*plan.shuffle, RandomUse::kShuffle, static_cast<uint64_t>(epoch), i) % (i + 1)]);
    }
    permuted_plan_ = plan_index;
    permuted_epoch_ = epoch;
  }
  return {plan.first_prompt + permutation_[static_cast<size_t>(index)], epoch};
}

namespace {

template <typename T>
void SaveList(const std::vector<T>& list, std::string* out) {
  AppendLe(*out, uint64_t{list.size()});
  for (const T& item : list) AppendLe(*out, item);
}

template <typename T>
std::vector<T> LoadList(const std::function<std::string_view(size_t)>& next) {
  const auto size = LoadLe<uint64_t>(next(sizeof(uint64_t)).data());
  if (size > (uint64_t{1} << 40)) throw Error::Data("the index has a list of " + std::to_string(size));
  const std::string_view raw = next(size * sizeof(T));
  std::vector<T> list;
  list.reserve(size);
  for (size_t i = 0; i < size; ++i) list.push_back(LoadLe<T>(raw.data() + i * sizeof(T)));
  return list;
}

}  // namespace

void PromptQueue::Save(std::string* out) const {
  SaveList(prompts_, out);
  SaveList(std::vector<uint64_t>(ids_.begin(), ids_.end()), out);
  SaveList(plans_, out);
  AppendLe(*out, uint64_t{pending_.size()});
  for (const auto& [add, pending] : pending_) {
    AppendLe(*out, add);
    SaveList(pending.prompts, out);
    SaveList(pending.ids, out);
  }
  AppendLe(*out, num_groups_);
}

void PromptQueue::Load(const std::function<std::string_view(size_t)>& next) {
  prompts_ = LoadList<PromptMeta>(next);
  const std::vector<uint64_t> ids = LoadList<uint64_t>(next);
  ids_ = {ids.begin(), ids.end()};
  plans_ = LoadList<Plan>(next);
  for (auto left = LoadLe<uint64_t>(next(sizeof(uint64_t)).data()); left > 0; --left) {
    Pending& pending = pending_[LoadLe<uint64_t>(next(sizeof(uint64_t)).data())];
    pending.prompts = LoadList<PromptMeta>(next);
    pending.ids = LoadList<uint64_t>(next);
  }
  num_groups_ = LoadLe<int64_t>(next(sizeof(int64_t)).data());
}

}  // namespace april::buffer
