#include "model/policy.h"

namespace april::model {

size_t ParameterSpec::NumElements() const {
  size_t size = 1;
  for (const int64_t extent : shape) size *= static_cast<size_t>(extent);
  return size;
}

std::vector<ParameterSpec> Parameters(const Config& config) {
  std::vector<ParameterSpec> specs;
  const int64_t q = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
  specs.push_back({"model.embed_tokens.weight", {config.vocab, config.hidden}});
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const auto add = [&](const char* name, std::vector<int64_t> shape) { specs.push_back({prefix + name, std::move(shape)}); };
    add("input_layernorm.weight", {config.hidden});
    add("self_attn.q_proj.weight", {q, config.hidden});
    add("self_attn.k_proj.weight", {kv, config.hidden});
    add("self_attn.v_proj.weight", {kv, config.hidden});
    if (config.attention_bias) {
      add("self_attn.q_proj.bias", {q});
      add("self_attn.k_proj.bias", {kv});
      add("self_attn.v_proj.bias", {kv});
    }
    if (config.qk_norm) {
      add("self_attn.q_norm.weight", {config.head_dim});
      add("self_attn.k_norm.weight", {config.head_dim});
    }
    add("self_attn.o_proj.weight", {config.hidden, q});
    add("post_attention_layernorm.weight", {config.hidden});
    add("mlp.gate_proj.weight", {config.intermediate, config.hidden});
    add("mlp.up_proj.weight", {config.intermediate, config.hidden});
    add("mlp.down_proj.weight", {config.hidden, config.intermediate});
  }
  specs.push_back({"model.norm.weight", {config.hidden}});
  if (!config.tied_embeddings) specs.push_back({"lm_head.weight", {config.vocab, config.hidden}});
  return specs;
}

}  // namespace april::model
