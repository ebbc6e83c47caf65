// Checkpoints: what is written reads back, what is not whole is passed over, a failed write leaves the older ones.
#include "grpo/checkpoint.h"

#include <catch2/catch.hpp>

#include "../weights/faulty_files.h"
#include "base/error.h"
#include "fixtures.h"
#include "kernels/thread_pool.h"
#include "weights/model_files.h"

using namespace april;
using namespace april::grpo;

namespace {

struct CheckpointRig {
  CheckpointRig() : pool(1), state(model::Config::FromJson(TinyConfig())) {
    WriteTinyModel(scratch / "model");
    state.LoadModel(*weights::ModelFiles::Open(scratch / "model"), 0, pool);
  }
  std::string Write(CheckpointStore& store, int64_t step) {
    state.step = step;
    state.version = static_cast<uint64_t>(step);
    state.optimizer_steps = step - 1;
    state.FirstMoment(1)[0] = static_cast<float>(step);
    record::Step last;
    last.claim = "c" + std::to_string(step);
    last.step = step - 1;
    last.outcomes = {{7, "trained"}, {0xffffffffffffffffu, "excluded:reward-error"}};
    return store.Write(state, {"run", "method", 42, 99, {last}}, {scratch / "model/config.json"}, *ranks);
  }
  CheckpointStore Store(int64_t keep = 2) { return {SystemFiles(), scratch / "checkpoints", keep}; }

  ScratchDirectory scratch;
  kernels::ThreadPool pool;
  std::unique_ptr<ranks::Ranks> ranks = ranks::Ranks::Alone();
  State state;
};

void Cut(const std::string& path) { std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1); }

}  // namespace

TEST_CASE("a checkpoint reads back with every bit") {
  CheckpointRig rig;
  auto store = rig.Store();
  const std::string name = rig.Write(store, 8);
  CHECK(name == "step-00000008");
  CHECK(store.FindNewest() == name);
  State back(rig.state.config());
  const CheckpointInfo info = store.Read(name, &back, rig.pool, *rig.ranks);
  CHECK(back.step == 8);
  CHECK(back.version == 8);
  CHECK(back.optimizer_steps == 7);
  CHECK(info.run == "run");
  CHECK(info.tokenizer == 42);
  CHECK(info.weights == 99);
  REQUIRE(info.last_steps.size() == 1);
  CHECK(info.last_steps[0].checkpoint == name);
  CHECK(info.last_steps[0].outcomes[1] == std::pair<uint64_t, std::string>{0xffffffffffffffffu, "excluded:reward-error"});
  for (size_t p = 0; p < back.parameters().size(); ++p) {
    CHECK(std::equal(back.Master(p).begin(), back.Master(p).end(), rig.state.Master(p).begin()));
    CHECK(std::equal(back.Rounded(p).begin(), back.Rounded(p).end(), rig.state.Rounded(p).begin()));
  }
  CHECK(back.FirstMoment(1)[0] == 8.0f);
  // And it is a model directory by itself.
  const auto model = weights::ModelFiles::Open(store.PathOf(name));
  CHECK(model->tensors().size() == back.parameters().size());
}

TEST_CASE("what is not whole is passed over") {
  CheckpointRig rig;
  auto store = rig.Store(3);
  rig.Write(store, 4);
  const std::string good = rig.Write(store, 5), newest = rig.Write(store, 6);
  const std::string path = store.PathOf(newest) + "/";
  SECTION("without a manifest") { std::filesystem::remove(path + "manifest.json"); }
  SECTION("the optimiser's file cut short") { Cut(path + "optimizer.safetensors"); }
  SECTION("the model's file cut short") { Cut(path + "model.safetensors"); }
  SECTION("a file missing") { std::filesystem::remove(path + "steps.json"); }
  SECTION("a manifest cut short") { std::filesystem::resize_file(path + "manifest.json", 40); }
  SECTION("one bit flipped") {
    std::string bytes = ReadFile(SystemFiles(), path + "optimizer.safetensors");
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    ReplaceFile(SystemFiles(), path + "optimizer.safetensors", bytes, false);
  }
  CHECK(store.FindNewest() == good);
  CHECK(!std::filesystem::exists(path + "manifest.json"));  // no reader takes it for whole
  CHECK(rig.Write(store, 6) == newest);                     // and it can be written again
  CHECK(store.FindNewest() == newest);
}

TEST_CASE("a checkpoint of a later major version is refused, never passed over") {
  CheckpointRig rig;
  auto store = rig.Store();
  const std::string name = rig.Write(store, 4), path = store.PathOf(name) + "/manifest.json";
  Json manifest = Json::parse(ReadFile(SystemFiles(), path));
  manifest["format_version"] = {2, 0};
  ReplaceFile(SystemFiles(), path, manifest.dump(), false);
  CHECK_THROWS_WITH(store.FindNewest(), Catch::Contains("version 2"));
}

TEST_CASE("only the newest whole checkpoints are kept") {
  CheckpointRig rig;
  auto store = rig.Store(2);
  for (int64_t step = 1; step <= 4; ++step) rig.Write(store, step);
  CHECK(!std::filesystem::exists(store.PathOf("step-00000001")));
  CHECK(!std::filesystem::exists(store.PathOf("step-00000002")));
  CHECK(std::filesystem::exists(store.PathOf("step-00000003") + "/manifest.json"));
  CHECK(std::filesystem::exists(store.PathOf("step-00000004") + "/manifest.json"));
}

TEST_CASE("a write that fails leaves the older checkpoint whole and no rubbish") {
  CheckpointRig rig;
  auto store = rig.Store();
  const std::string good = rig.Write(store, 4);
  rig.state.step = 5;
  CHECK_THROWS_AS(store.Write(rig.state, {}, {rig.scratch / "no-such-sidecar"}, *rig.ranks), Error);
  CHECK(store.FindNewest() == good);
  CHECK(std::filesystem::is_empty(store.PathOf("step-00000005")));
}

TEST_CASE("wherever a write fails, the newest whole checkpoint is the old one or the new one, and it can be written again") {
  CheckpointRig rig;
  auto store = rig.Store(2);
  const std::string good = rig.Write(store, 4);
  int failures = 0, was_whole = 0;
  for (int fail_at = 1;; ++fail_at) {
    weights::test::FaultyFiles files(fail_at);
    CheckpointStore faulty(files, rig.scratch / "checkpoints", 2);
    INFO("operation " << fail_at);
    try {
      rig.Write(faulty, 5);
      break;
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kRuntime);
    }
    ++failures;
    const auto newest = store.FindNewest();
    REQUIRE(newest);
    was_whole += *newest != good;
    REQUIRE((*newest == good || *newest == "step-00000005"));
    CHECK(rig.Write(store, 5) == "step-00000005");
    CHECK(store.FindNewest() == "step-00000005");
    std::filesystem::remove_all(store.PathOf("step-00000005"));
  }
  CHECK(failures > 10);
  CHECK(was_whole < failures);
}

TEST_CASE("a checkpoint of another course over an old one has nothing of it, and what no manifest lists is not read") {
  CheckpointRig rig;
  auto store = rig.Store();
  record::Step last;
  CheckpointInfo info{"run", "method", 42, 99, {last}};
  info.reference = rig.state.RoundedViews();
  rig.state.step = 5;
  const std::string name = store.Write(rig.state, info, {rig.scratch / "model/config.json"}, *rig.ranks), path = store.PathOf(name);
  CHECK(store.ReferenceModel(name) == path + "/reference");
  std::filesystem::rename(path + "/manifest.json", path + "/manifest.json.rewound");
  CHECK(rig.Write(store, 5) == name);
  CHECK(!std::filesystem::exists(path + "/reference"));
  CHECK(!std::filesystem::exists(path + "/manifest.json.rewound"));
  std::filesystem::create_directory(path + "/reference");
  CHECK(!store.ReferenceModel(name));
}

TEST_CASE("a copy that has the name of another step is set aside") {
  CheckpointRig rig;
  auto store = rig.Store();
  const std::string good = rig.Write(store, 4), copy = store.PathOf("step-00000007");
  std::filesystem::copy(store.PathOf(good), copy, std::filesystem::copy_options::recursive);
  CHECK(store.WeightsOf("step-00000007") == std::nullopt);
  CHECK(store.FindAtOrBefore(7) == good);
  CHECK(!store.has_set_aside());
  CHECK(store.FindNewest() == good);
  CHECK(store.has_set_aside());
  CHECK(std::filesystem::exists(copy + "/manifest.json.damaged"));
}

TEST_CASE("only names of a step are checkpoints, and steps are compared as numbers") {
  CheckpointRig rig;
  auto store = rig.Store(1);
  const auto copy = [&](const std::string& name, const std::string& as) {
    std::filesystem::copy(store.PathOf(name), store.PathOf(as), std::filesystem::copy_options::recursive);
  };
  copy(rig.Write(store, 10), "step-00000010-good");
  for (const char* other : {"step-", "step--5", "step-1x", "step-00000099.bak"}) copy("step-00000010-good", other);
  rig.Write(store, 11);
  CHECK(store.FindNewest() == "step-00000011");
  CHECK(store.FindAtOrBefore(10) == std::nullopt);
  for (const char* other : {"step-00000010-good", "step-", "step--5", "step-1x", "step-00000099.bak"}) {
    CHECK(std::filesystem::exists(store.PathOf(other) + "/manifest.json"));
  }
  CHECK(rig.Write(store, 99'999'999) == "step-99999999");
  CHECK(rig.Write(store, 100'000'000) == "step-100000000");
  CHECK(store.FindNewest() == "step-100000000");
  CHECK(store.FindAtOrBefore(99'999'999) == std::nullopt);  // pruned: it was the older one
}

TEST_CASE("an old checkpoint that cannot be removed whole costs only a warning") {
  CheckpointRig rig;
  auto store = rig.Store(1);
  const std::string old = store.PathOf(rig.Write(store, 4));
  std::filesystem::create_directories(old + "/evaluation/of-mine");
  const std::string good = rig.Write(store, 5);
  CHECK(store.FindNewest() == good);
  CHECK(std::filesystem::exists(old + "/evaluation/of-mine"));
  for (const char* file : {"manifest.json", "model.safetensors", "optimizer.safetensors"}) CHECK(!std::filesystem::exists(old + "/" + file));
  auto roomy = rig.Store(2);
  CHECK(rig.Write(roomy, 4) == "step-00000004");  // and what is foreign does not keep one from being written there
  CHECK(roomy.FindAtOrBefore(4) == "step-00000004");
}

TEST_CASE("a manifest that lacks a key is damaged data, whoever asks") {
  CheckpointRig rig;
  auto store = rig.Store();
  const std::string name = rig.Write(store, 4), path = store.PathOf(name) + "/manifest.json";
  const std::string key = GENERATE("step", "version", "weights", "optimizer_steps", "run", "tokenizer", "method");
  Json manifest = Json::parse(ReadFile(SystemFiles(), path));
  manifest.erase(key);
  ReplaceFile(SystemFiles(), path, manifest.dump(), false);
  INFO(key);
  const auto kind = [](const auto& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::kUsage;
  };
  State back(rig.state.config());
  CHECK(kind([&] { store.Read(name, &back, rig.pool, *rig.ranks); }) == ErrorKind::kData);
  if (key == "weights") CHECK(kind([&] { store.WeightsOf(name); }) == ErrorKind::kData);
}
