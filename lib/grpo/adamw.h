// AdamW over the state, with the gradient's global norm, clipping and the learning-rate schedule.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "grpo/method.h"
#include "grpo/state.h"
#include "kernels/kernels.h"
#include "kernels/thread_pool.h"
#include "ranks/ranks.h"

namespace april::grpo {

/// base^exponent by repeated squaring: the same bits on every machine.
double Power(double base, int64_t exponent);

/// One gradient for each of State::trainables(), in that order and of its size.
using TrainableGradients = std::span<const std::span<float>>;

class Optimizer {
 public:
  Optimizer(const OptimizerOptions& options, const State& state, const kernels::Kernels& kernels, kernels::ThreadPool& pool, ranks::Ranks& ranks);

  /// Root of the sum of squares over all trainable tensors, of which each rank's gradients hold the sums over ranks in its own parts; not finite when
  /// any gradient is not. Fills `tensor_squares`, if given, with each tensor's. The same bits for any number of ranks, given the same gradients.
  double Norm(TrainableGradients gradients, std::vector<double>* tensor_squares = nullptr) const;
  /// One AdamW step with gradients scaled down to the largest allowed norm, each rank on its own parts; makes the new weights to publish and shares
  /// them. Returns the learning rate.
  ///   Source  Loshchilov and Hutter, arXiv 1711.05101, algorithm 2; clipping: Pascanu et al., arXiv 1211.5063, algorithm 1.
  double Step(TrainableGradients gradients, double norm, State* state) const;
  double LearningRate(int64_t optimizer_steps) const { return grpo::LearningRate(schedule_, optimizer_steps); }

 private:
  struct Chunk {
    size_t tensor = 0;
    size_t begin = 0, count = 0;
  };

  template <typename Action>
  void ForOwnChunks(const Action& action) const;

  OptimizerOptions options_;
  Schedule schedule_;
  const kernels::Kernels& kernels_;
  kernels::ThreadPool& pool_;
  ranks::Ranks& ranks_;
  std::vector<Chunk> chunks_;
  std::vector<size_t> bounds_;  ///< where each rank's chunks begin, and the end
};

}  // namespace april::grpo
