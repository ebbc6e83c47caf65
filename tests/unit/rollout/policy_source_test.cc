#include "rollout/policy_source.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "../stream/temp_dir.h"
#include "base/error.h"
#include "kernels/kernels.h"
#include "weights/version_store.h"

namespace april::rollout {
namespace {

/// A directory of versions whose only tensor says nothing: enough for what is read beside the weights.
struct Versions {
  test::TempDir scratch;
  std::string directory = scratch.Path("weights");
  kernels::ThreadPool pool{1};
  void Publish(uint64_t version) {
    const uint16_t data[2] = {};
    const weights::TensorView tensor{.name = "t", .dtype = weights::DType::kBf16, .shape = {2}, .data = data, .num_bytes = sizeof data};
    weights::VersionStore(directory).Publish(version, {tensor}, {}, false, 1);
  }
  std::unique_ptr<PolicySource> Watch() { return WatchVersions(directory, kernels::ChooseKernels("portable", kernels::Precision::kBf16), pool, 100); }
};

TEST_CASE("a version that is removed while its model is read gives way to the newer one") {
  Versions versions;
  versions.Publish(1);
  std::vector<std::string> paths;
  versions.Watch()->ReadModel([&](const std::string& path) {
    paths.push_back(path);
    if (paths.size() < 3) versions.Publish(1 + paths.size());
    if (!std::filesystem::exists(path)) throw Error::Runtime("cannot open " + path);
  });
  CHECK(paths == std::vector<std::string>{versions.directory + "/v00000001", versions.directory + "/v00000002", versions.directory + "/v00000003"});
}

TEST_CASE("a model that cannot be read is an error: at once while no newer version comes, in the end while they come and go") {
  Versions versions;
  versions.Publish(1);
  uint64_t tries = 0;
  CHECK_THROWS_WITH(versions.Watch()->ReadModel([&](const std::string&) {
    ++tries;
    throw Error::Data("bad tokenizer");
  }),
                    "bad tokenizer");
  CHECK(tries == 1);
  CHECK_THROWS_WITH(versions.Watch()->ReadModel([&](const std::string&) {
    versions.Publish(1 + tries++);
    throw Error::Data("removed again");
  }),
                    "removed again");
  CHECK(tries < 100);
}

TEST_CASE("no version in time is not ready") {
  Versions versions;
  try {
    versions.Watch()->ReadModel([](const std::string&) {});
    FAIL("it did not wait");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kNotReady);
  }
}

}  // namespace
}  // namespace april::rollout
