#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "base/error.h"

namespace april::model {
namespace {

constexpr char kHint[] = "models that work: Llama 2/3, SmolLM2, Qwen2, Qwen2.5, Qwen3 (dense), from a Hugging Face directory or a GGUF file";

Error Unsupported(const std::string& key, const std::string& seen, const std::string& supported) {
  return Error::Incompatible("config.json: " + key + " is " + seen + ", supported: " + supported, kHint);
}

const Json* Find(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it == json.end() || it->is_null() ? nullptr : &*it;
}

int64_t Integer(const Json& json, const char* key, int64_t default_value = -1) {
  const Json* value = Find(json, key);
  if (!value) {
    if (default_value < 0) throw Unsupported(key, "missing", "a positive integer");
    return default_value;
  }
  if (!value->is_number_integer() || value->get<int64_t>() < 1 || value->get<int64_t>() > (int64_t{1} << 31)) {
    throw Unsupported(key, value->dump(), "a positive integer");
  }
  return value->get<int64_t>();
}

double Number(const Json& json, const char* key, double default_value) {
  const Json* value = Find(json, key);
  if (!value) return default_value;
  if (!value->is_number() || !(value->get<double>() > 0)) throw Unsupported(key, value->dump(), "a positive number");
  return value->get<double>();
}

bool Flag(const Json& json, const char* key, bool default_value) {
  const Json* value = Find(json, key);
  if (!value) return default_value;
  if (!value->is_boolean()) throw Unsupported(key, value->dump(), "true or false");
  return value->get<bool>();
}

/// transformers 4 wrote rope_theta and rope_scaling beside each other; transformers 5 writes both into rope_parameters.
void ReadRope(const Json& json, Config* config) {
  const Json none = Json::object();
  const Json* parameters = Find(json, "rope_parameters");
  const Json* scaling_key = parameters ? parameters : Find(json, "rope_scaling");
  const Json& scaling = scaling_key ? *scaling_key : none;
  if (!scaling.is_object()) throw Unsupported("rope_scaling", scaling.dump(), "an object or null");
  config->rope_theta = Number(scaling, "rope_theta", Number(json, "rope_theta", 10000));
  const Json* type_key = Find(scaling, "rope_type");
  if (!type_key) type_key = Find(scaling, "type");
  const std::string type = type_key && type_key->is_string() ? type_key->get<std::string>() : "default";
  for (const Json* place : std::initializer_list<const Json*>{&json, &scaling}) {
    if (Number(*place, "partial_rotary_factor", 1) != 1) throw Unsupported("partial_rotary_factor", (*place)["partial_rotary_factor"].dump(), "1");
  }
  RopeScaling& rope = config->rope_scaling;
  if (type == "default") return;
  rope.original_positions =
      Integer(scaling, "original_max_position_embeddings", Integer(json, "original_max_position_embeddings", config->max_positions));
  rope.factor = Number(scaling, "factor", static_cast<double>(config->max_positions) / static_cast<double>(rope.original_positions));
  if (type == "llama3") {
    rope.kind = RopeScaling::Kind::kLlama3;
    rope.low_freq_factor = Number(scaling, "low_freq_factor", 1);
    rope.high_freq_factor = Number(scaling, "high_freq_factor", 4);
    if (rope.high_freq_factor <= rope.low_freq_factor)
      throw Unsupported("rope_scaling.high_freq_factor", scaling.dump(), "more than low_freq_factor");
  } else if (type == "yarn") {
    for (const char* key : {"mscale", "mscale_all_dim"}) {
      if (Find(scaling, key)) throw Unsupported(std::string("rope_scaling.") + key, scaling[key].dump(), "absent");
    }
    if (!Flag(scaling, "truncate", true)) throw Unsupported("rope_scaling.truncate", "false", "true");
    rope.kind = RopeScaling::Kind::kYarn;
    rope.beta_fast = Number(scaling, "beta_fast", 32);
    rope.beta_slow = Number(scaling, "beta_slow", 1);
    rope.attention_factor = Number(scaling, "attention_factor", rope.factor <= 1 ? 1 : 0.1 * std::log(rope.factor) + 1);
    // Qwen's models are told to use YaRN by rope_scaling alone, max_position_embeddings left as it was.
    const double extended = static_cast<double>(rope.original_positions) * rope.factor;
    config->max_positions = std::max(config->max_positions, static_cast<int64_t>(std::min(extended, 0x1p31)));
  } else {
    throw Unsupported("rope_scaling.rope_type", "\"" + type + "\"", "default, llama3, yarn");
  }
}

void ReadEos(const Json& json, Config* config) {
  const Json* eos = Find(json, "eos_token_id");
  if (!eos) return;
  const auto add = [&](const Json& id) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= config->vocab) {
      throw Unsupported("eos_token_id", eos->dump(), "token ids below vocab_size");
    }
    config->eos_tokens.push_back(id.get<uint32_t>());
  };
  if (eos->is_array()) {
    for (const Json& id : *eos) add(id);
  } else {
    add(*eos);
  }
}

}  // namespace

Config Config::FromJson(const Json& json) {
  Config config;
  const Json* architectures = Find(json, "architectures");
  if (!architectures || !architectures->is_array() || architectures->empty() || !(*architectures)[0].is_string()) {
    throw Unsupported("architectures", architectures ? architectures->dump() : "missing", "[\"LlamaForCausalLM\"] and alike");
  }
  config.architecture = (*architectures)[0].get<std::string>();
  const bool llama = config.architecture == "LlamaForCausalLM", qwen2 = config.architecture == "Qwen2ForCausalLM",
             qwen3 = config.architecture == "Qwen3ForCausalLM";
  if (!llama && !qwen2 && !qwen3) {
    throw Unsupported("architectures", "\"" + config.architecture + "\"", "LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM");
  }
  config.hidden = Integer(json, "hidden_size");
  config.layers = Integer(json, "num_hidden_layers");
  config.heads = Integer(json, "num_attention_heads");
  config.kv_heads = Integer(json, "num_key_value_heads", config.heads);
  config.head_dim = Integer(json, "head_dim", config.hidden / config.heads);
  config.intermediate = Integer(json, "intermediate_size");
  config.vocab = Integer(json, "vocab_size");
  config.max_positions = Integer(json, "max_position_embeddings", 2048);
  config.rms_eps = Number(json, "rms_norm_eps", 1e-6);
  config.tied_embeddings = Flag(json, "tie_word_embeddings", false);
  config.attention_bias = qwen2;
  config.qk_norm = qwen3;
  if (config.heads % config.kv_heads != 0) {
    throw Unsupported("num_key_value_heads", std::to_string(config.kv_heads), "a divisor of num_attention_heads = " + std::to_string(config.heads));
  }
  if (config.head_dim % 2 != 0) throw Unsupported("head_dim", std::to_string(config.head_dim), "an even number");
  if (const Json* act = Find(json, "hidden_act"); act && *act != "silu") throw Unsupported("hidden_act", act->dump(), "\"silu\"");
  if (!qwen2 && Flag(json, "attention_bias", false)) throw Unsupported("attention_bias", "true", "false for " + config.architecture);
  if (Flag(json, "mlp_bias", false)) throw Unsupported("mlp_bias", "true", "false");
  if (Flag(json, "use_sliding_window", false)) throw Unsupported("use_sliding_window", "true", "false");
  if (const Json* types = Find(json, "layer_types"); types && types->is_array()) {
    for (const Json& type : *types) {
      if (type != "full_attention") throw Unsupported("layer_types", type.dump(), "\"full_attention\" in every layer");
    }
  }
  ReadRope(json, &config);
  ReadEos(json, &config);
  return config;
}

}  // namespace april::model
