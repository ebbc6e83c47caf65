#include "weights/transfer.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <thread>

#include "base/digest.h"
#include "faulty_files.h"
#include "fixtures.h"
#include "stream/rpc.h"
#include "weights/import.h"

namespace april::weights {
namespace {

using test::ErrorOf;
using test::Scratch;

/// A server of a store in its own thread; the answers can be spoilt.
class Server {
 public:
  Server(const std::string& directory, const std::string& endpoint, std::function<void(stream::Map&)> spoil = {})
      : store_(directory), transfer_(&store_), rpc_(stream::RpcServer::Bind(endpoint)), thread_([this, spoil] {
          while (!stop_) {
            rpc_->Serve(
                [&](const stream::Map& request) {
                  stream::Map answer = transfer_.Answer(request);
                  if (spoil) spoil(answer);
                  return answer;
                },
                20);
          }
        }) {}
  ~Server() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_ = false;
  VersionStore store_;
  TransferServer transfer_;
  std::unique_ptr<stream::RpcServer> rpc_;
  std::thread thread_;
};

struct Places {
  Scratch scratch;
  std::string from = scratch / "from", to = scratch / "to", endpoint = "zmq+ipc://" + (scratch / "socket");
  Places() {
    test::WriteTinyDirectory(scratch / "model", {.vocab = 64, .hidden = 32, .layers = 40}, 1);
    Publish(3);
  }
  void Publish(uint64_t version, bool supersede = false) {
    VersionStore store(from);
    PublishOptions options;
    options.supersede = supersede;
    Import(*ModelFiles::Open(scratch / "model"), {}, &store, version, options);
  }
  std::string Text(const std::string& path) { return ReadFile(SystemFiles(), path); }
  void RequireEqual(const std::string& version) {
    for (const char* name : {"model.safetensors", "config.json", "manifest.json"}) {
      REQUIRE(Text(from + "/" + version + "/" + name) == Text(to + "/" + version + "/" + name));
    }
  }
  Manifest Fetch(const std::string& source, uint64_t version, FileSystem& files = SystemFiles(), int64_t timeout_ms = 5000) {
    VersionStore store(to, files);
    return weights::Fetch(VersionSource::Open(source, timeout_ms).get(), &store, version, {}, files);
  }
};

TEST_CASE("a version fetched by directory and by socket is the version") {
  Places places;
  for (const bool by_socket : {false, true}) {
    std::filesystem::remove_all(places.to);
    const Server server(places.from, places.endpoint);
    places.Fetch(by_socket ? places.endpoint : places.from, 3);
    places.RequireEqual("v00000003");
    VersionStore store(places.to);
    REQUIRE(store.LatestVersion() == 3u);
    store.Verify(store.Open(3));
    REQUIRE_FALSE(std::filesystem::exists(places.to + "/v00000003/manifest.promised"));
  }
}

TEST_CASE("bytes damaged on the way or at the source never become a version, and the next fetch starts clean") {
  Places places;
  for (const bool honest_digest : {false, true}) {  // damaged behind the chunk's digest, or before it
    {
      const Server server(places.from, places.endpoint, [&](stream::Map& answer) {
        stream::Value* data = stream::Find(answer, "data");
        if (!data || data->AsBin().size() < 10000) return;
        std::get<stream::Bin>(data->held()).bytes[5000] ^= 1;
        if (honest_digest) stream::Set(answer, "digest", Digest(data->AsBin()));
      });
      const Error error = ErrorOf([&] { places.Fetch(places.endpoint, 3); });
      INFO(error.message());
      REQUIRE(error.kind() == ErrorKind::kData);
      REQUIRE(error.message().find("model.safetensors") != std::string::npos);
      REQUIRE((error.message().find("bytes 0 on of") != std::string::npos) == !honest_digest);  // seen at once, before anything is written
      REQUIRE(VersionStore(places.to).Versions().empty());
      REQUIRE(VersionStore(places.to).LatestVersion() == std::nullopt);
    }
    const Server server(places.from, places.endpoint);
    places.Fetch(places.endpoint, 3);
    places.RequireEqual("v00000003");
    std::filesystem::remove_all(places.to);
  }
}

TEST_CASE("a server that goes away is a lost peer, one without the version says so") {
  Places places;
  const Error lost = ErrorOf([&] { places.Fetch("zmq+ipc://" + (places.scratch / "nobody"), 3, SystemFiles(), 200); });
  REQUIRE(lost.kind() == ErrorKind::kPeer);
  const Server server(places.from, places.endpoint);
  const Error absent = ErrorOf([&] { places.Fetch(places.endpoint, 4); });
  REQUIRE(absent.kind() == ErrorKind::kRuntime);
  REQUIRE(absent.message().find("no version 4") != std::string::npos);
}

/// Counts the bytes that come from the source.
class CountingSource final : public VersionSource {
 public:
  explicit CountingSource(const std::string& from) : inner_(VersionSource::Open(from, 1000)) {}
  std::optional<uint64_t> LatestVersion() override { return inner_->LatestVersion(); }
  std::string ManifestText(uint64_t version) override { return inner_->ManifestText(version); }
  std::string Chunk(uint64_t version, const std::string& file, uint64_t offset, uint64_t size) override {
    if (fail_after_ && num_chunks_++ >= *fail_after_) throw Error::Peer("gone");
    const std::string bytes = inner_->Chunk(version, file, offset, std::min<uint64_t>(size, 50000));
    num_bytes_ += bytes.size();
    return bytes;
  }
  std::optional<uint64_t> fail_after_;
  uint64_t num_chunks_ = 0, num_bytes_ = 0;

 private:
  std::unique_ptr<VersionSource> inner_;
};

TEST_CASE("an interrupted fetch goes on behind what it has, unless that belongs to other weights") {
  Places places;
  const uint64_t total = VersionStore(places.from).Open(3).manifest.TotalBytes();
  CountingSource source(places.from);
  source.fail_after_ = 6;
  VersionStore store(places.to);
  REQUIRE(ErrorOf([&] { weights::Fetch(&source, &store, 3, {}); }).kind() == ErrorKind::kPeer);
  const uint64_t first = source.num_bytes_;
  REQUIRE(first > 100000);
  REQUIRE(store.Versions().empty());
  source.fail_after_.reset();
  SECTION("the same weights") {
    weights::Fetch(&source, &store, 3, {});
    REQUIRE(source.num_bytes_ == total);
    places.RequireEqual("v00000003");
  }
  SECTION("other weights under the same number") {
    test::WriteTinyDirectory(places.scratch / "model", {.vocab = 64, .hidden = 32, .layers = 40}, 2);
    places.Publish(3, true);
    weights::Fetch(&source, &store, 3, {});
    REQUIRE(source.num_bytes_ == first + total);
    places.RequireEqual("v00000003");
  }
  SECTION("what is there was damaged meanwhile: refused once, then fetched anew") {
    std::string part = places.Text(places.to + "/v00000003.partial/model.safetensors");
    part[20000] ^= 1;
    test::WriteText(places.to + "/v00000003.partial/model.safetensors", part);
    REQUIRE(ErrorOf([&] { weights::Fetch(&source, &store, 3, {}); }).kind() == ErrorKind::kData);
    REQUIRE(store.Versions().empty());
    weights::Fetch(&source, &store, 3, {});
    places.RequireEqual("v00000003");
  }
}

/// A source whose version is removed in the middle of the first copies, because newer ones come.
class PrunedSource final : public VersionSource {
 public:
  PrunedSource(Places* places, int64_t num_times, uint64_t step)
      : places_(places), inner_(VersionSource::Open(places->from, 1000)), num_times_(num_times), step_(step) {}
  std::optional<uint64_t> LatestVersion() override { return inner_->LatestVersion(); }
  std::string ManifestText(uint64_t version) override { return inner_->ManifestText(version); }
  std::string Chunk(uint64_t version, const std::string& file, uint64_t offset, uint64_t size) override {
    if (num_times_-- > 0) {
      if (step_ > 0) places_->Publish(version + step_);
      std::filesystem::remove_all(places_->from + "/" + DirectoryName(version));
    }
    return inner_->Chunk(version, file, offset, size);
  }

 private:
  Places* places_;
  std::unique_ptr<VersionSource> inner_;
  int64_t num_times_;
  uint64_t step_;
};

TEST_CASE("a version that makes room for a newer one while it is copied is no error, one that is just gone is") {
  Places places;
  VersionStore store(places.to);
  PrunedSource overtaken(&places, 2, 1);
  const auto fetched = FetchLatest(&overtaken, &store, std::nullopt, {});
  REQUIRE(fetched);
  REQUIRE(fetched->version == 5);
  REQUIRE(store.LatestVersion() == 5u);
  REQUIRE(store.Versions() == std::vector<uint64_t>{5});
  REQUIRE_FALSE(FetchLatest(&overtaken, &store, 5, {}));
  places.Publish(6);
  PrunedSource broken(&places, 1, 0);
  REQUIRE(ErrorOf([&] { FetchLatest(&broken, &store, 5, {}); }).kind() == ErrorKind::kRuntime);
}

TEST_CASE("a fetch that dies at any file operation can be repeated") {
  Places places;
  places.Publish(4);
  places.Fetch(places.from, 3);
  int operations = 0;
  for (int fail_at = 1;; ++fail_at) {
    INFO("operation " << fail_at);
    test::FaultyFiles faulty(fail_at);
    bool failed = false;
    try {
      places.Fetch(places.from, 4, faulty);
    } catch (const Error& error) {
      failed = true;
      REQUIRE(error.kind() == ErrorKind::kRuntime);
    }
    VersionStore store(places.to);
    for (const uint64_t version : store.Versions()) store.Verify(store.Open(version));
    store.Open(*store.LatestVersion());
    if (!failed) break;
    operations = fail_at;
  }
  REQUIRE(operations > 5);
  places.RequireEqual("v00000004");
}

TEST_CASE("a malicious manifest cannot write outside the version's directory") {
  Places places;
  const std::string manifest = places.from + "/v00000003/manifest.json";
  for (const std::string name : {"../../escaped", "/tmp/escaped", ".hidden", "manifest.promised", "a/b", ""}) {
    std::string text = places.Text(manifest);
    const size_t at = text.find("\"config.json\"");
    test::WriteText(manifest, text.replace(at, 13, "\"" + name + "\""));
    INFO(name);
    REQUIRE(ErrorOf([&] { places.Fetch(places.from, 3); }).kind() == ErrorKind::kData);
    test::WriteText(manifest, text.replace(at, name.size() + 2, "\"config.json\""));
  }
  const Server server(places.from, places.endpoint);
  const auto source = VersionSource::Open(places.endpoint, 2000);
  REQUIRE(ErrorOf([&] { source->Chunk(3, "../LATEST", 0, 10); }).kind() == ErrorKind::kRuntime);
  REQUIRE(ErrorOf([&] { source->Chunk(3, "config.json", 0, 1u << 30); }).kind() == ErrorKind::kUsage);
}

TEST_CASE("imports of the same weights have the same digest, and bf16 in their configuration") {
  Places places;
  Scratch scratch;
  VersionStore store(scratch / "store");
  // The same tensors stored as f32: rounding them gives the bf16 ones back.
  auto tensors = test::TinyTensors({.vocab = 64, .hidden = 32, .layers = 40}, 1);
  for (auto& [view, data] : tensors) {
    std::string wide;
    for (size_t i = 0; i < data.size(); i += 2) wide += std::string("\0\0", 2) + data.substr(i, 2);
    data = wide;
    view.dtype = DType::kF32;
    view.num_bytes = data.size();
  }
  std::filesystem::create_directories(scratch / "wide");
  test::WriteText(scratch / "wide/config.json", test::TinyConfig({.vocab = 64, .hidden = 32, .layers = 40}));
  test::WriteText(scratch / "wide/model.safetensors", test::SafetensorsBytes(tensors));
  const Manifest manifest = Import(*ModelFiles::Open(scratch / "wide"), {}, &store, 0, {});
  REQUIRE(manifest.digest == VersionStore(places.from).Open(3).manifest.digest);
  REQUIRE(ModelFiles::Open(store.Open(0).directory)->config()["torch_dtype"] == "bfloat16");
}

}  // namespace
}  // namespace april::weights
