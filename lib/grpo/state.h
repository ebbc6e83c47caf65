// Everything that an update changes: f32 master weights, AdamW's moments, the bf16 weights that are published, and the counters; with an adapter,
// also the matrices that its factors are merged into.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "grpo/adapter.h"
#include "kernels/memory.h"
#include "kernels/thread_pool.h"
#include "model/config.h"
#include "model/policy.h"
#include "weights/model_files.h"
#include "weights/tensor.h"

namespace april::grpo {

class State {
 public:
  /// All zero. Without an adapter the parameters themselves are trained, with one its factors.
  explicit State(const model::Config& config, Adapter adapter = {});
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  /// Master weights from a model's files, or the adapter's base from them and its first factors drawn by `seed`; moments and counters zero: policy
  /// version 0. Throws Data naming a missing tensor or wrong shape.
  void LoadModel(const weights::ModelFiles& files, uint64_t seed, kernels::ThreadPool& pool);
  /// With an adapter: the model that its factors will be merged into, rounded to bf16. Masters, moments and counters stay as they are; until the next
  /// Round the weights are the base's.
  void LoadBase(const weights::ModelFiles& files);
  /// The weights to publish: the masters rounded to bf16, to nearest even, or the factors merged into the base.
  void Round(kernels::ThreadPool& pool);

  int64_t step = 0;             ///< index of the next claim
  uint64_t version = 0;         ///< policy version of these weights
  int64_t optimizer_steps = 0;  ///< AdamW's step count, and the schedule's position

  const model::Config& config() const { return config_; }
  const Adapter& adapter() const { return adapter_; }
  /// What the network computes with and what is published: the model's own tensors.
  const std::vector<model::ParameterSpec>& parameters() const { return parameters_; }
  std::span<uint16_t> Rounded(size_t parameter) { return Part<uint16_t>(rounded_, rounded_places_, parameter); }
  /// What the optimiser moves, and what has master weights and moments: the parameters one by one, or the adapter's factors.
  const std::vector<model::ParameterSpec>& trainables() const { return trainables_; }
  size_t Size(size_t trainable) const { return places_.sizes[trainable]; }
  std::span<float> Master(size_t trainable) { return Part<float>(master_, places_, trainable); }
  std::span<float> FirstMoment(size_t trainable) { return Part<float>(first_moment_, places_, trainable); }
  std::span<float> SecondMoment(size_t trainable) { return Part<float>(second_moment_, places_, trainable); }

  std::vector<weights::TensorView> RoundedViews() const;  ///< bf16, by Hugging Face name
  std::vector<weights::TensorView> FactorViews() const;   ///< f32, the adapter's
  /// f32 "first_moment.NAME", "second_moment.NAME" and, when the parameters themselves are trained, "master.NAME".
  std::vector<weights::TensorView> OptimizerViews() const;

 private:
  /// Where tensors lie in one block of memory, in elements.
  struct Places {
    void Add(size_t size);
    std::vector<size_t> offsets, sizes;
    size_t total = 0;
  };
  template <typename T>
  std::span<T> Part(const kernels::Memory& values, const Places& places, size_t tensor) {
    return {values.as<T>() + places.offsets[tensor], places.sizes[tensor]};
  }
  std::vector<weights::TensorView> TrainableViews(const std::string& prefix, const kernels::Memory& values) const;
  void MergeAdapter(kernels::ThreadPool& pool);

  model::Config config_;
  Adapter adapter_;
  std::vector<model::ParameterSpec> parameters_, trainables_;
  Places rounded_places_, places_, base_places_;                            ///< of parameters, of trainables, of the adapter's targets
  kernels::Memory master_, first_moment_, second_moment_, rounded_, base_;  ///< f32, f32, f32, bf16, bf16
};

}  // namespace april::grpo
