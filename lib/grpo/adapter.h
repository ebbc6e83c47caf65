// LoRA: of each chosen matrix W [n, k] only two thin factors are trained, B [n, rank] and A [rank, k]; the network computes with W + scale B A.
//   Source  Hu et al., arXiv 2106.09685, equation 3 (scale = alpha / rank); names, files and first factors as Hugging Face's PEFT.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/options.h"
#include "model/config.h"
#include "model/policy.h"

namespace april::grpo {

struct AdapterOptions {
  int64_t rank = 0;
  double alpha = 32;
  std::string targets = "q,k,v,o,gate,up,down";
  void Register(OptionsVisitor& options);
};

/// Throws Usage when an adapter's other options are given without --lora.
void RequireLora(const AdapterOptions& options);

/// Which matrices have factors. Without any, all parameters are trained.
struct Adapter {
  struct Target {
    size_t parameter = 0;  ///< of model::Parameters(config)
    int64_t n = 0, k = 0;  ///< the matrix's rows and columns
  };

  int64_t rank = 0;  ///< 0: no adapter
  double alpha = 0;
  std::vector<std::string> modules;  ///< "q_proj", "down_proj", …, in the network's order
  std::vector<Target> targets;

  bool exists() const { return rank > 0; }
  float scale() const { return static_cast<float>(alpha / static_cast<double>(rank)); }
  /// The options that make it, for messages: "--lora 16 --lora-alpha 32 --lora-targets q,v", or "no --lora".
  std::string Text() const;
};

/// Throws Usage: an unknown target, one named twice, or a rank that a matrix has no room for.
Adapter MakeAdapter(const AdapterOptions& options, const model::Config& config);

/// Names and shapes of the factors as PEFT saves them: A [rank, k] then B [n, rank] of each target, in order.
std::vector<model::ParameterSpec> FactorSpecs(const Adapter& adapter, const std::vector<model::ParameterSpec>& parameters);

/// A's first values: uniform in +-1 / sqrt(k), what PEFT draws (Kaiming's with a = sqrt(5)). B begins at zero, so that the first version is the base.
///   Source  He et al., arXiv 1502.01852, equation 10 with the gain of a leaky unit; the numbers are those of (seed, parameter, element).
void DrawFactor(uint64_t seed, const Adapter::Target& target, int64_t rank, float* a);

/// adapter_config.json, with which PEFT puts the factors on top of the model at `base_model`.
std::string AdapterConfigText(const Adapter& adapter, const std::string& base_model);

}  // namespace april::grpo
