#include "grpo/memory_need.h"

#include "base/available_memory.h"

namespace april::grpo {

uint64_t MemoryNeed(const model::Config& config, const Adapter& adapter, const Method& method, const kernels::Kernels& kernels, int num_ranks) {
  uint64_t all = 0, with_gradients = 0, trained = 0;  // elements
  for (const model::ParameterSpec& parameter : model::Parameters(config)) all += parameter.NumElements();
  for (const Adapter::Target& target : adapter.targets) {
    with_gradients += static_cast<uint64_t>(target.n * target.k);
    trained += static_cast<uint64_t>((target.n + target.k) * adapter.rank);
  }
  if (!adapter.exists()) with_gradients = all, trained = all / static_cast<uint64_t>(num_ranks);
  const auto element = static_cast<uint64_t>(kernels.element_bytes);
  const uint64_t state = trained * 3 * sizeof(float) + all * 2 + (adapter.exists() ? with_gradients * 2 : 0);  // the last: the adapter's base
  const uint64_t packed = all * element * (method.UsesReference() ? 3 : 2);                                    // forward, transposed, reference
  const uint64_t widened = element == sizeof(float) ? all * element : 0;                                       // what PackRounded packs from
  return state + with_gradients * sizeof(float) + packed + widened;
}

void RequireMemoryToTrain(const model::Config& config, const Adapter& adapter, const Method& method, const kernels::Kernels& kernels,
                          const ranks::Ranks& ranks) {
  RequireMemory(MemoryNeed(config, adapter, method, kernels, ranks.size()), "training this model",
                adapter.exists() || ranks.size() > 1
                    ? "a machine or job with more memory, or a smaller model"
                    : "a machine or job with more memory, --lora 16, or several ranks, which share the optimiser's state");
}

}  // namespace april::grpo
