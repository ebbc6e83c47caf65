// A scratch buffer, and rollouts made by a pretended generator.
#pragma once

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/rng.h"
#include "buffer/leasing.h"
#include "buffer/putting.h"
#include "buffer/store.h"

namespace april::test {

class ScratchDir {
 public:
  ScratchDir() {
    std::string name = (std::filesystem::temp_directory_path() / "april-buffer-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary directory");
    path_ = name;
  }
  ~ScratchDir() { std::filesystem::remove_all(path_); }
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;
  std::string Path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// Time that a test sets.
class SetClock : public Clock {
 public:
  int64_t MonotonicNs() const override { return now_ns; }
  int64_t WallNs() const override { return now_ns; }
  int64_t now_ns = 1'000'000'000;
};

inline buffer::RunConfig SmallConfig() {
  buffer::RunConfig config;
  config.run = "test";
  config.seed = 1;
  config.group_size = 3;
  config.groups_per_step = 2;
  config.in_flight = 9;
  config.min_members = 2;
  config.max_tokens = 64;
  config.retain_steps = 1;
  config.tokenizer = 7;
  return config;
}

/// Adds prompts p0, p1, … of one plan.
inline void AddPrompts(buffer::Store& store, int64_t count, int64_t epochs = 1, std::optional<uint64_t> shuffle = std::nullopt) {
  store.Transact([&](buffer::Batch& batch) {
    const uint64_t add = RandomId();
    const int64_t first = store.state().queue().num_prompts();
    for (int64_t i = 0; i < count; ++i) {
      record::Prompt prompt;
      prompt.prompt_id = "p" + std::to_string(first + i);
      prompt.prompt_tokens = {1, 2, static_cast<uint32_t>(i)};
      prompt.label = std::to_string(i);
      batch.Add(buffer::PromptEntry{add, prompt.prompt_id, 3}, record::EncodeRecord(prompt));
    }
    batch.Add(buffer::PlanEntry{add, count, epochs, shuffle, "test"});
  });
}

inline std::vector<record::Rollout> Take(buffer::Store& store, int64_t count, uint64_t lease, const std::string& worker = "w") {
  std::vector<uint64_t> keys;
  buffer::LeaseRequest request;
  request.lease = lease;
  request.worker = worker;
  request.max_rollouts = count;
  store.Transact([&](buffer::Batch& batch) { keys = buffer::LeaseRollouts(store, batch, request); }, buffer::Wait::kNo, buffer::Room::kFree);
  std::vector<record::Rollout> rollouts;
  for (const uint64_t key : keys) rollouts.push_back(store.ReadRollout(key));
  return rollouts;
}

/// Token i of a rollout's response, and its log-probability: the same however often it is interrupted.
inline uint32_t TokenAt(uint64_t uid, size_t i) { return static_cast<uint32_t>(Mix64(uid + i) % 256); }
inline float LogprobAt(uint64_t uid, size_t i) { return -static_cast<float>(Mix64(uid ^ (i + 1)) % 1000) / 256.0f; }

/// The rollout `count` tokens further, sampled under policy `version`: partial.
inline record::Rollout Generate(record::Rollout rollout, int64_t count, uint64_t version) {
  const auto start = static_cast<int64_t>(rollout.tokens.size());
  if (count == 0) return rollout;
  for (int64_t i = start; i < start + count; ++i) {
    rollout.tokens.push_back(TokenAt(rollout.uid, static_cast<size_t>(i)));
    rollout.logprobs.push_back(LogprobAt(rollout.uid, static_cast<size_t>(i)));
  }
  rollout.weight_versions.push_back({version, version + 100, start, start + count, {}});
  record::Segment segment;
  segment.start = start;
  segment.len = count;
  segment.engine = "test";
  rollout.segments.push_back(segment);
  if (!rollout.born_version) rollout.born_version = version;
  if (start > 0) ++rollout.resumes;
  rollout.status = record::Status::kPartial;
  return rollout;
}

inline record::Rollout Complete(record::Rollout rollout) {
  rollout.status = record::Status::kComplete;
  rollout.finish = record::Finish::kStop;
  return rollout;
}

inline record::Rollout Scored(record::Rollout rollout, double value, const std::string& status = "ok") {
  rollout = Complete(std::move(rollout));
  record::Reward reward;
  reward.value = value;
  reward.status = status;
  reward.scorer = "test";
  rollout.reward = reward;
  return rollout;
}

inline record::Rollout Failed(record::Rollout rollout) {
  rollout.status = record::Status::kFailed;
  rollout.finish = record::Finish::kError;
  return rollout;
}

/// What `to` has beyond `from`.
inline record::Progress Delta(const record::Rollout& from, const record::Rollout& to) {
  record::Progress delta;
  delta.uid = to.uid;
  delta.lease = *to.lease;
  delta.start = static_cast<int64_t>(from.tokens.size());
  delta.tokens.assign(to.tokens.begin() + delta.start, to.tokens.end());
  delta.logprobs.assign(to.logprobs.begin() + delta.start, to.logprobs.end());
  delta.weight_versions.assign(to.weight_versions.begin() + static_cast<std::ptrdiff_t>(from.weight_versions.size()), to.weight_versions.end());
  delta.segments.assign(to.segments.begin() + static_cast<std::ptrdiff_t>(from.segments.size()), to.segments.end());
  return delta;
}

inline buffer::PutCounts Put(buffer::Store& store, const std::vector<record::Record>& records) {
  buffer::PutCounts counts;
  std::set<uint64_t> leases;
  store.Transact([&](buffer::Batch& batch) {
    for (const record::Record& record : records) buffer::PutRecord(store, batch, record::EncodeRecord(record), &counts, &leases);
  });
  return counts;
}

/// Whether it throws an Error: a loss of power is none.
template <typename Body>
bool IsRefused(Body body) {
  try {
    body();
    return false;
  } catch (const Error&) {
    return true;
  }
}

/// A buffer in a scratch directory, with prompts.
struct ScratchBuffer {
  ScratchDir scratch;
  SetClock clock;
  std::string directory = scratch.Path("b");
  std::unique_ptr<buffer::Store> store;

  explicit ScratchBuffer(const buffer::RunConfig& config = SmallConfig(), int64_t prompts = 8) {
    buffer::Store::Init(SystemFiles(), clock, directory, config);
    Reopen();
    if (prompts > 0) AddPrompts(*store, prompts);
  }
  void Reopen(const buffer::StoreOptions& options = {}) {
    store.reset();
    store = std::make_unique<buffer::Store>(SystemFiles(), clock, directory, options);
  }
  const buffer::State& state() const { return store->state(); }
};

}  // namespace april::test
