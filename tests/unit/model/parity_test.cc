// Against transformers: log-probabilities of fixed continuations by a real model, tests/parity/model_reference.{py,json}.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "base/json.h"
#include "model/forward.h"
#include "row_log_sum_exp.h"
#include "tiny_model.h"

namespace april::model {
namespace {

struct Difference {
  double largest = 0, entropy = 0, sum = 0;
  int64_t tokens = 0, other_argmax = 0;
};

Difference Compare(const weights::ModelFiles& files, const Json& cases, const kernels::Kernels& kernels) {
  kernels::ThreadPool pool(0);
  const kernels::FlushDenormals flush;
  const std::shared_ptr<const Policy> policy = Policy::Load(files, kernels, pool);
  const Config& config = policy->config();
  KvCache cache(config, kernels, 64);
  Forward forward(config, kernels, pool);
  Difference difference;
  for (const Json& item : cases) {
    const auto prompt = item["prompt"].get<std::vector<uint32_t>>(), response = item["response"].get<std::vector<uint32_t>>();
    Sequence sequence;
    REQUIRE(cache.Reserve(&sequence, static_cast<int64_t>(prompt.size() + response.size())));
    std::vector<Row> rows;
    for (size_t i = 0; i + 1 < prompt.size() + response.size(); ++i) {
      rows.push_back({i < prompt.size() ? prompt[i] : response[i - prompt.size()], static_cast<int32_t>(i), &sequence, i + 1 >= prompt.size()});
    }
    std::vector<float> logits(response.size() * static_cast<size_t>(config.vocab));
    forward.Run(*policy, cache, rows, logits.data());
    cache.Release(&sequence);
    for (size_t i = 0; i < response.size(); ++i) {
      const float* row = logits.data() + i * static_cast<size_t>(config.vocab);
      float entropy = 0;
      const float log_sum_exp = RowLogSumExp(kernels, row, config.vocab, 1.0, &entropy);
      const double off = std::abs(TokenLogprob(row, response[i], 1.0, log_sum_exp) - item["logprobs"][i].get<double>());
      difference.largest = std::max(difference.largest, off);
      difference.entropy = std::max(difference.entropy, std::abs(entropy - item["entropies"][i].get<double>()));
      difference.sum += off;
      ++difference.tokens;
      difference.other_argmax += kernels.argmax(row, config.vocab) != item["argmax"][i].get<int64_t>();
    }
  }
  std::printf("%s: %lld tokens, log-probabilities off by at most %.2e, mean %.2e; entropies by %.2e; other arg-max: %lld\n", kernels.name,
              static_cast<long long>(difference.tokens), difference.largest, difference.sum / static_cast<double>(difference.tokens),
              difference.entropy, static_cast<long long>(difference.other_argmax));
  return difference;
}

TEST_CASE("log-probabilities are transformers'") {
  const char* path = std::getenv("APRIL_MODEL_HF") ? std::getenv("APRIL_MODEL_HF") : std::getenv("APRIL_MODEL");
  if (!path) {
    WARN(
        "not run: set APRIL_MODEL_HF (or APRIL_MODEL) to the unquantised SmolLM2-135M-Instruct that tests/parity/model_reference.json was made from");
    return;
  }
  std::ifstream file(std::string(APRIL_SOURCE_DIR) + "/tests/parity/model_reference.json");
  const Json reference = Json::parse(file);
  const std::unique_ptr<weights::ModelFiles> files = weights::ModelFiles::Open(path);
  // Every set of one element type gives the same bits: the fastest of each is enough.
  for (const kernels::Precision precision : {kernels::Precision::kF32, kernels::Precision::kBf16}) {
    const Difference difference = Compare(*files, reference["cases"], kernels::ChooseKernels("auto", precision));
    CHECK(difference.largest <= (precision == kernels::Precision::kF32 ? 1e-3 : 0.3));
    if (precision == kernels::Precision::kF32) CHECK(difference.other_argmax == 0);
  }
}

}  // namespace
}  // namespace april::model
