// Recorded rollouts as the trainer's benchmarks take them: read from a stream, or made up, and rewarded so that every group has a gradient.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "grpo/claim.h"

namespace april::bench {

/// One claim of these groups. Every second rollout is rewarded: advantages are known to whoever reads the same rollouts, and no group's are zero.
inline grpo::Claim MakeClaim(int64_t step, std::vector<std::vector<record::Rollout>> groups) {
  grpo::Claim claim;
  claim.id = "bench" + std::to_string(step);
  claim.step = step;
  for (std::vector<record::Rollout>& rollouts : groups) {
    for (record::Rollout& rollout : rollouts) {
      record::Reward reward;
      reward.value = static_cast<double>(rollout.index % 2);
      reward.scorer = "bench";
      rollout.reward = reward;
    }
    record::Group head;
    head.group_id = rollouts.front().group_id;
    head.prompt_id = rollouts.front().prompt_id;
    head.members = head.expected = static_cast<int64_t>(rollouts.size());
    head.claim = claim.id;
    claim.groups.push_back({head, std::move(rollouts)});
  }
  claim.control.kind = "claim";
  claim.control.values = {
      {"claim", claim.id},      {"step", step},   {"groups", static_cast<int64_t>(claim.groups.size())}, {"rollouts", claim.NumRollouts()},
      {"policy_version", step}, {"replay", false}};
  return claim;
}

/// The first `count` groups of a stream of finished rollouts, by group id; all when it is 0.
inline std::vector<std::vector<record::Rollout>> ReadGroups(const std::string& path, size_t count, record::Header* header = nullptr) {
  record::RecordReader reader(path, {});
  if (header != nullptr) *header = reader.header();
  std::map<uint64_t, std::vector<record::Rollout>> by_id;
  while (auto record = reader.Next()) {
    if (auto* rollout = std::get_if<record::Rollout>(&*record)) by_id[rollout->group_id].push_back(std::move(*rollout));
  }
  std::vector<std::vector<record::Rollout>> groups;
  for (auto& [id, rollouts] : by_id) {
    if (count > 0 && groups.size() == count) break;
    std::sort(rollouts.begin(), rollouts.end(), [](const auto& a, const auto& b) { return a.index < b.index; });
    groups.push_back(std::move(rollouts));
  }
  if (groups.size() < std::max<size_t>(count, 1)) {
    throw Error::Data(path + " has " + std::to_string(groups.size()) + " groups, expected " + std::to_string(count));
  }
  return groups;
}

/// Groups of random tokens.
inline std::vector<std::vector<record::Rollout>> MakeGroups(size_t count, int64_t prompt, int64_t members, int64_t response, int64_t vocab) {
  std::vector<std::vector<record::Rollout>> groups(count);
  for (size_t g = 0; g < count; ++g) {
    for (int64_t i = 0; i < members; ++i) {
      record::Rollout rollout;
      rollout.group_id = g + 1;
      rollout.uid = rollout.group_id * 1000 + static_cast<uint64_t>(i);
      rollout.run = "bench";
      rollout.prompt_id = std::to_string(g);
      rollout.index = i;
      rollout.group_size = members;
      const auto token = [&](uint64_t id, int64_t at) {
        return static_cast<uint32_t>(RandomBits(1, RandomUse::kTest, id, static_cast<uint64_t>(at)) % static_cast<uint64_t>(vocab));
      };
      for (int64_t t = 0; t < prompt; ++t) rollout.prompt_tokens.push_back(token(rollout.group_id, t));
      for (int64_t t = 0; t < response; ++t) rollout.tokens.push_back(token(rollout.uid, t));
      rollout.logprobs.assign(rollout.tokens.size(), -10.0f);
      rollout.weight_versions.push_back({0, 0, 0, response, {}});
      record::Segment segment;
      segment.len = response;
      segment.engine = "bench";
      rollout.segments.push_back(segment);
      rollout.status = record::Status::kComplete;
      rollout.finish = record::Finish::kLength;
      rollout.max_tokens = response;
      groups[g].push_back(std::move(rollout));
    }
  }
  return groups;
}

}  // namespace april::bench
