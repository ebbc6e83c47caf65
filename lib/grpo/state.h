// Everything that an update changes: f32 master weights, AdamW's moments, the bf16 weights that are published, and the counters.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "kernels/memory.h"
#include "kernels/thread_pool.h"
#include "model/config.h"
#include "model/policy.h"
#include "weights/model_files.h"
#include "weights/tensor.h"

namespace april::grpo {

class State {
 public:
  /// All zero, in the order of model::Parameters(config).
  explicit State(const model::Config& config);
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  /// Master weights from a model's files, moments and counters zero: policy version 0. Throws Data naming a missing tensor or wrong shape.
  void LoadModel(const weights::ModelFiles& files, kernels::ThreadPool& pool);
  /// Rounds the master weights to bf16, to nearest even.
  void Round(kernels::ThreadPool& pool);

  int64_t step = 0;             ///< index of the next claim
  uint64_t version = 0;         ///< policy version of these weights
  int64_t optimizer_steps = 0;  ///< AdamW's step count, and the schedule's position

  const model::Config& config() const { return config_; }
  /// What the network computes with and what is published: the model's own tensors.
  const std::vector<model::ParameterSpec>& parameters() const { return parameters_; }
  std::span<uint16_t> Rounded(size_t parameter) { return Part<uint16_t>(rounded_, parameter); }
  /// What the optimiser moves, and what has master weights and moments: the parameters, one by one.
  const std::vector<model::ParameterSpec>& trainables() const { return parameters_; }
  size_t Size(size_t trainable) const { return sizes_[trainable]; }
  std::span<float> Master(size_t trainable) { return Part<float>(master_, trainable); }
  std::span<float> FirstMoment(size_t trainable) { return Part<float>(first_moment_, trainable); }
  std::span<float> SecondMoment(size_t trainable) { return Part<float>(second_moment_, trainable); }

  std::vector<weights::TensorView> RoundedViews() const;    ///< bf16, by Hugging Face name
  std::vector<weights::TensorView> OptimizerViews() const;  ///< f32 "master.NAME", "first_moment.NAME", "second_moment.NAME"

 private:
  template <typename T>
  std::span<T> Part(const kernels::Memory& values, size_t parameter) {
    return {values.as<T>() + offsets_[parameter], sizes_[parameter]};
  }

  model::Config config_;
  std::vector<model::ParameterSpec> parameters_;
  std::vector<size_t> offsets_, sizes_;
  size_t total_ = 0;
  kernels::Memory master_, first_moment_, second_moment_, rounded_;  ///< f32, f32, f32, bf16
};

}  // namespace april::grpo
