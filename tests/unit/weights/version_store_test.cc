#include "weights/version_store.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>

#include "base/bytes.h"
#include "base/digest.h"
#include "faulty_files.h"
#include "fixtures.h"
#include "weights/model_files.h"
#include "weights/safetensors.h"

namespace april::weights {
namespace {

using test::ErrorOf;
using test::Scratch;

using Tensors = std::vector<std::pair<TensorView, std::string>>;

std::vector<TensorView> Views(const Tensors& tensors) {
  std::vector<TensorView> views;
  for (const auto& [view, data] : tensors) {
    views.push_back(view);
    views.back().data = data.data();
  }
  return views;
}

/// A store with a config file beside it, as a trainer has.
struct Place {
  Scratch scratch;
  std::string config = scratch / "config.json", directory = scratch / "weights";
  Place() { test::WriteText(config, test::TinyConfig({})); }
  Manifest Publish(uint64_t version, uint64_t seed, const PublishOptions& options = {}) {
    return VersionStore(directory).Publish(version, Views(test::TinyTensors({}, seed)), {config}, options);
  }
};

TEST_CASE("a published version is a model directory with the same bits") {
  Place place;
  VersionStore store(place.directory);
  REQUIRE(store.LatestVersion() == std::nullopt);
  REQUIRE(store.Versions().empty());
  const Manifest manifest = place.Publish(12, 1);
  REQUIRE(store.LatestVersion() == 12u);
  const Version version = store.Open(12);
  REQUIRE(version.directory == place.directory + "/v00000012");
  REQUIRE(version.manifest.digest == manifest.digest);
  store.Verify(version);
  const auto files = ModelFiles::Open(version.directory);
  const auto tensors = test::TinyTensors({}, 1);
  REQUIRE(files->tensors().size() == tensors.size());
  for (const auto& [view, data] : tensors) {
    const TensorView* seen = files->Find(view.name);
    REQUIRE(seen);
    REQUIRE(std::string(static_cast<const char*>(seen->data), seen->num_bytes) == data);
  }
}

TEST_CASE("the sample store of format 1.0 stays readable, and is what would be written today") {
  const std::string golden = std::string(APRIL_SOURCE_DIR) + "/formats/golden/v1/weights";
  VersionStore store(golden);
  REQUIRE(store.LatestVersion() == 3u);
  const Version version = store.Open(3);
  store.Verify(version);
  REQUIRE(HexU64(version.manifest.digest) == "3d906c6947b2f279");
  Place place;
  VersionStore written(place.directory);
  written.Publish(3, ModelFiles::Open(version.directory)->tensors(), {version.directory + "/config.json"}, PublishOptions());
  for (const char* name : {"/LATEST", "/v00000003/manifest.json", "/v00000003/model.safetensors"}) {
    REQUIRE(ReadFile(SystemFiles(), golden + name) == ReadFile(SystemFiles(), place.directory + name));
  }
}

TEST_CASE("the digest depends on the tensors alone") {
  Place place;
  const uint64_t digest = place.Publish(1, 1).digest;
  REQUIRE(place.Publish(2, 1).digest == digest);
  REQUIRE(place.Publish(3, 2).digest != digest);
  auto tensors = test::TinyTensors({}, 1);
  std::reverse(tensors.begin(), tensors.end());
  VersionStore store(place.directory);
  REQUIRE(store.Publish(4, Views(tensors), {}, false, 9).digest == digest);  // another order, no sidecar
  tensors.begin()->second[7] ^= 1;
  REQUIRE(store.Publish(5, Views(tensors), {}, false, 9).digest != digest);
}

TEST_CASE("the newest versions stay, and a mapping outlives its version") {
  Place place;
  PublishOptions options;
  options.keep = 2;
  place.Publish(0, 1, options);
  const SafetensorsFile mapped(place.directory + "/v00000000/model.safetensors");
  for (uint64_t version = 1; version < 5; ++version) place.Publish(version, version, options);
  REQUIRE(VersionStore(place.directory).Versions() == std::vector<uint64_t>{3, 4});
  REQUIRE_FALSE(std::filesystem::exists(place.directory + "/v00000000"));
  const auto tensors = test::TinyTensors({}, 1);
  for (const TensorView& view : mapped.tensors()) {
    const auto it = std::find_if(tensors.begin(), tensors.end(), [&](const auto& entry) { return entry.first.name == view.name; });
    REQUIRE(std::memcmp(view.data, it->second.data(), view.num_bytes) == 0);
  }
}

TEST_CASE("the same number again: equal weights are welcome, others are not, unless they supersede") {
  Place place;
  VersionStore store(place.directory);
  for (uint64_t version = 1; version <= 4; ++version) place.Publish(version, version);
  const auto written = std::filesystem::last_write_time(place.directory + "/v00000002/model.safetensors");
  place.Publish(2, 2);
  REQUIRE(std::filesystem::last_write_time(place.directory + "/v00000002/model.safetensors") == written);
  REQUIRE(store.LatestVersion() == 4u);
  const Error error = ErrorOf([&] { place.Publish(2, 9); });
  REQUIRE(error.kind() == ErrorKind::kIncompatible);
  REQUIRE(error.message().find("version 2") != std::string::npos);
  store.Verify(store.Open(2));
  REQUIRE(store.Open(2).manifest.digest == place.Publish(2, 2).digest);

  PublishOptions supersede;
  supersede.supersede = true;
  place.Publish(2, 9, supersede);
  REQUIRE(store.LatestVersion() == 2u);
  REQUIRE(store.Versions() == std::vector<uint64_t>{1, 2});

  // Damage under an unchanged manifest is repaired by publishing the same weights again.
  std::filesystem::resize_file(place.directory + "/v00000002/model.safetensors", 100);
  REQUIRE(ErrorOf([&] { store.Verify(store.Open(2)); }).kind() == ErrorKind::kData);
  place.Publish(2, 9);
  store.Verify(store.Open(2));
}

TEST_CASE("a publication that dies at any file operation leaves a whole store with the old or the new version") {
  Place place;
  place.Publish(1, 1);
  PublishOptions options;
  options.keep = 1;
  options.durable = true;
  int operations = 0;
  for (int fail_at = 1;; ++fail_at) {
    INFO("operation " << fail_at);
    test::FaultyFiles faulty(fail_at);
    bool failed = false;
    try {
      VersionStore(place.directory, faulty)
          .Publish(static_cast<uint64_t>(1 + fail_at), Views(test::TinyTensors({}, static_cast<uint64_t>(fail_at))), {place.config}, options);
    } catch (const Error& error) {
      failed = true;
      REQUIRE(error.kind() == ErrorKind::kRuntime);
    }
    VersionStore store(place.directory);
    const auto latest = store.LatestVersion();
    REQUIRE(latest.has_value());
    store.Verify(store.Open(*latest));
    for (const uint64_t version : store.Versions()) store.Verify(store.Open(version));
    if (!failed) break;
    operations = fail_at;
  }
  REQUIRE(operations > 15);
  for (const auto& entry : std::filesystem::directory_iterator(place.directory)) {
    REQUIRE(entry.path().filename().string().find(".partial") == std::string::npos);  // the last, whole publication swept up
  }
}

TEST_CASE("a second writer is refused while one writes") {
  Place place;
  VersionStore store(place.directory);
  const auto lock = store.LockForWriting();
  const Error error = ErrorOf([&] { place.Publish(1, 1); });
  REQUIRE(error.kind() == ErrorKind::kRuntime);
  REQUIRE(error.message().find("another process") != std::string::npos);
}

TEST_CASE("a buffer, a checkpoint or a single version is no version store") {
  Place place;
  place.Publish(3, 1);
  const auto refusal = [](const std::string& directory) { return ErrorOf([&] { VersionStore store(directory); }); };
  CHECK(refusal(place.directory + "/v00000003").message() == place.directory + "/v00000003 is one version of a store, not a version store");
  const std::string other = place.scratch / "other";
  SystemFiles().MakeDirectory(other);
  for (const auto& [format, kind] : {std::pair{"april-buffer", "a buffer"}, std::pair{"april-checkpoint", "a checkpoint"}}) {
    test::WriteText(other + "/manifest.json", std::string(R"({"format":")") + format + R"(","version":[1,0]})");
    const Error error = refusal(other);
    CHECK(error.kind() == ErrorKind::kUsage);
    CHECK(error.message() == other + " is " + kind + ", not a version store");
  }
  for (const char* unknown : {"cut", "[]", R"({"format":"else"})", R"({"format":7})"}) {
    test::WriteText(other + "/manifest.json", unknown);
    CHECK(VersionStore(other).LatestVersion() == std::nullopt);
  }
}

TEST_CASE("damage is found and named") {
  Place place;
  place.Publish(3, 1);
  VersionStore store(place.directory);
  const std::string weights = place.directory + "/v00000003/model.safetensors", manifest = place.directory + "/v00000003/manifest.json";
  const std::string good = ReadFile(SystemFiles(), weights), good_manifest = ReadFile(SystemFiles(), manifest);
  std::string bad = good;
  bad[bad.size() - 10] ^= 4;
  test::WriteText(weights, bad);
  const Error flipped = ErrorOf([&] { store.Verify(store.Open(3)); });
  REQUIRE(flipped.kind() == ErrorKind::kData);
  REQUIRE(flipped.message().find("model.safetensors") != std::string::npos);
  test::WriteText(weights, good.substr(0, good.size() - 1));
  REQUIRE(ErrorOf([&] { store.Verify(store.Open(3)); }).message().find("bytes, the manifest says") != std::string::npos);
  test::WriteText(weights, good);

  std::filesystem::remove(weights);
  const Error missing = ErrorOf([&] { store.Verify(store.Open(3)); });
  REQUIRE(missing.kind() == ErrorKind::kData);
  REQUIRE(missing.message().find("model.safetensors is missing") != std::string::npos);
  REQUIRE(ErrorOf([&] { VerifyTensors(place.directory + "/v00000003", store.Open(3).manifest); }).kind() == ErrorKind::kData);

  // A manifest that claims the damaged file's digest: the tensor's digest still tells.
  test::WriteText(weights, bad);
  std::string lying = good_manifest;
  const std::string old_digest = HexU64(Digest(good)), new_digest = HexU64(Digest(bad));
  lying.replace(lying.find(old_digest), 16, new_digest);
  test::WriteText(manifest, lying);
  REQUIRE(ErrorOf([&] { store.Verify(store.Open(3)); }).message().find("tensor ") != std::string::npos);
  test::WriteText(weights, good);

  const auto refused = [&](const std::string& from, const std::string& to, ErrorKind kind) {
    std::string text = good_manifest;
    REQUIRE(text.find(from) != std::string::npos);
    text.replace(text.find(from), from.size(), to);
    test::WriteText(manifest, text);
    const Error error = ErrorOf([&] { store.Open(3); });
    INFO(error.message());
    CHECK(error.kind() == kind);
    CHECK(error.message().find(manifest) != std::string::npos);
  };
  refused("\"version\": 3", "\"version\": 4", ErrorKind::kData);
  refused("april-weights", "other", ErrorKind::kData);
  refused("\"format_version\": [\n  1,", "\"format_version\": [\n  2,", ErrorKind::kIncompatible);
  refused("\"base\": null", "\"base\": 2", ErrorKind::kIncompatible);
  refused("config.json", "../config.json", ErrorKind::kData);
  refused("config.json", "model.safetensors", ErrorKind::kData);
  refused("\"BF16\"", "\"F16\"", ErrorKind::kData);
  refused("\"shape\"", "\"form\"", ErrorKind::kData);
  refused("{", "[", ErrorKind::kData);
  test::WriteText(place.directory + "/LATEST", "7");
  REQUIRE(ErrorOf([&] { store.LatestVersion(); }).kind() == ErrorKind::kData);
  REQUIRE(ErrorOf([&] { store.Open(7); }).kind() == ErrorKind::kRuntime);
}

}  // namespace
}  // namespace april::weights
