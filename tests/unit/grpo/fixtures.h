// A tiny model directory, rollouts, claims and their streams.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "grpo/claim.h"
#include "model/config.h"
#include "model/policy.h"
#include "weights/safetensors.h"

namespace april::grpo {

/// An empty directory that is removed at the end.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    char name[] = "/tmp/april-grpo-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~ScratchDirectory() { std::filesystem::remove_all(path_); }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// Of the error that `action` throws.
inline std::string HintOf(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.hint();
  }
  return "no error";
}

inline record::Header TestHeader() {
  record::Header header;
  header.run = "test";
  return header;
}

inline Json TinyConfig() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 32},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"head_dim", 16},
          {"intermediate_size", 48},
          {"vocab_size", 64},
          {"max_position_embeddings", 128},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", true},
          {"hidden_act", "silu"},
          {"eos_token_id", 1},
          {"torch_dtype", "float32"}};
}

/// config.json and f32 weights, in the order of model::Parameters.
inline void WriteModel(const std::string& directory, const Json& config, const std::vector<std::vector<float>>& values) {
  SystemFiles().MakeDirectory(directory);
  ReplaceFile(SystemFiles(), directory + "/config.json", config.dump(), false);
  const auto parameters = model::Parameters(model::Config::FromJson(config));
  std::vector<weights::TensorView> views;
  for (size_t p = 0; p < parameters.size(); ++p)
    views.push_back({parameters[p].name, weights::DType::kF32, parameters[p].shape, values[p].data(), values[p].size() * 4});
  const auto layout = weights::LayOutSafetensors(views, {});
  std::string bytes = layout.head;
  for (const size_t index : layout.order) bytes.append(static_cast<const char*>(views[index].data), views[index].num_bytes);
  ReplaceFile(SystemFiles(), directory + "/model.safetensors", bytes, false);
}

/// Random f32 weights and config.json, without a tokenizer. `change` may spoil them.
inline std::string WriteTinyModel(const std::string& directory, const std::function<void(const std::string&, std::vector<float>*)>& change = {}) {
  const auto parameters = model::Parameters(model::Config::FromJson(TinyConfig()));
  std::vector<std::vector<float>> values(parameters.size());
  for (size_t p = 0; p < parameters.size(); ++p) {
    size_t size = 1;
    for (const int64_t extent : parameters[p].shape) size *= static_cast<size_t>(extent);
    for (size_t i = 0; i < size; ++i) {
      const double uniform = 2 * RandomUnit(11, RandomUse::kTest, p, i) - 1;
      values[p].push_back(parameters[p].shape.size() == 1 ? 1.0f : static_cast<float>(0.2 * uniform));
    }
    if (change) change(parameters[p].name, &values[p]);
  }
  WriteModel(directory, TinyConfig(), values);
  return directory;
}

/// A complete, scored rollout of random tokens, all sampled under `version`, with made-up log-probabilities.
inline record::Rollout MakeRollout(uint64_t group_id, int64_t index, int64_t num_tokens, double reward, uint64_t version = 0) {
  record::Rollout rollout;
  rollout.uid = group_id * 1000 + static_cast<uint64_t>(index);
  rollout.run = "test";
  rollout.prompt_id = "p" + std::to_string(group_id);
  rollout.group_id = group_id;
  rollout.index = index;
  rollout.group_size = 4;
  for (uint64_t i = 0; i < 3 + group_id % 4; ++i)
    rollout.prompt_tokens.push_back(static_cast<uint32_t>(RandomBits(1, RandomUse::kTest, group_id, i) % 64));
  for (uint64_t i = 0; i < static_cast<uint64_t>(num_tokens); ++i) {
    rollout.tokens.push_back(static_cast<uint32_t>(RandomBits(2, RandomUse::kTest, rollout.uid, i) % 64));
    rollout.logprobs.push_back(static_cast<float>(-3 - 2 * RandomUnit(3, RandomUse::kTest, rollout.uid, i)));
  }
  rollout.weight_versions.push_back({version, 0, 0, num_tokens, {}});
  record::Segment segment;
  segment.len = num_tokens;
  segment.engine = "elsewhere";
  rollout.segments.push_back(segment);
  rollout.status = record::Status::kComplete;
  rollout.finish = record::Finish::kStop;
  rollout.max_tokens = 64;
  record::Reward score;
  score.value = reward;
  score.scorer = "test";
  rollout.reward = score;
  return rollout;
}

inline Claim MakeClaim(int64_t step, std::vector<std::vector<record::Rollout>> groups, bool replay = false) {
  Claim claim;
  claim.id = "claim" + std::to_string(step);
  claim.step = step;
  claim.replay = replay;
  for (auto& rollouts : groups) {
    record::Group head;
    head.group_id = rollouts.front().group_id;
    head.prompt_id = rollouts.front().prompt_id;
    head.members = static_cast<int64_t>(rollouts.size());
    head.expected = 4;
    head.claim = claim.id;
    claim.groups.push_back({head, std::move(rollouts)});
  }
  claim.control.kind = "claim";
  claim.control.values = {
      {"claim", claim.id},      {"step", step},    {"groups", static_cast<int64_t>(claim.groups.size())}, {"rollouts", claim.NumRollouts()},
      {"policy_version", step}, {"replay", replay}};
  return claim;
}

/// Three groups of three: mixed rewards, all equal rewards, mixed rewards; some tokens stale when `step` > 0.
inline Claim MakeMixedClaim(int64_t step, bool replay = false) {
  std::vector<std::vector<record::Rollout>> groups;
  for (uint64_t g = 0; g < 3; ++g) {
    std::vector<record::Rollout> rollouts;
    for (int64_t i = 0; i < 3; ++i) {
      const uint64_t id = static_cast<uint64_t>(step) * 10 + g + 1;
      const double reward = g == 1 ? 1 : (i + static_cast<int64_t>(g)) % 3 == 0;
      rollouts.push_back(
          MakeRollout(id, i, 4 + (static_cast<int64_t>(g) + 2 * i) % 5, reward, static_cast<uint64_t>(step > 0 && i == 1 ? step - 1 : step)));
    }
    groups.push_back(std::move(rollouts));
  }
  return MakeClaim(step, std::move(groups), replay);
}

}  // namespace april::grpo
