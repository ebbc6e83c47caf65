#include "weights/model_files.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/file.h"
#include "fixtures.h"
#include "weights/convert.h"
#include "weights/import.h"
#include "weights/version_store.h"

namespace april::weights {
namespace {

using test::ErrorOf;
using test::Scratch;
using test::TinyShape;

/// The stored rows of head-wise interleaved q or k, in the original order.
template <typename T>
std::vector<T> Unpermuted(const std::vector<T>& rows, int64_t num_rows, int64_t heads) {
  const auto columns = static_cast<int64_t>(rows.size()) / num_rows, head_rows = num_rows / heads;
  std::vector<T> out(rows.size());
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t row = 0; row < head_rows; ++row) {  // row `row` of the file goes to half row % 2, place row / 2
      const int64_t original = head * head_rows + (row % 2) * head_rows / 2 + row / 2;
      for (int64_t column = 0; column < columns; ++column) {
        out[static_cast<size_t>(original * columns + column)] = rows[static_cast<size_t>((head * head_rows + row) * columns + column)];
      }
    }
  }
  return out;
}

TEST_CASE("a GGUF model of every type reads as its stored bytes mean") {
  Scratch scratch;
  const TinyShape shape;
  for (const std::string architecture : {"llama", "qwen2", "qwen3"}) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1}) {
      INFO(architecture << " " << Name(dtype));
      const std::string path = scratch / "model.gguf";
      test::WriteText(path, test::TinyGguf(architecture, dtype, shape, 7).Bytes());
      const auto files = ModelFiles::Open(path);
      REQUIRE(files->config()["num_key_value_heads"] == 2);
      REQUIRE(files->config()["tie_word_embeddings"] == false);
      REQUIRE(files->config()["head_dim"] == 8);
      const auto read = [&](const std::string& name, std::vector<int64_t> dims) {
        std::vector<float> out(static_cast<size_t>(dims[0] * dims[1]));
        files->Read(name, dims, DType::kF32, out.data());
        return out;
      };
      // The same stream of random bytes as TinyGguf drew: embedding, then layer 0's q and k follow in file order.
      std::mt19937_64 rng(7);
      const auto floats = [](const std::vector<double>& values) { return std::vector<float>(values.begin(), values.end()); };
      const auto embedding = floats(test::Meaning(dtype, test::RandomStored(dtype, 64 * 32, rng)));
      test::RandomStored(DType::kF32, 32, rng);
      const auto q = floats(test::Meaning(dtype, test::RandomStored(dtype, 32 * 32, rng)));
      const auto k = floats(test::Meaning(dtype, test::RandomStored(dtype, 16 * 32, rng)));
      REQUIRE(read("model.embed_tokens.weight", {64, 32}) == embedding);
      const bool permuted = architecture == "llama";
      REQUIRE(read("model.layers.0.self_attn.q_proj.weight", {32, 32}) == (permuted ? Unpermuted(q, 32, 4) : q));
      REQUIRE(read("model.layers.0.self_attn.k_proj.weight", {16, 32}) == (permuted ? Unpermuted(k, 16, 2) : k));
      REQUIRE((files->Find("model.layers.0.self_attn.q_proj.weight")->data == nullptr) == permuted);
      REQUIRE((files->Find("model.layers.1.self_attn.q_proj.bias") != nullptr) == (architecture == "qwen2"));
      REQUIRE((files->Find("model.layers.1.self_attn.k_norm.weight") != nullptr) == (architecture == "qwen3"));
    }
  }
}

TEST_CASE("a sharded directory reads as the single file does, with and without its index") {
  Scratch scratch;
  const TinyShape shape;
  test::WriteTinyDirectory(scratch / "one", shape, 3);
  const auto tensors = test::TinyTensors(shape, 3);
  std::filesystem::create_directories(scratch / "two");
  test::WriteText(scratch / "two/config.json", test::TinyConfig(shape));
  const auto middle = tensors.begin() + static_cast<int64_t>(tensors.size() / 2);
  test::WriteText(scratch / "two/model-00001-of-00002.safetensors", test::SafetensorsBytes({tensors.begin(), middle}));
  test::WriteText(scratch / "two/model-00002-of-00002.safetensors", test::SafetensorsBytes({middle, tensors.end()}));
  const auto one = ModelFiles::Open(scratch / "one");
  for (const bool indexed : {false, true}) {
    if (indexed) {  // an index that is wrong about one tensor's shard
      test::WriteText(scratch / "two/model.safetensors.index.json",
                      R"({"weight_map":{"a":"model-00001-of-00002.safetensors","model.norm.weight":"model-00002-of-00002.safetensors"}})");
    }
    const auto two = ModelFiles::Open(scratch / "two");
    REQUIRE(one->tensors().size() == two->tensors().size());
    for (size_t i = 0; i < one->tensors().size(); ++i) {
      const TensorView &a = one->tensors()[i], &b = two->tensors()[i];
      REQUIRE(a.name == b.name);
      REQUIRE(a.num_bytes == b.num_bytes);
      REQUIRE(std::memcmp(a.data, b.data, a.num_bytes) == 0);
    }
  }
  test::WriteText(scratch / "two/model.safetensors.index.json", R"({"weight_map":{"a":"model-00003-of-00003.safetensors"}})");
  const Error error = ErrorOf([&] { ModelFiles::Open(scratch / "two"); });
  REQUIRE(error.kind() == ErrorKind::kData);
  REQUIRE(error.message().find("model-00003-of-00003.safetensors, which is missing") != std::string::npos);
}

TEST_CASE("broken models are refused with the reason") {
  Scratch scratch;
  const TinyShape shape;
  const auto refused = [&](const std::string& path, ErrorKind kind, const std::string& part) {
    const Error error = ErrorOf([&] { ModelFiles::Open(path); });
    INFO(error.message());
    CHECK(error.kind() == kind);
    CHECK(error.message().find(part) != std::string::npos);
    CHECK(error.message().find(path) != std::string::npos);
  };
  const std::string path = scratch / "model";
  auto tensors = test::TinyTensors(shape, 1);
  const auto write = [&](const std::string& config) {
    std::filesystem::create_directories(path);
    test::WriteText(path + "/config.json", config);
    test::WriteText(path + "/model.safetensors", test::SafetensorsBytes(tensors));
  };
  refused(path, ErrorKind::kRuntime, "no such file");
  std::filesystem::create_directories(path);
  refused(path, ErrorKind::kRuntime, "is no model");
  test::WriteText(path + "/config.json", test::TinyConfig(shape));
  refused(path, ErrorKind::kRuntime, "no safetensors file");
  write("{\"architectures\": [\"MambaForCausalLM\"]}");
  refused(path, ErrorKind::kIncompatible, "MambaForCausalLM");
  write("{\"architectures\": [\"LlamaForCausalLM\"]}");
  refused(path, ErrorKind::kIncompatible, "hidden_size");
  write("{\"architectures\": ");
  refused(path, ErrorKind::kData, "JSON");
  TinyShape wider = shape;
  wider.intermediate = 96;
  write(test::TinyConfig(wider));
  refused(path, ErrorKind::kData, "mlp.gate_proj.weight has shape [64, 32], expected [96, 32]");
  tensors.erase(tensors.begin() + 3);
  write(test::TinyConfig(shape));
  refused(path, ErrorKind::kData, "tensor model.layers.0.self_attn.k_proj.weight is missing");

  const std::string gguf = scratch / "model.gguf";
  test::WriteText(gguf, "not a model");
  refused(gguf, ErrorKind::kData, "not a GGUF file");
  test::GgufBuilder other;
  other.Text("general.architecture", "mamba");
  test::WriteText(gguf, other.Bytes());
  refused(gguf, ErrorKind::kIncompatible, "\"mamba\"");
  TinyShape deeper = shape;
  test::GgufBuilder builder = test::TinyGguf("llama", DType::kF16, deeper, 1);
  test::WriteText(gguf, builder.Bytes(4));
  refused(gguf, ErrorKind::kIncompatible, "version 4");
  builder.Tensor("blk.0.attn_sinks.weight", {4}, 0, std::string(16, '\0'));
  test::WriteText(gguf, builder.Bytes());
  refused(gguf, ErrorKind::kIncompatible, "attn_sinks");
  test::GgufBuilder packed = test::TinyGguf("llama", DType::kI32, shape, 1);
  test::WriteText(gguf, packed.Bytes());
  refused(gguf, ErrorKind::kIncompatible, "type number 26");
}

TEST_CASE("fixed weights have the digest of the version that they are published as, whatever file they are in") {
  const Scratch scratch;
  const auto one_by_one = [](int64_t count, const std::function<void(int64_t)>& task) {
    for (int64_t i = count - 1; i >= 0; --i) task(i);
  };
  for (const DType dtype : {DType::kQ4_1, DType::kF16, DType::kBf16, DType::kF32}) {
    test::WriteText(scratch / "model.gguf", test::TinyGguf("llama", dtype, {}, 3).Bytes());
    const auto model = ModelFiles::Open(scratch / "model.gguf");
    VersionStore store(scratch / Name(dtype));
    const uint64_t published = Import(*model, {}, &store, 0, {}).digest;
    INFO(Name(dtype));
    CHECK(WeightsDigestOf(*model, DType::kBf16, one_by_one) == published);
    // A network in f32 does not round them, so they are other weights. (The tiny models have norms in f32.)
    CHECK(WeightsDigestOf(*model, DType::kF32, one_by_one) != published);
    const auto again = ModelFiles::Open(store.Open(0).directory);
    CHECK(WeightsDigestOf(*again, DType::kBf16, one_by_one) == published);
    CHECK(WeightsDigestOf(*again, DType::kF32, one_by_one) == published);
  }
}

TEST_CASE("Llama 3's rotation scaling is recovered from its divisors") {
  Scratch scratch;
  const TinyShape shape;
  test::GgufBuilder builder = test::TinyGguf("llama", DType::kF16, shape, 1);
  // head_dim 8, base 10000: wavelengths 6.28, 62.8, 628, 6283; short ones keep their frequency, those beyond 8192 would get the whole factor.
  std::string divisors;
  const double smooth = (8192 / (2 * 3.14159265358979323846 * 1000) - 1) / 3;
  for (const double value : {1.0, 1.0, 1.0, 1 / ((1 - smooth) / 32 + smooth)}) AppendLe<float>(divisors, static_cast<float>(value));
  builder.Tensor("rope_freqs.weight", {4}, 0, divisors);
  test::WriteText(scratch / "a.gguf", builder.Bytes());
  // The largest divisor is not the factor here (no wavelength is long enough), so the formula does not hold and the file is refused rather than
  // guessed at.
  REQUIRE(ErrorOf([&] { ModelFiles::Open(scratch / "a.gguf"); }).kind() == ErrorKind::kIncompatible);

  test::GgufBuilder longer;
  longer = test::TinyGguf("llama", DType::kF16, {.vocab = 64, .hidden = 64, .layers = 1, .heads = 4, .kv_heads = 2, .intermediate = 64}, 1);
  divisors.clear();
  for (int i = 0; i < 8; ++i) {
    const double wavelength = 2 * 3.14159265358979323846 * std::pow(10000.0, i / 8.0), s = (8192 / wavelength - 1) / 3;
    AppendLe<float>(divisors, static_cast<float>(wavelength < 2048 ? 1 : wavelength > 8192 ? 8 : 1 / ((1 - s) / 8 + s)));
  }
  longer.Tensor("rope_freqs.weight", {8}, 0, divisors);
  test::WriteText(scratch / "b.gguf", longer.Bytes());
  const auto files = ModelFiles::Open(scratch / "b.gguf");
  REQUIRE(files->config()["rope_scaling"]["rope_type"] == "llama3");
  REQUIRE(files->config()["rope_scaling"]["factor"] == 8.0);
}

TEST_CASE("YaRN's keys become config.json's, and those with another meaning are refused") {
  Scratch scratch;
  const auto open = [&](const char* more, float value) {
    test::GgufBuilder builder = test::TinyGguf("qwen2", DType::kF16, {}, 1);
    builder.Text("qwen2.rope.scaling.type", "yarn");
    builder.Float32("qwen2.rope.scaling.factor", 4);
    builder.Uint32("qwen2.rope.scaling.original_context_length", 64);
    builder.Float32(std::string("qwen2.rope.scaling.") + more, value);
    test::WriteText(scratch / "a.gguf", builder.Bytes());
    return ModelFiles::Open(scratch / "a.gguf")->config()["rope_scaling"];
  };
  const Json scaling = open("yarn_beta_fast", 16);
  REQUIRE(scaling == Json{{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}, {"beta_fast", 16.0}});
  REQUIRE(open("yarn_beta_slow", 2)["beta_slow"] == 2.0);
  REQUIRE(ErrorOf([&] { open("attn_factor", 2); }).kind() == ErrorKind::kIncompatible);
}

// Reference: tests/parity/gguf_weights.json, made by gguf_weights.py beside it with transformers.
TEST_CASE("the real model's GGUF reads as transformers reads it, bit for bit", "[model]") {
  const char* model = std::getenv("APRIL_MODEL");
  if (!model) {
    WARN("set APRIL_MODEL to the model of pipelines/get-model.sh to run this");
    return;
  }
  const Json reference = Json::parse(ReadFile(SystemFiles(), std::string(APRIL_SOURCE_DIR) + "/tests/parity/gguf_weights.json"));
  std::vector<std::string> paths = {model};
  if (const char* directory = std::getenv("APRIL_MODEL_HF")) paths.push_back(directory);
  for (const std::string& path : paths) {
    const auto files = ModelFiles::Open(path);
    REQUIRE(files->config()["num_hidden_layers"] == 30);
    REQUIRE(files->config()["tie_word_embeddings"] == true);
    REQUIRE(files->tensors().size() == reference["tensors"].size());
    for (const auto& [name, expected] : reference["tensors"].items()) {
      INFO(path << ": " << name);
      const auto shape = expected[0].get<std::vector<int64_t>>();
      std::vector<uint16_t> seen(static_cast<size_t>(*CheckedElements(shape)));
      files->Read(name, shape, DType::kBf16, seen.data());
      REQUIRE(HexU64(Digest(seen.data(), 2 * seen.size())) == expected[1].get<std::string>());
    }
  }
}

}  // namespace
}  // namespace april::weights
