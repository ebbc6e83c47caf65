#include "buffer/rewinding.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/json.h"
#include "buffer/claiming.h"
#include "record/checkpoint_name.h"

namespace april::buffer {
namespace {

constexpr const char* kManifest = "manifest.json";

/// Absolute, so that "." has a name and a parent.
std::filesystem::path Plain(const std::string& path) {
  const std::filesystem::path normal = std::filesystem::absolute(path).lexically_normal();
  return normal.has_filename() ? normal : normal.parent_path();
}

std::string Step(int64_t step) { return "step " + std::to_string(step); }

/// What may have been meant by `path`: the newest checkpoint in it, or beside it.
std::string Hint(FileSystem& files, const std::string& path) {
  std::string example = "run/checkpoints/step-00000008";
  for (const std::string& directory : {path, DirectoryOf(path)}) {
    if (!files.Exists(JoinPath(directory, "."))) continue;  // no directory
    const auto newest = NewestCheckpoint(files, directory);
    if (!newest) continue;
    example = JoinPath(directory, newest->name);
    break;
  }
  return "name a checkpoint's own folder, for example " + example;
}

}  // namespace

RewindTarget ReadRewindTarget(FileSystem& files, const std::string& path, const std::string& run) {
  const std::string manifest = JoinPath(Plain(path).string(), kManifest);
  if (!files.Exists(manifest)) throw Error::Usage(path + " is no whole checkpoint: it has no " + kManifest, Hint(files, path));
  const std::string name = Plain(path).filename().string();
  const auto named_step = record::StepOfCheckpoint(name);
  if (!named_step) {
    throw Error::Usage(path + " is not called like a checkpoint: the trainer would not go on from it",
                       Hint(files, path) + "; a copy must have its old name and place back first");
  }
  try {
    const Json json = Json::parse(ReadFile(files, manifest));
    if (json.contains("run") && json.at("run").is_string() && !json.at("run").get<std::string>().empty() &&
        json.at("run").get<std::string>() != run) {
      throw Error::Usage(path + " is of run \"" + json.at("run").get<std::string>() + "\", this buffer's is \"" + run + "\"");
    }
    const RewindTarget target{name, json.at("step").get<int64_t>(), json.at("version").get<uint64_t>()};
    if (target.step != *named_step) {
      throw Error::Usage(path + " is called " + name + " and holds " + Step(target.step) + ": a renamed copy, from which the trainer would not go on",
                         "name " + record::CheckpointName(target.step) + ", or give this one that name and its place back first");
    }
    return target;
  } catch (const Json::exception& error) {
    throw Error::Usage(manifest + " is no checkpoint's manifest: " + JsonProblem(error), Hint(files, path));
  }
}

RewindCounts Rewind(const State& state, Batch& batch, const RewindTarget& target) {
  const std::string what = "cannot go back to checkpoint " + target.name + ", before " + Step(target.step) + ": ";
  if (target.step > state.next_step()) {
    throw Error::Runtime(what + "this buffer claimed only " + std::to_string(state.next_step()) + " steps",
                         "the checkpoint belongs to another run, or the buffer is an older copy");
  }
  if (target.step < state.first_kept_step()) {
    throw Error::Runtime(what + "the groups of steps " + std::to_string(target.step) + " to " + std::to_string(state.first_kept_step() - 1) +
                             " are no longer kept; init --retain-steps was " + std::to_string(state.config().retain_steps),
                         "go back to a checkpoint whose step is " + std::to_string(state.first_kept_step()) + " or later");
  }
  if (target.step > state.first_uncommitted_step()) {
    throw Error::Runtime(what + Step(state.first_uncommitted_step()) + " is in it, but its commit was lost",
                         "partial-buffer claim --checkpoints … | grpo-step … | partial-buffer commit brings the commit, then rewind");
  }
  if (const ClaimMeta* last = state.FindClaim(target.step - 1); last && last->trained_version != target.version) {
    throw Error::Runtime(what + "it has policy version " + std::to_string(target.version) + ", but " + Step(last->step) + " made version " +
                             std::to_string(last->trained_version),
                         "the checkpoint is of another course of this run");
  }
  RewindCounts counts;
  for (int64_t step = target.step; step < state.next_step(); ++step) {
    const ClaimMeta& claim = *state.FindClaim(step);
    ++counts.steps;
    counts.groups += static_cast<int64_t>(claim.groups.size());
    counts.rollouts += claim.rollouts;
  }
  if (counts.steps > 0) batch.Add(RewindEntry{target.step, target.name, target.version});
  return counts;
}

std::vector<std::string> SetNewerAside(FileSystem& files, const std::string& path, int64_t step) {
  const std::string directory = Plain(path).parent_path().string();
  std::vector<std::string> names;
  for (const std::string& name : files.List(directory)) {
    const std::string manifest = JoinPath(JoinPath(directory, name), kManifest);
    if (!record::StepOfCheckpoint(name) || !files.Exists(manifest)) continue;
    try {
      if (Json::parse(ReadFile(files, manifest)).at("step").get<int64_t>() <= step) continue;
    } catch (const Json::exception&) {
      continue;  // nobody takes it for a checkpoint
    }
    files.Rename(manifest, manifest + ".rewound");
    files.SyncDirectory(JoinPath(directory, name));
    names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace april::buffer
