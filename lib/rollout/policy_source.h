// Where a generator's weights come from: one model for ever, or a directory of published versions that is watched.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "kernels/kernels.h"
#include "kernels/thread_pool.h"
#include "model/policy.h"
#include "rollout/engine.h"

namespace april::rollout {

struct LoadedPolicy {
  std::shared_ptr<const model::Policy> policy;
  PolicyId id;
};

/// Thread  one thread calls; loading may happen on another one inside.
class PolicySource {
 public:
  virtual ~PolicySource() = default;
  /// Calls `read` with the path where a policy's tokenizer and configuration lie. Waits like First. When `read` throws because that version was
  /// removed meanwhile to make room for a newer one, it is called again with that one's.
  virtual void ReadModel(const std::function<void(const std::string& path)>& read) = 0;
  /// The first policy. Waits for it within the source's limit.
  virtual LoadedPolicy First() = 0;
  /// A newer one that is loaded and ready; nullopt when there is none. Cheap: called at each step.
  virtual std::optional<LoadedPolicy> Newer() = 0;
  /// Whether newer versions can come, that is, whether memory for a second set of weights is needed.
  virtual bool Changes() const = 0;
};

/// `path`: a model directory or a .gguf file; version 0. Its digest is that of the tensors as stored.
std::unique_ptr<PolicySource> FixedPolicy(const std::string& path, const kernels::Kernels& kernels, kernels::ThreadPool& pool);

/// The versions that LATEST of `directory` names. The next one is read beside generation and taken up whole; versions that were overtaken meanwhile
/// are skipped. First throws NotReady when nothing was published within `timeout_ms`.
std::unique_ptr<PolicySource> WatchVersions(const std::string& directory, const kernels::Kernels& kernels, kernels::ThreadPool& pool,
                                            int64_t timeout_ms);

}  // namespace april::rollout
