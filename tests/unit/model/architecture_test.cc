// Against transformers: every architecture, its rotations and its options, forward and backward, with small random models.
//   Parity  tests/parity/architecture_reference.{py,json}; the weights are made here, from the script's formula.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "model/forward.h"
#include "model/training.h"
#include "row_log_sum_exp.h"
#include "tiny_model.h"
#include "weights/safetensors.h"

namespace april::model {
namespace {

constexpr size_t kPrompt = 40, kResponses[] = {56, 9};
constexpr double kSamplingTemperature = 0.8;

// ---- what the script makes, too ----

std::vector<uint64_t> Bits(const std::string& name, size_t count) {
  uint64_t start = 0xCBF29CE484222325u;
  for (const char c : name) start = (start ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  std::vector<uint64_t> bits;
  for (size_t i = 0; i < count; ++i) bits.push_back(Mix64(start + i * 0x9E3779B97F4A7C15u));
  return bits;
}

std::vector<float> Units(const std::string& name, size_t count) {
  std::vector<float> units;
  for (const uint64_t bits : Bits(name, count)) units.push_back(static_cast<float>(bits >> 56) / 128 - 1);
  return units;
}

std::vector<uint32_t> Tokens(const std::string& name, size_t count, const Config& config) {
  std::vector<uint32_t> tokens;
  for (const uint64_t bits : Bits(name, count)) tokens.push_back(static_cast<uint32_t>(bits % static_cast<uint64_t>(config.vocab)));
  return tokens;
}

std::vector<float> Weights(const std::string& name, size_t count) {
  std::vector<float> values = Units(name, count);
  const bool norm = name.find("norm") != std::string::npos, bias = name.ends_with("bias");
  for (float& value : values) value = norm ? 1 + std::floor(value * 32) / 128 : bias ? value : value / 4;
  return values;
}

// ---- the model as a directory ----

/// A Hugging Face directory, gone at the end: one file of float32, or shards of bfloat16 with an index. The values are the same.
class Directory {
 public:
  Directory(const Json& config, size_t shards) : shards_(shards), tensors_(shards), bytes_(shards) {
    char name[] = "/tmp/april-architecture-XXXXXX";
    path_ = ::mkdtemp(name);
    ReplaceFile(SystemFiles(), JoinPath(path_, "config.json"), config.dump(), false);
    Json map = Json::object();
    size_t next = 0;
    for (const ParameterSpec& spec : Parameters(Config::FromJson(config))) {
      const size_t shard = next++ % shards_;
      Add(spec, shard);
      map[spec.name] = FileName(shard);
    }
    for (size_t shard = 0; shard < shards_; ++shard) Write(shard);
    if (shards_ > 1) ReplaceFile(SystemFiles(), JoinPath(path_, "model.safetensors.index.json"), Json{{"weight_map", map}}.dump(), false);
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string FileName(size_t shard) const {
    if (shards_ == 1) return "model.safetensors";
    return "model-0000" + std::to_string(shard + 1) + "-of-0000" + std::to_string(shards_) + ".safetensors";
  }

  void Add(const ParameterSpec& spec, size_t shard) {
    int64_t count = 1;
    for (const int64_t size : spec.shape) count *= size;
    const weights::DType type = shards_ == 1 ? weights::DType::kF32 : weights::DType::kBf16;
    std::vector<char>& bytes = bytes_[shard].emplace_back(static_cast<size_t>(count) * (shards_ == 1 ? 4 : 2));
    weights::Convert(weights::DType::kF32, Weights(spec.name, static_cast<size_t>(count)).data(), count, type, bytes.data());
    tensors_[shard].push_back({spec.name, type, spec.shape, nullptr, bytes.size()});
  }

  void Write(size_t shard) {
    const weights::SafetensorsLayout layout = weights::LayOutSafetensors(tensors_[shard], {});
    std::string file = layout.head;
    for (const size_t i : layout.order) file.append(bytes_[shard][i].data(), bytes_[shard][i].size());
    ReplaceFile(SystemFiles(), JoinPath(path_, FileName(shard)), file, false);
  }

  const size_t shards_;
  std::vector<std::vector<weights::TensorView>> tensors_;
  std::vector<std::vector<std::vector<char>>> bytes_;
  std::string path_;
};

// ---- what is compared ----

struct Chat {
  Chat(const std::string& name, const Config& config) : prompt(Tokens(name + ".prompt", kPrompt, config)) {
    for (size_t i = 0; i < std::size(kResponses); ++i) {
      responses.push_back(Tokens(name + ".response" + std::to_string(i), kResponses[i], config));
      targets += kResponses[i];
    }
  }
  std::vector<uint32_t> prompt;
  std::vector<std::vector<uint32_t>> responses;
  size_t targets = 0;
};

double Furthest(const std::vector<float>& seen, const Json& expected) {
  REQUIRE(seen.size() == expected.size());
  double furthest = 0;
  for (size_t i = 0; i < seen.size(); ++i) furthest = std::max(furthest, std::abs(seen[i] - expected[i].get<double>()));
  return furthest;
}

/// Prefill and decode: the prompt at once, then token after token.
double Generate(const weights::ModelFiles& files, const Chat& chat, const kernels::Kernels& kernels, const Json& expected) {
  kernels::ThreadPool pool(0);
  const kernels::FlushDenormals flush;
  const std::shared_ptr<const Policy> policy = Policy::Load(files, kernels, pool);
  const Config& config = policy->config();
  KvCache cache(config, kernels, 64);
  Forward forward(config, kernels, pool);
  std::vector<float> logits(static_cast<size_t>(config.vocab)), logprobs, entropies;
  for (const std::vector<uint32_t>& response : chat.responses) {
    Sequence sequence;
    REQUIRE(cache.Reserve(&sequence, static_cast<int64_t>(kPrompt + response.size())));
    std::vector<Row> rows;
    for (size_t i = 0; i < kPrompt; ++i) rows.push_back({chat.prompt[i], static_cast<int32_t>(i), &sequence, i + 1 == kPrompt});
    for (size_t i = 0; i < response.size(); ++i) {
      forward.Run(*policy, cache, rows, logits.data());
      float entropy = 0;
      const float log_sum_exp = RowLogSumExp(kernels, logits.data(), config.vocab, kSamplingTemperature, &entropy);
      logprobs.push_back(TokenLogprob(logits.data(), response[i], kSamplingTemperature, log_sum_exp));
      entropies.push_back(entropy);
      rows = {{response[i], static_cast<int32_t>(kPrompt + i), &sequence, true}};
    }
    cache.Release(&sequence);
  }
  return std::max(Furthest(logprobs, expected["logprobs"]), Furthest(entropies, expected["entropies"]));
}

/// The largest difference of a gradient's norm, or of its products with vectors of signs, as a part of the norm.
double Train(const weights::ModelFiles& files, const Chat& chat, const std::string& name, const kernels::Kernels& kernels, const Json& expected) {
  const Config config = Config::FromJson(files.config());
  kernels::ThreadPool pool(0);
  const std::vector<ParameterSpec> specs = Parameters(config);
  std::vector<std::vector<char>> bytes;
  std::vector<weights::TensorView> views;
  for (const ParameterSpec& spec : specs) {
    int64_t count = 1;
    for (const int64_t size : spec.shape) count *= size;
    std::vector<char>& tensor = bytes.emplace_back(static_cast<size_t>(count * kernels.element_bytes));
    files.Read(spec.name, spec.shape, ElementType(kernels), tensor.data());
    views.push_back({spec.name, ElementType(kernels), spec.shape, tensor.data(), tensor.size()});
  }
  const auto policy = Policy::FromTensors(config, views, kernels, pool, true);
  TrainingPass pass(config, kernels, pool);
  TrainingGroup group{chat.prompt, {}};
  for (const auto& response : chat.responses) group.responses.push_back(response);
  std::vector<float> logprobs(chat.targets), entropies(chat.targets);
  pass.Forward(*policy, {&group, 1}, kSamplingTemperature, logprobs, entropies, true);
  Gradients gradients(config);
  gradients.Zero(pool);
  pass.Backward(*policy, Units(name + ".loss", chat.targets), Units(name + ".entropy-loss", chat.targets), &gradients);
  double furthest = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    const std::span<const float> gradient = gradients.Tensor(i);
    std::vector<double> seen(3);
    for (const float g : gradient) seen[0] += static_cast<double>(g) * g;
    seen[0] = std::sqrt(seen[0]);
    for (size_t k = 0; k < 2; ++k) {
      const std::vector<uint64_t> signs = Bits(specs[i].name + ".signs" + std::to_string(k), gradient.size());
      for (size_t j = 0; j < gradient.size(); ++j) seen[k + 1] += signs[j] >> 63 ? -gradient[j] : gradient[j];
    }
    const Json& reference = expected.at(specs[i].name);
    for (size_t k = 0; k < 3; ++k) {
      const double off = std::abs(seen[k] - reference[k].get<double>()) / reference[0].get<double>();
      furthest = std::max(furthest, off);
    }
  }
  return furthest;
}

TEST_CASE("each architecture computes what transformers computes, forward and backward") {
  const Json reference = Json::parse(ReadFile(SystemFiles(), std::string(APRIL_SOURCE_DIR) + "/tests/parity/architecture_reference.json"));
  REQUIRE(reference["models"].size() == 9);
  size_t shards = 0;
  for (const Json& expected : reference["models"]) {
    const std::string name = expected["name"];
    const Directory directory(expected["config"], shards++ % 4 + 1);
    const auto files = weights::ModelFiles::Open(directory.path());
    const Chat chat(name, Config::FromJson(files->config()));
    for (const kernels::Kernels* set : kernels::AvailableKernels()) {
      const kernels::Kernels& kernels = *set;
      INFO(name << ", " << kernels.name);
      const double forward = Generate(*files, chat, kernels, expected), backward = Train(*files, chat, name, kernels, expected["gradients"]);
      std::printf("%s, %s: log-probabilities and entropies off by at most %.1e, gradients by %.1e\n", name.c_str(), kernels.name, forward, backward);
      // float32 against float32: the order of sums, ten times what is seen. bfloat16: activations have 8 bits, so that each of some ten roundings
      // from a token to its logits adds up to 0.4% of values around 1; three times what is seen.
      const double bound = kernels.element_bytes == 4 ? 5e-5 : 0.18;
      CHECK(forward < bound);
      CHECK(backward < bound);
    }
  }
}

}  // namespace
}  // namespace april::model
