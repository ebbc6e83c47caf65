#include "grpo/adamw.h"

#include <algorithm>
#include <cmath>

namespace april::grpo {

double Power(double base, int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

Optimizer::Optimizer(const OptimizerOptions& options, const State& state, const kernels::Kernels& kernels, kernels::ThreadPool& pool,
                     ranks::Ranks& ranks)
    : options_(options), schedule_(ParseSchedule(options)), kernels_(kernels), pool_(pool), ranks_(ranks) {
  constexpr auto kChunk = static_cast<size_t>(kernels::kSumChunk);
  for (const State::Part& part : state.parts()) {
    while (bounds_.size() <= static_cast<size_t>(part.owner)) bounds_.push_back(chunks_.size());
    for (size_t begin = 0; begin < part.count; begin += kChunk)
      chunks_.push_back({part.trainable, part.begin + begin, std::min(kChunk, part.count - begin)});
  }
  bounds_.resize(static_cast<size_t>(ranks.size()) + 1, chunks_.size());
}

/// Calls `action` with the index of each own chunk, on all threads.
template <typename Action>
void Optimizer::ForOwnChunks(const Action& action) const {
  const size_t first = bounds_[static_cast<size_t>(ranks_.rank())], count = bounds_[static_cast<size_t>(ranks_.rank()) + 1] - first;
  pool_.Run([&](kernels::ThreadPool::Worker& worker) {
    for (int64_t task; (task = worker.NextTask(static_cast<int64_t>(count))) >= 0;) action(first + static_cast<size_t>(task));
  });
}

double Optimizer::Norm(TrainableGradients gradients, std::vector<double>* tensor_squares) const {
  std::vector<double> sums(chunks_.size());
  ForOwnChunks([&](size_t index) {
    const Chunk& chunk = chunks_[index];
    sums[index] = kernels_.sum_squares(gradients[chunk.tensor].data() + chunk.begin, static_cast<int64_t>(chunk.count));
  });
  std::vector<ranks::Transfer> transfers;
  for (size_t rank = 0; rank + 1 < bounds_.size(); ++rank) {
    const size_t count = bounds_[rank + 1] - bounds_[rank];
    transfers.push_back({static_cast<int>(rank), ranks::kEveryOther, sums.data() + bounds_[rank], count * sizeof(double)});
  }
  ranks_.Move(transfers);
  double total = 0;  // in the chunks' order, whatever thread or rank summed them
  for (const double sum : sums) total += sum;
  if (tensor_squares != nullptr) {
    tensor_squares->assign(gradients.size(), 0);
    for (size_t i = 0; i < chunks_.size(); ++i) (*tensor_squares)[chunks_[i].tensor] += sums[i];
  }
  return std::sqrt(total);
}

double Optimizer::Step(TrainableGradients gradients, double norm, State* state) const {
  const double lr = LearningRate(state->optimizer_steps);
  const int64_t step = ++state->optimizer_steps;
  kernels::AdamWArgs common{};
  common.gradient_scale = options_.max_grad_norm > 0 && norm > options_.max_grad_norm ? static_cast<float>(options_.max_grad_norm / norm) : 1.0f;
  common.lr = static_cast<float>(lr);
  common.beta1 = static_cast<float>(options_.beta1);
  common.beta2 = static_cast<float>(options_.beta2);
  common.eps = static_cast<float>(options_.epsilon);
  common.weight_decay = static_cast<float>(options_.weight_decay);
  common.correction1 = static_cast<float>(1 - Power(options_.beta1, step));
  common.correction2 = static_cast<float>(1 - Power(options_.beta2, step));
  const bool rounds = kernels_.element_bytes == 2 && !state->adapter().exists();
  ForOwnChunks([&](size_t index) {
    const Chunk& chunk = chunks_[index];
    const size_t own = chunk.begin - state->PartBegin(chunk.tensor);
    kernels::AdamWArgs args = common;
    args.w = state->Master(chunk.tensor).data() + own;
    args.m = state->FirstMoment(chunk.tensor).data() + own;
    args.v = state->SecondMoment(chunk.tensor).data() + own;
    args.gradient = gradients[chunk.tensor].data() + chunk.begin;
    args.n = static_cast<int64_t>(chunk.count);
    args.out = rounds ? state->Rounded(chunk.tensor).data() + chunk.begin : nullptr;
    kernels_.adamw(args);
  });
  state->RoundAndShare(ranks_, pool_, rounds);
  return lr;
}

}  // namespace april::grpo
