#include "grpo/trainer.h"

#include <cmath>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "grpo/low_rank.h"
#include "grpo/operations.h"

namespace april::grpo {
namespace {

/// Adds the seconds of its life to a phase.
class PhaseTimer {
 public:
  explicit PhaseTimer(double* seconds) : seconds_(seconds), begin_(SystemClock().MonotonicNs()) {}
  ~PhaseTimer() { *seconds_ += static_cast<double>(SystemClock().MonotonicNs() - begin_) * 1e-9; }
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;

 private:
  double* seconds_;
  int64_t begin_;
};

/// The trained tokens' values among all response tokens', which begin at `first`.
void Pick(const TrainingSequence& sequence, std::span<const float> all, size_t first, std::vector<double>* out) {
  out->clear();
  for (const int32_t token : sequence.trained) out->push_back(static_cast<double>(all[first + static_cast<size_t>(token)]));
}

/// With an adapter, only its targets' gradients are wanted.
std::vector<bool> WantedGradients(const State& state) {
  if (!state.adapter().exists()) return {};
  std::vector<bool> wanted(state.parameters().size(), false);
  for (const Adapter::Target& target : state.adapter().targets) wanted[target.parameter] = true;
  return wanted;
}

}  // namespace

struct Trainer::MicroBatch {
  std::span<const BatchGroup> groups;
  std::vector<size_t> indices;  ///< of the groups that take part
  std::vector<model::TrainingGroup> inputs;
  size_t num_response_tokens = 0;
  int64_t num_tokens = 0;
  double temperature = 1;
};

Trainer::Trainer(TrainerOptions options, const kernels::Kernels& kernels, kernels::ThreadPool& pool, State* state,
                 std::shared_ptr<const model::Policy> reference)
    : options_(std::move(options)),
      kernels_(kernels),
      pool_(pool),
      state_(state),
      optimizer_(options_.optimizer, *state, kernels, pool),
      gradients_(state->config(), WantedGradients(*state)),
      pass_(state->config(), kernels, pool, options_.activation_bytes),
      reference_(std::move(reference)) {
  for (const model::ParameterSpec& trainable : state_->trainables()) gradient_names_.push_back(trainable.name);
  if (state->adapter().exists()) {
    size_t total = 0;
    for (size_t i = 0; i < state->trainables().size(); ++i) total += state->Size(i);
    factor_gradients_ = kernels::Memory(total * sizeof(float));
  }
  Prepare();
}

void Trainer::Prepare() {
  if (packed_) return;
  packed_ = true;
  policy_ = PackRounded(state_->config(), state_->RoundedViews(), kernels_, pool_, /*for_training=*/true, std::exchange(policy_, nullptr));
}

Trainer::MicroBatch Trainer::Gather(std::span<const BatchGroup> groups, const std::vector<size_t>& indices) const {
  MicroBatch micro{groups, indices, {}, 0, 0, groups[indices.front()].temperature};
  for (const size_t index : indices) {
    const BatchGroup& group = groups[index];
    model::TrainingGroup input;
    input.prompt = group.sequences.front().rollout->prompt_tokens;
    for (const TrainingSequence& sequence : group.sequences) {
      input.responses.emplace_back(sequence.rollout->tokens);
      micro.num_response_tokens += sequence.rollout->tokens.size();
    }
    micro.inputs.push_back(std::move(input));
    micro.num_tokens += group.NumTokens();
  }
  return micro;
}

UpdateResult Trainer::Update(const Batch& batch) {
  UpdateResult result;
  if (options_.method.reference_reset.At(state_->step)) reference_.Take(*state_, kernels_, pool_);
  result.metrics.AddBatch(batch);
  result.metrics.lr = optimizer_.LearningRate(state_->optimizer_steps);
  result.metrics.optimizer_parts = options_.method.optimizer_steps;
  result.metrics.peak_operations_per_second = options_.peak_operations_per_second;
  const std::span<const BatchGroup> groups(batch.groups);
  const auto num_parts = static_cast<size_t>(options_.method.optimizer_steps);
  GroupLogprobs old_logprobs;
  if (num_parts > 1 && !options_.method.old_is_behaviour) {
    const PhaseTimer timer(&result.metrics.seconds.forward);
    old_logprobs = OldLogprobs(groups, &result.metrics);
  }
  for (size_t part = 0; part < num_parts; ++part) {
    const size_t begin = groups.size() * part / num_parts, end = groups.size() * (part + 1) / num_parts;
    const auto old_part =
        old_logprobs.empty() ? std::span<const std::vector<float>>() : std::span<const std::vector<float>>(old_logprobs).subspan(begin, end - begin);
    result.advanced |= TrainGroups(groups.subspan(begin, end - begin), old_part, &result);
    if (result.failure) return result;
  }
  result.metrics.loss /= static_cast<double>(num_parts);
  return result;
}

Trainer::GroupLogprobs Trainer::OldLogprobs(std::span<const BatchGroup> groups, Metrics* metrics) {
  Prepare();
  GroupLogprobs result(groups.size());
  for (const auto& indices : MicroBatches(groups, options_.micro_batch_tokens)) {
    const MicroBatch micro = Gather(groups, indices);
    std::vector<float> logprobs(micro.num_response_tokens);
    pass_.Forward(*policy_, micro.inputs, micro.temperature, logprobs, {}, /*keep=*/false);
    metrics->matrix_operations += ForwardOperations(state_->config(), micro.inputs);
    auto next = logprobs.begin();
    for (const size_t index : indices) {
      for (const TrainingSequence& sequence : groups[index].sequences) {
        const auto end = next + static_cast<int64_t>(sequence.rollout->tokens.size());
        result[index].insert(result[index].end(), next, end);
        next = end;
      }
    }
  }
  return result;
}

/// One optimiser step on these groups. False when they have no gradient.
bool Trainer::TrainGroups(std::span<const BatchGroup> groups, std::span<const std::vector<float>> old_logprobs, UpdateResult* result) {
  Prepare();
  const ClaimTotals totals = Totals(groups);
  const auto micro_batches = MicroBatches(groups, options_.micro_batch_tokens);
  if (micro_batches.empty() || totals.num_tokens == 0) return false;
  gradients_.Zero(pool_);
  for (const auto& indices : micro_batches) {
    TrainMicroBatch(Gather(groups, indices), totals, old_logprobs, result);
    if (!std::isfinite(result->metrics.loss)) {
      result->failure = "the loss is not a finite number";
      return false;
    }
  }
  const PhaseTimer timer(&result->metrics.seconds.optimizer);
  const std::vector<std::span<float>> gradients = CollectGradients();
  std::vector<double> squares;
  const double norm = optimizer_.Norm(gradients, &squares);
  result->metrics.AddGradient(norm, gradient_names_, squares);
  if (!std::isfinite(norm)) {
    result->failure = "the gradient's norm is not a finite number";
    return false;
  }
  if (norm == 0) return false;
  result->metrics.lr = optimizer_.Step(gradients, norm, state_);
  packed_ = false;
  return true;
}

/// On one thread: the first look at a tensor may complete it.
std::vector<std::span<float>> Trainer::CollectGradients() {
  std::vector<std::span<float>> gradients;
  const Adapter& adapter = state_->adapter();
  if (!adapter.exists()) {
    for (size_t i = 0; i < gradients_.size(); ++i) gradients.push_back(gradients_.Tensor(i));
    return gradients;
  }
  auto* next = factor_gradients_.as<float>();
  for (size_t i = 0; i < state_->trainables().size(); ++i) {
    gradients.emplace_back(next, state_->Size(i));
    next += state_->Size(i);
  }
  std::vector<FactorGradientArgs> matrices;
  for (size_t t = 0; t < adapter.targets.size(); ++t) {
    const Adapter::Target& target = adapter.targets[t];
    matrices.push_back({target.n, target.k, gradients_.Tensor(target.parameter).data(), state_->Master(2 * t).data(),
                        state_->Master(2 * t + 1).data(), gradients[2 * t].data(), gradients[2 * t + 1].data()});
  }
  FactorGradients(matrices, adapter.rank, adapter.scale(), pool_);
  return gradients;
}

void Trainer::TrainMicroBatch(const MicroBatch& micro, const ClaimTotals& totals, std::span<const std::vector<float>> old_logprobs,
                              UpdateResult* result) {
  Metrics& metrics = result->metrics;
  std::vector<float> logprobs(micro.num_response_tokens), entropies(micro.num_response_tokens), gradients(micro.num_response_tokens, 0.0f), reference;
  std::vector<float> entropy_gradients(options_.method.UsesEntropy() ? micro.num_response_tokens : 0, 0.0f);
  const double operations = ForwardOperations(state_->config(), micro.inputs);
  {
    const PhaseTimer timer(&metrics.seconds.forward);
    if (reference_.policy() != nullptr) {
      reference.resize(micro.num_response_tokens);
      pass_.Forward(*reference_.policy(), micro.inputs, micro.temperature, reference, {}, /*keep=*/false);
      metrics.matrix_operations += operations;
    }
    pass_.Forward(*policy_, micro.inputs, micro.temperature, logprobs, entropies, /*keep=*/true);
    metrics.forward_tokens += micro.num_tokens;
    metrics.matrix_operations += operations;
  }
  size_t first = 0;  // response tokens of the micro-batch before this sequence
  std::vector<double> current, old, reference_values, entropy_values;
  SequenceTerms terms;
  for (const size_t index : micro.indices) {
    size_t first_in_group = 0;
    for (const TrainingSequence& sequence : micro.groups[index].sequences) {
      Pick(sequence, logprobs, first, &current);
      Pick(sequence, entropies, first, &entropy_values);
      if (options_.method.old_is_behaviour) {
        old = sequence.behaviour;
      } else if (old_logprobs.empty()) {
        old = current;
      } else {
        Pick(sequence, old_logprobs[index], first_in_group, &old);
      }
      if (reference_.policy() != nullptr) Pick(sequence, reference, first, &reference_values);
      const double weight = sequence.trained.empty() ? 0 : options_.method.loss.aggregation->weight(totals, sequence.NumCounted());
      SequenceLoss(options_.method.loss, {current, old, sequence.behaviour, reference_values, entropy_values, sequence.advantage, weight}, &terms);
      metrics.loss += terms.loss;
      metrics.AddSequence(options_.method, sequence, current, old, entropy_values, terms);
      for (size_t t = 0; t < sequence.trained.size(); ++t) {
        const size_t token = first + static_cast<size_t>(sequence.trained[t]);
        gradients[token] = static_cast<float>(terms.gradients[t]);
        if (options_.method.UsesEntropy()) entropy_gradients[token] = static_cast<float>(terms.entropy_gradient);
      }
      first += sequence.rollout->tokens.size();
      first_in_group += sequence.rollout->tokens.size();
    }
  }
  if (!std::isfinite(metrics.loss)) return;
  const PhaseTimer timer(&metrics.seconds.backward);
  metrics.matrix_operations += BackwardOperations(state_->config(), state_->adapter(), micro.inputs);
  pass_.Backward(*policy_, gradients, entropy_gradients, &gradients_);
}

}  // namespace april::grpo
