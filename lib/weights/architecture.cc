#include "weights/architecture.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/bytes.h"
#include "base/error.h"

namespace april::weights {
namespace {

struct Architecture {
  const char* gguf;  ///< general.architecture, and config.json's model_type
  const char* hugging_face;
  bool bias, qk_norm, permuted;
};

constexpr Architecture kArchitectures[] = {
    {"llama", "LlamaForCausalLM", false, false, true},
    {"qwen2", "Qwen2ForCausalLM", true, false, false},
    {"qwen3", "Qwen3ForCausalLM", false, true, false},
};
constexpr const char* kSupported = "supported: Llama, Qwen2 and Qwen3 (dense)";
constexpr int64_t kMaxLayers = 10'000;

int64_t Dimension(const Json& config, const char* key, int64_t default_value, const std::string& subject) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) {
    if (default_value > 0) return default_value;
    throw Error::Incompatible(subject + ": " + key + " is missing");
  }
  if (!it->is_number_integer() || it->get<int64_t>() < 1 || it->get<int64_t>() > INT32_MAX) {
    throw Error::Incompatible(subject + ": " + key + " is " + it->dump() + ", expected a positive whole number");
  }
  return it->get<int64_t>();
}

const Architecture& ArchitectureOf(const Json& config, const std::string& subject) {
  const auto it = config.find("architectures");
  const bool named = it != config.end() && it->is_array() && !it->empty() && it->front().is_string();
  for (const Architecture& architecture : kArchitectures) {
    if (named && it->front() == architecture.hugging_face) return architecture;
  }
  throw Error::Incompatible(subject + ": architecture " + (named ? it->front().dump() : "is not named"), kSupported);
}

// Metadata of one GGUF file, under its architecture's prefix.
class Keys {
 public:
  Keys(const GgufFile& file, std::string prefix) : file_(file), prefix_(std::move(prefix) + ".") {}

  std::optional<int64_t> Integer(const char* key) const { return file_.Integer(prefix_ + key); }
  std::optional<double> Real(const char* key) const { return file_.Real(prefix_ + key); }
  const std::string* Text(const char* key) const { return file_.Text(prefix_ + key); }
  int64_t NeedInteger(const char* key) const {
    const auto value = Integer(key);
    if (!value) throw Missing(key);
    return *value;
  }
  double NeedReal(const char* key) const {
    const auto value = Real(key);
    if (!value) throw Missing(key);
    return *value;
  }

 private:
  Error Missing(const char* key) const { return Error::Data("GGUF file " + file_.path() + ": metadata key " + prefix_ + key + " is missing"); }

  const GgufFile& file_;
  std::string prefix_;
};

/// Divisor of each rotation frequency under Llama 3's scaling.   Source  the same formula as RopeScaling::Kind::kLlama3 of lib/model/config.h.
double Llama3Divisor(double wavelength, double factor, double low, double high, double original_positions) {
  if (wavelength < original_positions / high) return 1;
  if (wavelength > original_positions / low) return factor;
  const double smooth = (original_positions / wavelength - low) / (high - low);
  return 1 / ((1 - smooth) / factor + smooth);
}

/// A GGUF file has Llama 3's scaling as a tensor of divisors, not as parameters. All published models use low 1, high 4 and 8192 original positions,
/// so only the factor is open; the tensor itself tells whether that holds.
Json Llama3Scaling(const GgufFile& file, const GgufTensor& divisors, double theta) {
  const int64_t pairs = divisors.shape.size() == 1 ? divisors.shape[0] : 0;
  constexpr double kLow = 1, kHigh = 4, kOriginalPositions = 8192;
  const auto* data = static_cast<const char*>(divisors.data);
  double factor = 1;
  if (divisors.dtype != DType::kF32 || pairs == 0)
    throw Error::Incompatible("GGUF file " + file.path() + ": tensor rope_freqs.weight is no list of F32");
  for (int64_t i = 0; i < pairs; ++i) factor = std::max<double>(factor, LoadLe<float>(data + 4 * i));
  for (int64_t i = 0; i < pairs; ++i) {
    const double wavelength = 2 * std::numbers::pi * std::pow(theta, static_cast<double>(i) / static_cast<double>(pairs));
    const double expected = Llama3Divisor(wavelength, factor, kLow, kHigh, kOriginalPositions), seen = LoadLe<float>(data + 4 * i);
    if (!(std::abs(seen - expected) <= 1e-3 * expected)) {
      throw Error::Incompatible("GGUF file " + file.path() + ": rope_freqs.weight is not Llama 3's scaling (element " + std::to_string(i) + " is " +
                                    std::to_string(seen) + ", expected " + std::to_string(expected) + ")",
                                "use the model's Hugging Face directory");
    }
  }
  return {{"rope_type", "llama3"},
          {"factor", factor},
          {"low_freq_factor", kLow},
          {"high_freq_factor", kHigh},
          {"original_max_position_embeddings", static_cast<int64_t>(kOriginalPositions)}};
}

/// null without scaling.
Json RopeScaling(const GgufFile& file, const Keys& keys, double theta) {
  if (const GgufTensor* divisors = file.FindTensor("rope_freqs.weight")) return Llama3Scaling(file, *divisors, theta);
  const std::string* type = keys.Text("rope.scaling.type");
  if (!type || *type == "none") return nullptr;
  if (*type != "yarn") {
    throw Error::Incompatible("GGUF file " + file.path() + ": rope.scaling.type is \"" + *type + "\", supported: none, yarn",
                              "use the model's Hugging Face directory");
  }
  Json scaling = {{"rope_type", "yarn"}, {"factor", keys.NeedReal("rope.scaling.factor")}};
  if (const auto original = keys.Integer("rope.scaling.original_context_length")) scaling["original_max_position_embeddings"] = *original;
  if (const auto fast = keys.Real("rope.scaling.yarn_beta_fast")) scaling["beta_fast"] = *fast;
  if (const auto slow = keys.Real("rope.scaling.yarn_beta_slow")) scaling["beta_slow"] = *slow;
  for (const char* key :
       {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_log_multiplier"}) {
    if (const auto value = keys.Real(key)) {
      throw Error::Incompatible("GGUF file " + file.path() + ": " + key + " is " + std::to_string(*value) + ", supported: absent",
                                "use the model's Hugging Face directory");
    }
  }
  return scaling;
}

void AddTokens(const GgufFile& file, Json* config) {
  static constexpr std::pair<const char*, const char*> kTokens[] = {{"tokenizer.ggml.bos_token_id", "bos_token_id"},
                                                                    {"tokenizer.ggml.eos_token_id", "eos_token_id"},
                                                                    {"tokenizer.ggml.padding_token_id", "pad_token_id"}};
  for (const auto& [key, name] : kTokens) {
    if (const auto id = file.Integer(key)) (*config)[name] = *id;
  }
  const auto turn_end = file.Integer("tokenizer.ggml.eot_token_id");
  const auto end = file.Integer("tokenizer.ggml.eos_token_id");
  if (turn_end && end && *turn_end != *end) (*config)["eos_token_id"] = {*end, *turn_end};
}

}  // namespace

std::vector<ExpectedTensor> ExpectedTensors(const Json& config, const std::string& subject) {
  const Architecture& architecture = ArchitectureOf(config, subject);
  const auto dimension = [&](const char* key, int64_t default_value = 0) { return Dimension(config, key, default_value, subject); };
  const int64_t hidden = dimension("hidden_size"), layers = dimension("num_hidden_layers"), heads = dimension("num_attention_heads");
  const int64_t kv_heads = dimension("num_key_value_heads", heads), head_dim = dimension("head_dim", hidden / heads);
  const int64_t intermediate = dimension("intermediate_size"), vocab = dimension("vocab_size");
  if (layers > kMaxLayers)
    throw Error::Incompatible(subject + ": num_hidden_layers is " + std::to_string(layers) + ", at most " + std::to_string(kMaxLayers));
  const auto tied = config.find("tie_word_embeddings");
  std::vector<ExpectedTensor> tensors;
  tensors.push_back({"model.embed_tokens.weight", "token_embd.weight", {vocab, hidden}});
  for (int64_t layer = 0; layer < layers; ++layer) {
    const std::string ours = "model.layers." + std::to_string(layer) + ".", theirs = "blk." + std::to_string(layer) + ".";
    const auto add = [&](const char* name, const char* gguf_name, std::vector<int64_t> shape, int64_t permuted_heads = 0) {
      tensors.push_back({ours + name, theirs + gguf_name, std::move(shape), architecture.permuted ? permuted_heads : 0});
    };
    add("input_layernorm.weight", "attn_norm.weight", {hidden});
    add("self_attn.q_proj.weight", "attn_q.weight", {heads * head_dim, hidden}, heads);
    add("self_attn.k_proj.weight", "attn_k.weight", {kv_heads * head_dim, hidden}, kv_heads);
    add("self_attn.v_proj.weight", "attn_v.weight", {kv_heads * head_dim, hidden});
    if (architecture.bias) {
      add("self_attn.q_proj.bias", "attn_q.bias", {heads * head_dim});
      add("self_attn.k_proj.bias", "attn_k.bias", {kv_heads * head_dim});
      add("self_attn.v_proj.bias", "attn_v.bias", {kv_heads * head_dim});
    }
    if (architecture.qk_norm) {
      add("self_attn.q_norm.weight", "attn_q_norm.weight", {head_dim});
      add("self_attn.k_norm.weight", "attn_k_norm.weight", {head_dim});
    }
    add("self_attn.o_proj.weight", "attn_output.weight", {hidden, heads * head_dim});
    add("post_attention_layernorm.weight", "ffn_norm.weight", {hidden});
    add("mlp.gate_proj.weight", "ffn_gate.weight", {intermediate, hidden});
    add("mlp.up_proj.weight", "ffn_up.weight", {intermediate, hidden});
    add("mlp.down_proj.weight", "ffn_down.weight", {hidden, intermediate});
  }
  tensors.push_back({"model.norm.weight", "output_norm.weight", {hidden}});
  if (tied == config.end() || *tied != true) tensors.push_back({"lm_head.weight", "output.weight", {vocab, hidden}});
  return tensors;
}

Json ConfigOfGguf(const GgufFile& file) {
  const std::string* name = file.Text("general.architecture");
  if (!name) throw Error::Data("GGUF file " + file.path() + ": metadata key general.architecture is missing");
  const auto* architecture =
      std::find_if(std::begin(kArchitectures), std::end(kArchitectures), [&](const Architecture& row) { return *name == row.gguf; });
  if (architecture == std::end(kArchitectures))
    throw Error::Incompatible("GGUF file " + file.path() + ": architecture \"" + *name + "\"", kSupported);
  const Keys keys(file, *name);
  if (keys.Integer("expert_count").value_or(0) > 0) throw Error::Incompatible("GGUF file " + file.path() + ": a mixture of experts", kSupported);
  const GgufTensor* embedding = file.FindTensor("token_embd.weight");
  if (!embedding || embedding->shape.size() != 2)
    throw Error::Data("GGUF file " + file.path() + ": tensor token_embd.weight is missing or is no matrix");
  const int64_t heads = keys.NeedInteger("attention.head_count"), hidden = keys.NeedInteger("embedding_length");
  if (heads < 1) throw Error::Data("GGUF file " + file.path() + ": attention.head_count is " + std::to_string(heads));
  const int64_t head_dim = keys.Integer("attention.key_length").value_or(hidden / heads);
  const int64_t rotated = keys.Integer("rope.dimension_count").value_or(head_dim);
  if (rotated != head_dim) {
    throw Error::Incompatible("GGUF file " + file.path() + ": rope.dimension_count is " + std::to_string(rotated) + ", supported: the head's " +
                              std::to_string(head_dim));
  }
  const double theta = keys.Real("rope.freq_base").value_or(10000);

  Json config;
  config["architectures"] = {architecture->hugging_face};
  config["model_type"] = architecture->gguf;
  config["vocab_size"] = embedding->shape[0];
  config["hidden_size"] = hidden;
  config["intermediate_size"] = keys.NeedInteger("feed_forward_length");
  config["num_hidden_layers"] = keys.NeedInteger("block_count");
  config["num_attention_heads"] = heads;
  config["num_key_value_heads"] = keys.Integer("attention.head_count_kv").value_or(heads);
  config["head_dim"] = head_dim;
  config["max_position_embeddings"] = keys.NeedInteger("context_length");
  config["rms_norm_eps"] = keys.NeedReal("attention.layer_norm_rms_epsilon");
  config["rope_theta"] = theta;
  config["rope_scaling"] = RopeScaling(file, keys, theta);
  config["hidden_act"] = "silu";
  config["attention_bias"] = architecture->bias;
  config["tie_word_embeddings"] = file.FindTensor("output.weight") == nullptr;
  config["torch_dtype"] = "bfloat16";
  AddTokens(file, &config);
  return config;
}

}  // namespace april::weights
