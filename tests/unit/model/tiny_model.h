// Small random models over a given kernel set.
#pragma once

#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "base/rng.h"
#include "kernels/kernels.h"
#include "model/policy.h"
#include "weights/convert.h"

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

struct TinyParameter {
  std::vector<float>
      values;               ///< on the grid of an element type, so that every kernel set of that type and the float64 reference hold the same numbers
  std::vector<char> bytes;  ///< the same in that type
};

inline std::vector<TinyParameter> TinyParameters(const Config& config, weights::DType type, uint64_t seed = 1) {
  std::vector<TinyParameter> parameters;
  for (const ParameterSpec& spec : Parameters(config)) {
    int64_t count = 1;
    for (const int64_t size : spec.shape) count *= size;
    const bool norm = spec.name.find("norm") != std::string::npos;
    const double size = norm ? 0.2 : spec.shape.size() == 1 ? 0.5 : 0.35;
    TinyParameter parameter;
    for (int64_t i = 0; i < count; ++i) {
      const double u = RandomUnit(seed, RandomUse::kTest, parameters.size(), static_cast<uint64_t>(i)) * 2 - 1;
      parameter.values.push_back(static_cast<float>((norm ? 1 : 0) + size * u));
    }
    parameter.bytes.resize(static_cast<size_t>(count) * (type == weights::DType::kBf16 ? 2 : 4));
    weights::Convert(weights::DType::kF32, parameter.values.data(), count, type, parameter.bytes.data());
    weights::Convert(type, parameter.bytes.data(), count, weights::DType::kF32, parameter.values.data());
    parameters.push_back(std::move(parameter));
  }
  return parameters;
}

inline weights::DType ElementType(const kernels::Kernels& kernels) {
  return kernels.element_bytes == 2 ? weights::DType::kBf16 : weights::DType::kF32;
}

inline std::shared_ptr<const Policy> TinyPolicy(const Config& config, const std::vector<TinyParameter>& parameters, const kernels::Kernels& kernels,
                                                kernels::ThreadPool& pool, bool for_training = false,
                                                const std::shared_ptr<const Policy>& spare = nullptr) {
  const std::vector<ParameterSpec> specs = Parameters(config);
  std::vector<weights::TensorView> views;
  for (size_t i = 0; i < specs.size(); ++i) {
    views.push_back(
        {specs[i].name, ElementType(kernels), specs[i].shape, parameters[i].bytes.data(), static_cast<uint64_t>(parameters[i].bytes.size())});
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
