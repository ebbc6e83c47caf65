// The numbers that define a Llama-family network.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace april::model {

/// Which formula turns rope_theta into the rotation frequencies.
///   Source  Llama 3's and YaRN's (arXiv 2309.00071) as in transformers' modeling_rope_utils.
struct RopeScaling {
  enum class Kind { kNone, kLlama3, kYarn };
  Kind kind = Kind::kNone;
  double factor = 1;
  int64_t original_positions = 0;                    ///< context length before extension
  double low_freq_factor = 1, high_freq_factor = 4;  ///< Llama 3
  double beta_fast = 32, beta_slow = 1;              ///< YaRN
  double attention_factor = 1;                       ///< YaRN: multiplies cos and sin
};

struct Config {
  std::string architecture;  ///< "LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"
  int64_t hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate = 0, vocab = 0, max_positions = 0;
  double rope_theta = 10000, rms_eps = 1e-5;
  RopeScaling rope_scaling;
  bool tied_embeddings = false;
  bool attention_bias = false;  ///< q, k, v have biases (Qwen2)
  bool qk_norm = false;         ///< per-head RMS norm of q and k before rotation (Qwen3)
  std::vector<uint32_t> eos_tokens;

  /// From config.json (ModelFiles::config()). Throws Incompatible naming the key, seen and supported.
  static Config FromJson(const Json& json);

  int64_t group() const { return heads / kv_heads; }  ///< query heads that share one key head
};

}  // namespace april::model
