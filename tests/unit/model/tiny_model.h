// Small random models over a given kernel set, and their parameters as tensors.
#pragma once

#include "torch_and_catch.h"

#include <memory>
#include <vector>

#include "base/rng.h"
#include "kernels/kernels.h"
#include "model/policy.h"

namespace april::model {

inline Config TinyConfig(const char* architecture = "LlamaForCausalLM") {
  Config config;
  config.architecture = architecture;
  config.hidden = 64;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 16;
  config.intermediate = 96;
  config.vocab = config.architecture == "Qwen2ForCausalLM" ? 4201 : 1300;  // chunks of log-sum-exp, slices of the backward, odd and even
  config.max_positions = 512;
  config.tied_embeddings = config.architecture == "LlamaForCausalLM";
  config.attention_bias = config.architecture == "Qwen2ForCausalLM";
  config.qk_norm = config.architecture == "Qwen3ForCausalLM";
  return config;
}

/// Values on the grid of `type`, so that every kernel set of that element type and the float64 reference hold the same numbers.
inline std::vector<at::Tensor> TinyParameters(const Config& config, at::ScalarType type, uint64_t seed = 1) {
  std::vector<at::Tensor> parameters;
  for (const ParameterSpec& spec : Parameters(config)) {
    at::Tensor tensor = at::empty(spec.shape, at::kFloat);
    const bool norm = spec.name.find("norm") != std::string::npos;
    const double size = norm ? 0.2 : spec.shape.size() == 1 ? 0.5 : 0.35;
    for (int64_t i = 0; i < tensor.numel(); ++i) {
      const double u = RandomUnit(seed, RandomUse::kTest, parameters.size(), static_cast<uint64_t>(i)) * 2 - 1;
      tensor.data_ptr<float>()[i] = static_cast<float>((norm ? 1 : 0) + size * u);
    }
    parameters.push_back(tensor.to(type));
  }
  return parameters;
}

inline at::ScalarType ElementType(const kernels::Kernels& kernels) { return kernels.element_bytes == 2 ? at::kBFloat16 : at::kFloat; }

inline std::shared_ptr<const Policy> TinyPolicy(const Config& config, const std::vector<at::Tensor>& parameters, const kernels::Kernels& kernels,
                                                kernels::ThreadPool& pool, bool for_training = false,
                                                const std::shared_ptr<const Policy>& spare = nullptr) {
  const std::vector<ParameterSpec> specs = Parameters(config);
  std::vector<weights::TensorView> views;
  for (size_t i = 0; i < specs.size(); ++i) {
    views.push_back({specs[i].name, kernels.element_bytes == 2 ? weights::DType::kBf16 : weights::DType::kF32, specs[i].shape,
                     parameters[i].data_ptr(), static_cast<uint64_t>(parameters[i].nbytes())});
  }
  return Policy::FromTensors(config, views, kernels, pool, for_training, spare);
}

inline std::vector<uint32_t> RandomTokens(const Config& config, uint64_t id, int64_t count) {
  std::vector<uint32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<uint32_t>(RandomBits(7, RandomUse::kTest, id, static_cast<uint64_t>(i)) % static_cast<uint64_t>(config.vocab)));
  }
  return tokens;
}

}  // namespace april::model
