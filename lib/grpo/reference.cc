#include "grpo/reference.h"

#include <cstring>
#include <utility>

#include "weights/convert.h"

namespace april::grpo {

std::shared_ptr<const model::Policy> PackRounded(const model::Config& config, std::vector<weights::TensorView> rounded,
                                                 const kernels::Kernels& kernels, kernels::ThreadPool& pool, bool for_training,
                                                 std::shared_ptr<const model::Policy> reuse) {
  if (kernels.element_bytes == 2) return model::Policy::FromTensors(config, rounded, kernels, pool, for_training, std::move(reuse));
  std::vector<std::vector<float>> widened(rounded.size());
  for (size_t i = 0; i < rounded.size(); ++i) {
    const auto* values = static_cast<const uint16_t*>(rounded[i].data);
    widened[i].reserve(static_cast<size_t>(rounded[i].NumElements()));
    for (int64_t k = 0; k < rounded[i].NumElements(); ++k) widened[i].push_back(weights::Bf16ToF32(values[k]));
    rounded[i].dtype = weights::DType::kF32;
    rounded[i].data = widened[i].data();
    rounded[i].num_bytes *= 2;
  }
  return model::Policy::FromTensors(config, rounded, kernels, pool, for_training, std::move(reuse));
}

/// Room for a copy of these tensors.
std::vector<uint16_t*> Reference::Lay(const std::vector<weights::TensorView>& like) {
  size_t num_bytes = 0;
  for (const weights::TensorView& tensor : like) num_bytes += tensor.num_bytes;
  memory_ = kernels::Memory(num_bytes);
  tensors_ = like;
  std::vector<uint16_t*> places;
  auto* next = memory_.as<uint16_t>();
  for (weights::TensorView& tensor : tensors_) {
    tensor.data = next;
    places.push_back(next);
    next += tensor.NumElements();
  }
  return places;
}

void Reference::Take(const State& state, const kernels::Kernels& kernels, kernels::ThreadPool& pool) {
  const std::vector<weights::TensorView> rounded = state.RoundedViews();
  const std::vector<uint16_t*> places = Lay(rounded);
  for (size_t i = 0; i < rounded.size(); ++i) std::memcpy(places[i], rounded[i].data, rounded[i].num_bytes);
  policy_.reset();  // its memory first
  policy_ = PackRounded(state.config(), tensors_, kernels, pool, /*for_training=*/false);
}

void Reference::Keep(const weights::ModelFiles& files, const State& state) {
  const std::vector<weights::TensorView> rounded = state.RoundedViews();
  const std::vector<uint16_t*> places = Lay(rounded);
  for (size_t i = 0; i < rounded.size(); ++i) files.Read(rounded[i].name, rounded[i].shape, weights::DType::kBf16, places[i]);
}

}  // namespace april::grpo
