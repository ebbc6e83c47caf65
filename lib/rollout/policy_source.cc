#include "rollout/policy_source.h"

#include <poll.h>

#include <chrono>
#include <future>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/signals.h"
#include "weights/import.h"
#include "weights/version_store.h"

namespace april::rollout {
namespace {

constexpr int kMostTries = 20;  // a trainer that publishes faster than a model can be read keeps more versions than one

/// The same as when these weights are published as a version: whoever compares weights need not know where they came from.
uint64_t ContentDigest(const weights::ModelFiles& files, const kernels::Kernels& kernels, kernels::ThreadPool& pool) {
  const auto dtype = kernels.element_bytes == 2 ? weights::DType::kBf16 : weights::DType::kF32;
  return weights::WeightsDigestOf(files, dtype, [&pool](int64_t count, const std::function<void(int64_t)>& task) {
    pool.Run([&](kernels::ThreadPool::Worker& worker) {
      for (int64_t i; (i = worker.NextTask(count)) >= 0;) task(i);
    });
  });
}

class Fixed : public PolicySource {
 public:
  Fixed(std::string path, const kernels::Kernels& kernels, kernels::ThreadPool& pool) : path_(std::move(path)), kernels_(kernels), pool_(pool) {}

  void ReadModel(const std::function<void(const std::string& path)>& read) override { read(path_); }
  LoadedPolicy First() override {
    const auto files = weights::ModelFiles::Open(path_);
    return {model::Policy::Load(*files, kernels_, pool_), {0, ContentDigest(*files, kernels_, pool_)}};
  }
  std::optional<LoadedPolicy> Newer() override { return std::nullopt; }
  bool Changes() const override { return false; }

 private:
  std::string path_;
  const kernels::Kernels& kernels_;
  kernels::ThreadPool& pool_;
};

class Watched : public PolicySource {
 public:
  Watched(std::string directory, const kernels::Kernels& kernels, kernels::ThreadPool& pool, int64_t timeout_ms)
      : directory_(std::move(directory)), kernels_(kernels), pool_(pool), timeout_ms_(timeout_ms), store_(directory_) {}

  ~Watched() override {
    if (loading_.valid()) loading_.wait();
  }

  void ReadModel(const std::function<void(const std::string& path)>& read) override {
    WithLatest([&](uint64_t version) { read(store_.Open(version).directory); });
  }

  LoadedPolicy First() override {
    return WithLatest([this](uint64_t version) {
      newest_ = version;
      return Load(version);
    });
  }

  std::optional<LoadedPolicy> Newer() override {
    if (loading_.valid()) {
      if (loading_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return std::nullopt;
      try {
        return loading_.get();
      } catch (const Error&) {
        if (store_.LatestVersion() == newest_) throw;
      }
    }
    const std::optional<uint64_t> latest = store_.LatestVersion();
    if (!latest || *latest == newest_) return std::nullopt;
    newest_ = *latest;
    loading_ = std::async(std::launch::async, [this, version = newest_] { return Load(version); });
    return std::nullopt;
  }

  bool Changes() const override { return true; }

 private:
  /// What `read` makes of the latest version; of a newer one when it failed and LATEST has moved on, for then its files may just have been removed.
  template <typename Read>
  std::invoke_result_t<Read, uint64_t> WithLatest(Read read) {
    for (int tries = 1;; ++tries) {
      const uint64_t version = WaitForVersion();
      try {
        return read(version);
      } catch (const Error&) {
        if (tries == kMostTries || store_.LatestVersion() == version) throw;
      }
    }
  }

  uint64_t WaitForVersion() {
    const int64_t deadline_ns = SystemClock().MonotonicNs() + timeout_ms_ * 1'000'000;
    std::optional<uint64_t> latest = store_.LatestVersion();
    if (!latest)
      log::Info("waiting for the first version in " + directory_ + "; this publishes one: weight-sync publish --model MODEL --to " + directory_);
    while (!latest) {
      if (StopRequested()) throw Error::Stopped("stopped while waiting for the first version in " + directory_);
      if (SystemClock().MonotonicNs() > deadline_ns) {
        throw Error::NotReady(directory_ + " has no published version", "publish one: weight-sync publish, or grpo-step --publish " + directory_);
      }
      pollfd stop{StopFd(), POLLIN, 0};
      ::poll(&stop, 1, 50);
      latest = store_.LatestVersion();
    }
    return *latest;
  }

  /// Of the two policies that were read last, the engine has let go of the older one when it took up the newer: its memory is the next one's.
  LoadedPolicy Load(uint64_t version) {
    weights::VersionStore store(directory_);
    const weights::Version found = store.Open(version);
    const auto files = weights::ModelFiles::Open(found.directory);
    auto policy = model::Policy::Load(*files, kernels_, pool_, std::exchange(older_, nullptr));
    older_ = std::exchange(newer_, policy);
    return {std::move(policy), {found.manifest.version, found.manifest.digest}};
  }

  std::string directory_;
  const kernels::Kernels& kernels_;
  kernels::ThreadPool& pool_;
  int64_t timeout_ms_;
  weights::VersionStore store_;
  uint64_t newest_ = 0;  // taken up, or being read
  std::shared_ptr<const model::Policy> older_, newer_;
  std::future<LoadedPolicy> loading_;
};

}  // namespace

std::unique_ptr<PolicySource> FixedPolicy(const std::string& path, const kernels::Kernels& kernels, kernels::ThreadPool& pool) {
  return std::make_unique<Fixed>(path, kernels, pool);
}

std::unique_ptr<PolicySource> WatchVersions(const std::string& directory, const kernels::Kernels& kernels, kernels::ThreadPool& pool,
                                            int64_t timeout_ms) {
  return std::make_unique<Watched>(directory, kernels, pool, timeout_ms);
}

}  // namespace april::rollout
