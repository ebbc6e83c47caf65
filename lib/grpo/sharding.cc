#include "grpo/sharding.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "grpo/reference.h"
#include "weights/safetensors.h"

namespace april::grpo {
namespace {

constexpr size_t kPiece = 4u << 20;  // elements that rank 0 holds of another's shard

}  // namespace

void Scatter(State* state, size_t view, const float* whole, ranks::Ranks& ranks) {
  const size_t trainable = view % state->trainables().size();
  const std::span<float> own = state->OptimizerPart(view);
  std::vector<ranks::Transfer> transfers;
  for (const State::Part& part : state->parts()) {
    if (part.trainable != trainable) continue;
    if (part.owner == 0 && ranks.IsFirst()) std::memcpy(own.data(), whole + part.begin, own.size_bytes());
    // What is sent is only read.
    float* data = ranks.IsFirst() ? const_cast<float*>(whole) + part.begin : own.data();
    if (part.owner != 0) transfers.push_back({0, part.owner, data, part.count * sizeof(float)});
  }
  ranks.Move(transfers);
}

void Collect(const State& state, size_t view, ranks::Ranks& ranks, const std::function<void(const void* data, uint64_t num_bytes)>& append) {
  const size_t trainable = view % state.trainables().size();
  const std::span<const float> own = state.OptimizerPart(view);
  std::vector<float> piece;
  for (const State::Part& part : state.parts()) {
    if (part.trainable != trainable) continue;
    if (part.owner == 0) {
      if (ranks.IsFirst()) append(own.data(), own.size_bytes());
      continue;
    }
    for (size_t begin = 0; begin < part.count; begin += kPiece) {
      const size_t count = std::min(kPiece, part.count - begin);
      if (ranks.IsFirst()) piece.resize(count);
      float* data = ranks.IsFirst() ? piece.data() : part.owner == ranks.rank() ? const_cast<float*>(own.data()) + begin : nullptr;
      const ranks::Transfer transfer{part.owner, 0, data, count * sizeof(float)};
      ranks.Move({&transfer, 1});
      if (ranks.IsFirst()) append(piece.data(), count * sizeof(float));
    }
  }
}

void LoadModel(const weights::ModelFiles* files, State* state, uint64_t seed, kernels::ThreadPool& pool, ranks::Ranks& ranks) {
  if (ranks.size() == 1 || state->adapter().exists()) return state->LoadModel(*files, seed, pool);
  std::vector<float> whole;
  for (size_t i = 0; i < state->trainables().size(); ++i) {
    if (files != nullptr) {
      whole.resize(state->Size(i));
      files->Read(state->trainables()[i].name, state->trainables()[i].shape, weights::DType::kF32, whole.data());
    }
    Scatter(state, i, whole.data(), ranks);
  }
  state->Round(pool);
}

void ReceiveOptimizer(State* state, kernels::ThreadPool& pool, ranks::Ranks& ranks) {
  const size_t num_views = state->OptimizerViews().size();
  for (size_t view = 0; view < num_views; ++view) Scatter(state, view, nullptr, ranks);
  state->Round(pool);
}

void SendOptimizer(const State& state, ranks::Ranks& ranks) {
  for (const size_t view : weights::LayOutSafetensors(state.OptimizerViews(), {}).order) Collect(state, view, ranks, {});
}

std::shared_ptr<const model::Policy> LoadReference(const weights::ModelFiles* files, const model::Config& config, const kernels::Kernels& kernels,
                                                   kernels::ThreadPool& pool, ranks::Ranks& ranks) {
  const auto parameters = model::Parameters(config);
  std::vector<kernels::Memory> memory;
  std::vector<weights::TensorView> views;
  for (const model::ParameterSpec& parameter : parameters) {
    weights::TensorView view{parameter.name, weights::DType::kBf16, parameter.shape, nullptr, 0};
    view.num_bytes = static_cast<uint64_t>(view.NumElements()) * sizeof(uint16_t);
    memory.emplace_back(view.num_bytes);
    if (files != nullptr) files->Read(parameter.name, parameter.shape, weights::DType::kBf16, memory.back().data());
    const ranks::Transfer transfer{0, ranks::kEveryOther, memory.back().data(), view.num_bytes};
    ranks.Move({&transfer, 1});
    view.data = memory.back().data();
    views.push_back(std::move(view));
  }
  return PackRounded(config, std::move(views), kernels, pool, /*for_training=*/false);
}

}  // namespace april::grpo
