#include "grpo/adapter.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "base/rng.h"
#include "grpo/number_text.h"

namespace april::grpo {
namespace {

/// In the network's order.
struct Projection {
  const char* target;  ///< as --lora-targets names it
  const char* name;    ///< as the model and PEFT do
};
constexpr Projection kProjections[] = {{"q", "q_proj"},       {"k", "k_proj"},   {"v", "v_proj"},      {"o", "o_proj"},
                                       {"gate", "gate_proj"}, {"up", "up_proj"}, {"down", "down_proj"}};

std::vector<std::string> Split(const std::string& text) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t comma; (comma = text.find(',', begin)) != std::string::npos; begin = comma + 1) parts.push_back(text.substr(begin, comma - begin));
  parts.push_back(text.substr(begin));
  return parts;
}

std::vector<std::string> ParseTargets(const std::string& text) {
  std::vector<std::string> named = Split(text), modules;
  for (const Projection& projection : kProjections) {
    const auto count = std::count(named.begin(), named.end(), projection.target);
    if (count > 1) throw Error::Usage("--lora-targets names " + std::string(projection.target) + " twice");
    if (count == 1) modules.emplace_back(projection.name);
    std::erase(named, projection.target);
  }
  if (!named.empty()) throw Error::Usage("--lora-targets: '" + named.front() + "' is not one of q, k, v, o, gate, up, down", "for example q,v");
  return modules;
}

/// "q_proj" of "model.layers.3.self_attn.q_proj.weight"; empty when it is no matrix of a layer.
std::string ProjectionOf(const std::string& name) {
  constexpr std::string_view kWeight = ".weight";
  if (!name.starts_with("model.layers.") || !name.ends_with(kWeight)) return "";
  const std::string path = name.substr(0, name.size() - kWeight.size());
  return path.substr(path.rfind('.') + 1);
}

}  // namespace

void AdapterOptions::Register(OptionsVisitor& options) {
  options.Section("LoRA");
  options.Integer(
      "lora", &rank, 0, 4096,
      "rank of the factors that are trained in place of the matrices, which stay as they are; published weights have them merged; 0 = off");
  options.Real("lora-alpha", &alpha, 1e-6, 1e6, "the factors' product counts this much over the rank");
  options.Text("lora-targets", &targets, "LIST", "matrices of each layer that have factors");
}

void RequireLora(const AdapterOptions& options) {
  if (options.rank > 0) return;
  const AdapterOptions unset;
  const auto refuse = [](const std::string& given) {
    throw Error::Usage(given + " without --lora: there are no factors", "add --lora 16, or leave --lora-alpha and --lora-targets out");
  };
  if (options.alpha != unset.alpha) refuse("--lora-alpha " + NumberText(options.alpha));
  if (options.targets != unset.targets) refuse("--lora-targets " + options.targets);
}

std::string Adapter::Text() const {
  if (!exists()) return "no --lora";
  std::string text = "--lora " + std::to_string(rank) + " --lora-alpha " + NumberText(alpha) + " --lora-targets ", separator;
  for (const Projection& projection : kProjections) {
    if (std::find(modules.begin(), modules.end(), projection.name) == modules.end()) continue;
    text += separator + projection.target;
    separator = ",";
  }
  return text;
}

Adapter MakeAdapter(const AdapterOptions& options, const model::Config& config) {
  Adapter adapter;
  if (options.rank == 0) return adapter;
  adapter.rank = options.rank;
  adapter.alpha = options.alpha;
  adapter.modules = ParseTargets(options.targets);
  const auto parameters = model::Parameters(config);
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (std::find(adapter.modules.begin(), adapter.modules.end(), ProjectionOf(parameters[i].name)) == adapter.modules.end()) continue;
    const int64_t n = parameters[i].shape[0], k = parameters[i].shape[1], side = std::min(n, k);
    if (adapter.rank > side) {
      throw Error::Usage("--lora " + std::to_string(adapter.rank) + ": " + parameters[i].name + " is " + std::to_string(n) + " by " +
                             std::to_string(k) + ", and factors of a higher rank than its shorter side have more numbers and reach no further",
                         "use --lora " + std::to_string(side) + " or less, or leave that matrix out of --lora-targets");
    }
    adapter.targets.push_back({i, n, k});
  }
  return adapter;
}

std::vector<model::ParameterSpec> FactorSpecs(const Adapter& adapter, const std::vector<model::ParameterSpec>& parameters) {
  std::vector<model::ParameterSpec> specs;
  for (const Adapter::Target& target : adapter.targets) {
    const std::string& name = parameters[target.parameter].name;
    const std::string module = "base_model.model." + name.substr(0, name.rfind(".weight"));
    specs.push_back({module + ".lora_A.weight", {adapter.rank, target.k}});
    specs.push_back({module + ".lora_B.weight", {target.n, adapter.rank}});
  }
  return specs;
}

void DrawFactor(uint64_t seed, const Adapter::Target& target, int64_t rank, float* a) {
  const double bound = 1 / std::sqrt(static_cast<double>(target.k));
  for (int64_t i = 0; i < rank * target.k; ++i) {
    a[i] = static_cast<float>(bound * (2 * RandomUnit(seed, RandomUse::kInitialWeights, target.parameter, static_cast<uint64_t>(i)) - 1));
  }
}

std::string AdapterConfigText(const Adapter& adapter, const std::string& base_model) {
  const Json config = {{"peft_type", "LORA"},
                       {"task_type", "CAUSAL_LM"},
                       {"base_model_name_or_path", base_model},
                       {"r", adapter.rank},
                       {"lora_alpha", adapter.alpha == std::floor(adapter.alpha) ? Json(static_cast<int64_t>(adapter.alpha)) : Json(adapter.alpha)},
                       {"lora_dropout", 0.0},
                       {"target_modules", adapter.modules},
                       {"bias", "none"},
                       {"fan_in_fan_out", false},
                       {"inference_mode", true},
                       {"init_lora_weights", true},
                       {"modules_to_save", nullptr},
                       {"use_dora", false},
                       {"use_rslora", false}};
  return config.dump(2) + "\n";
}

}  // namespace april::grpo
