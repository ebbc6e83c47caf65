// The forward and the hand-written backward against a slow float64 network under LibTorch's autograd.
#include <cstdio>

#include "model/forward.h"
#include "reference_model.h"
#include "training_work.h"

namespace april::model {
namespace {

double RelativeError(const std::vector<float>& seen, const at::Tensor& expected) {
  const at::Tensor tensor = at::from_blob(const_cast<float*>(seen.data()), {static_cast<int64_t>(seen.size())}, at::kFloat).to(at::kDouble);
  return ((tensor - expected.reshape({-1})).norm() / expected.norm()).item<double>();
}

TEST_CASE("logits are the reference's, for every architecture and kernel set") {
  const char* architecture = GENERATE("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM");
  Config config = TinyConfig(architecture);
  if (GENERATE(false, true)) {
    config.rope_scaling = {RopeScaling::Kind::kYarn, 4, 32, 1, 4, 32, 1, 1.14};
  }
  for (const kernels::Kernels* kernels : kernels::AvailableKernels()) {
    INFO(architecture << ", " << kernels->name);
    kernels::ThreadPool pool(2);
    KvCache cache(config, *kernels, 10);
    Forward forward(config, *kernels, pool);
    const std::vector<uint32_t> tokens = RandomTokens(config, 1, 75);
    Sequence sequence;
    REQUIRE(cache.Reserve(&sequence, 75));
    std::vector<Row> rows;
    for (size_t i = 0; i < tokens.size(); ++i) rows.push_back({tokens[i], static_cast<int32_t>(i), &sequence, true});
    std::vector<float> seen(tokens.size() * static_cast<size_t>(config.vocab));
    const std::vector<TinyParameter> parameters = TinyParameters(config, ElementType(*kernels));
    forward.Run(*TinyPolicy(config, parameters, *kernels, pool), cache, rows, seen.data());
    CHECK(RelativeError(seen, ReferenceModel(config, parameters).Logits(tokens).detach()) < (kernels->element_bytes == 2 ? 2e-2 : 2e-6));
  }
}

TEST_CASE("gradients are autograd's") {
  const Config config = TinyConfig(GENERATE("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"));
  const Work work(config, kLengths);
  for (const kernels::Precision precision : {kernels::Precision::kF32, kernels::Precision::kBf16}) {
    const kernels::Kernels& kernels = kernels::ChooseKernels("auto", precision);
    const Result seen = Train(config, kernels, work, work.groups.size(), 2, uint64_t{1} << 30);
    const ReferenceModel reference(config, TinyParameters(config, ElementType(kernels)));
    const std::vector<float> g = RandomGradients(seen.logprobs.size(), 1), e = RandomGradients(seen.logprobs.size(), 2);
    at::Tensor loss = at::zeros({}, at::kDouble);
    std::vector<double> logprobs, entropies;
    size_t next = 0;
    for (const TrainingGroup& group : work.groups) {
      for (const auto& response : group.responses) {
        std::vector<uint32_t> tokens(group.prompt.begin(), group.prompt.end());
        tokens.insert(tokens.end(), response.begin(), response.end());
        const at::Tensor all = (reference.Logits(tokens) / kTemperature).log_softmax(-1);
        for (size_t i = 0; i < response.size(); ++i, ++next) {
          const at::Tensor row = all[static_cast<int64_t>(group.prompt.size() + i) - 1];
          const at::Tensor logprob = row[response[i]], entropy = -(row.exp() * row).sum();
          loss = loss + logprob * g[next] + entropy * e[next];
          logprobs.push_back(logprob.item<double>());
          entropies.push_back(entropy.item<double>());
        }
      }
    }
    loss.backward();
    // bf16: rounding of activations, in a network whose random weights amplify it.
    const double bound = precision == kernels::Precision::kF32 ? 1e-5 : 5e-2;
    INFO(config.architecture << ", " << kernels.name);
    CHECK(RelativeError(seen.logprobs, at::tensor(logprobs, at::kDouble)) < bound);
    CHECK(RelativeError(seen.entropies, at::tensor(entropies, at::kDouble)) < bound);
    const std::vector<ParameterSpec> specs = Parameters(config);
    double worst = 0;
    for (size_t i = 0; i < specs.size(); ++i) {
      INFO(specs[i].name);
      const double error = RelativeError(seen.gradients[i], reference.parameters()[i].grad());
      CHECK(error < bound);
      worst = std::max(worst, error);
    }
    std::printf("%s, %s: gradients off by at most %.1e of their norm\n", config.architecture.c_str(), kernels.name, worst);
  }
}

}  // namespace
}  // namespace april::model
