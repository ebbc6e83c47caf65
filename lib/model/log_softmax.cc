#include "model/forward.h"

namespace april::model {
namespace {

float Scale(double temperature) { return static_cast<float>(1 / temperature); }

}  // namespace

float LogSumExp(const kernels::Kernels& kernels, const float* logits, int64_t vocab, double temperature, float* maximum, float* chunk_sums,
                float* entropy) {
  return kernels.log_sum_exp({logits, vocab, Scale(temperature), maximum, chunk_sums, entropy});
}

float TokenLogprob(const float* logits, uint32_t token, double temperature, float log_sum_exp) {
  return logits[token] * Scale(temperature) - log_sum_exp;
}

}  // namespace april::model
