// AdamW over the state, with the gradient's global norm, clipping and the learning-rate schedule.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "grpo/method.h"
#include "grpo/state.h"
#include "kernels/kernels.h"
#include "kernels/thread_pool.h"

namespace april::grpo {

/// base^exponent by repeated squaring: the same bits on every machine.
double Power(double base, int64_t exponent);

/// One gradient for each of State::trainables(), in that order and of its size.
using TrainableGradients = std::span<const std::span<float>>;

class Optimizer {
 public:
  Optimizer(const OptimizerOptions& options, const State& state, const kernels::Kernels& kernels, kernels::ThreadPool& pool);

  /// Root of the sum of squares over all trainable tensors; not finite when any gradient is not. Fills `tensor_squares`, if given, with each
  /// tensor's.
  double Norm(TrainableGradients gradients, std::vector<double>* tensor_squares = nullptr) const;
  /// One AdamW step with gradients scaled down to the largest allowed norm; makes the new weights to publish. Returns the learning rate.
  ///   Source  Loshchilov and Hutter, arXiv 1711.05101, algorithm 2; clipping: Pascanu et al., arXiv 1211.5063, algorithm 1.
  double Step(TrainableGradients gradients, double norm, State* state) const;
  double LearningRate(int64_t optimizer_steps) const { return grpo::LearningRate(schedule_, optimizer_steps); }

 private:
  struct Chunk {
    size_t tensor = 0;
    size_t begin = 0, count = 0;
  };

  OptimizerOptions options_;
  Schedule schedule_;
  const kernels::Kernels& kernels_;
  kernels::ThreadPool& pool_;
  std::vector<Chunk> chunks_;
};

}  // namespace april::grpo
