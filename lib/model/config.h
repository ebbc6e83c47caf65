// The numbers that define a Llama-family network.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace april::model {

struct Config {
  std::string architecture;   ///< "LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"
  int64_t hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate = 0, vocab = 0, max_positions = 0;
  double rope_theta = 10000, rms_eps = 1e-5;
  bool tied_embeddings = false;
  bool attention_bias = false;   ///< q, k, v have biases (Qwen2)
  bool qk_norm = false;          ///< per-head RMS norm of q and k before rotation (Qwen3)
  std::vector<uint32_t> eos_tokens;

  /// From config.json (ModelFiles::config()). Throws Incompatible naming the key, seen and supported.
  static Config FromJson(const Json& json);
};

}  // namespace april::model
