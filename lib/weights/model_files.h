// A model as it lies on disk: a Hugging Face safetensors directory (sharded or not) or a GGUF file. Names and layouts are Hugging Face's in both
// cases.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "weights/tensor.h"

namespace april::weights {

class ModelFiles {
 public:
  /// `path`: a directory with config.json and model*.safetensors, or a .gguf file. Maps the files; reads no tensor.
  /// Throws Runtime (cannot read), Data (damaged), Incompatible (unsupported architecture or dtype), each naming file, tensor, seen and expected.
  static std::unique_ptr<ModelFiles> Open(const std::string& path);
  virtual ~ModelFiles() = default;

  virtual const std::string& path() const = 0;
  /// config.json, or its equivalent made from GGUF metadata: architectures, hidden_size, num_hidden_layers, num_attention_heads, num_key_value_heads,
  /// head_dim, intermediate_size, vocab_size, rope_theta, rope_scaling, rms_norm_eps, tie_word_embeddings, max_position_embeddings, token ids.
  virtual const Json& config() const = 0;
  /// All tensors, by Hugging Face name ("model.layers.0.self_attn.q_proj.weight"), sorted; dtype as stored. `data` is null where the stored row order
  /// is not Hugging Face's (q and k of llama GGUF files): Read undoes it.
  virtual const std::vector<TensorView>& tensors() const = 0;
  const TensorView* Find(const std::string& name) const;
  /// Converts (dequantises, undoes GGUF's permutation of q and k) into row-major `out`, dtype kF32 or kBf16 (round to nearest even).
  /// Throws Data when the tensor is missing or its shape is not the expected one.   Thread  const, may be called from several threads.
  virtual void Read(const std::string& name, const std::vector<int64_t>& shape, DType dtype, void* out) const = 0;
};

}  // namespace april::weights
