#include "grpo/trainer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "grpo/low_rank.h"
#include "grpo/operations.h"
#include "grpo/state_digest.h"

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

/// Of every response token of a micro-batch. Not numbers until they are computed: what a rank has left out fails the whole update.
struct Trainer::ForwardValues {
  ForwardValues(size_t num_tokens, bool has_reference)
      : logprobs(num_tokens, NAN), entropies(num_tokens, NAN), reference(has_reference ? num_tokens : 0, NAN) {}
  std::vector<float> logprobs, entropies, reference;
};

/// Of a loss, by each response token's log-probability and by the entropy of its distribution; without an entropy term, none of those.
struct Trainer::TokenGradients {
  std::vector<float> of_logprobs, of_entropies;
};

Trainer::Trainer(TrainerOptions options, const kernels::Kernels& kernels, kernels::ThreadPool& pool, State* state,
                 std::shared_ptr<const model::Policy> reference, ranks::Ranks& ranks)
    : options_(std::move(options)),
      kernels_(kernels),
      pool_(pool),
      state_(state),
      ranks_(ranks),
      optimizer_(options_.optimizer, *state, kernels, pool, ranks),
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
    // Also those without a gradient of their own: without their rows the others' would lie in other tiles, and have sums of other bits than with
    // --zero-advantage train.
    for (const TrainingSequence& sequence : group.sequences) {
      input.responses.emplace_back(sequence.rollout->tokens);
      micro.num_response_tokens += sequence.rollout->tokens.size();
    }
    micro.inputs.push_back(std::move(input));
    micro.num_tokens += group.NumTokens();
  }
  return micro;
}

std::vector<std::vector<size_t>> Trainer::MicroBatchesOf(const Part& part, int rank) const {
  return MicroBatches(part.groups, options_.micro_batch_tokens, part.owners, rank);
}

UpdateResult Trainer::Update(const Batch& batch) {
  UpdateResult result;
  if (options_.method.reference_reset.At(state_->step)) reference_.Take(*state_, kernels_, pool_);
  result.metrics.AddBatch(batch);
  result.metrics.lr = optimizer_.LearningRate(state_->optimizer_steps);
  result.metrics.peak_operations_per_second = options_.peak_operations_per_second * ranks_.size();
  const std::span<const BatchGroup> groups(batch.groups);
  const size_t num_parts = std::clamp<size_t>(groups.size(), 1, static_cast<size_t>(options_.method.optimizer_steps));
  const auto begin_of = [&](size_t part) { return groups.size() * part / num_parts; };
  std::vector<int> owners;
  for (size_t part = 0; part < num_parts; ++part) {
    const auto of_part = groups.subspan(begin_of(part), begin_of(part + 1) - begin_of(part));
    for (const int owner : AssignGroups(of_part, ranks_.size())) owners.push_back(owner);
  }
  GroupLogprobs old_logprobs;  // of all parts but the first, whose own forward pass gives them
  const size_t first_old = begin_of(1);
  if (num_parts > 1 && !options_.method.old_is_behaviour) {
    const PhaseTimer timer(&result.metrics.seconds.forward);
    old_logprobs = OldLogprobs({groups.subspan(first_old), std::span<const int>(owners).subspan(first_old), {}}, &result.metrics);
  }
  for (size_t part = 0; part < num_parts; ++part) {
    const size_t begin = begin_of(part), count = begin_of(part + 1) - begin;
    const std::span<const std::vector<float>> old_part(old_logprobs);
    result.advanced |=
        TrainGroups({groups.subspan(begin, count), std::span<const int>(owners).subspan(begin, count),
                     part == 0 || old_part.empty() ? std::span<const std::vector<float>>() : old_part.subspan(begin - first_old, count)},
                    &result);
    if (result.failure) return result;
  }
  result.metrics.FinishParts();
  if (result.advanced || !optimizer_digest_) {
    const PhaseTimer timer(&result.metrics.seconds.optimizer);
    optimizer_digest_ = DigestOfOptimizer(state_, pool_, ranks_);
  }
  result.optimizer_digest = *optimizer_digest_;
  return result;
}

/// Of a rank's own groups; on rank 0 of all.
Trainer::GroupLogprobs Trainer::OldLogprobs(const Part& all, Metrics* metrics) {
  Prepare();
  GroupLogprobs result(all.groups.size());
  std::vector<ranks::Transfer> transfers;
  for (int rank = 0; rank < ranks_.size(); ++rank) {
    for (const auto& indices : MicroBatchesOf(all, rank)) {
      const MicroBatch micro = Gather(all.groups, indices);
      metrics->matrix_operations += ForwardOperations(state_->config(), micro.inputs);
      std::vector<float> logprobs(micro.num_response_tokens);
      if (rank == ranks_.rank()) pass_.Forward(*policy_, micro.inputs, micro.temperature, logprobs, {}, /*keep=*/false);
      auto next = logprobs.begin();
      for (const size_t index : indices) {
        for (const TrainingSequence& sequence : all.groups[index].sequences) {
          const auto end = next + static_cast<int64_t>(sequence.rollout->tokens.size());
          result[index].insert(result[index].end(), next, end);
          next = end;
        }
        if (rank != 0) transfers.push_back({rank, 0, result[index].data(), result[index].size() * sizeof(float)});
      }
    }
  }
  ranks_.Move(transfers);
  return result;
}

/// One optimiser step on these groups. False when they have no gradient.
bool Trainer::TrainGroups(const Part& part, UpdateResult* result) {
  Prepare();
  Metrics& metrics = result->metrics;
  const ClaimTotals totals = Totals(part.groups);
  bool any = false;
  for (int rank = 0; rank < ranks_.size(); ++rank) any |= !MicroBatchesOf(part, rank).empty();
  if (!any || totals.num_tokens == 0) return false;
  gradients_.Zero(pool_);
  std::vector<MicroBatch> micro_batches;
  std::vector<ForwardValues> values;
  for (const auto& indices : MicroBatchesOf(part, ranks_.rank())) {
    micro_batches.push_back(Gather(part.groups, indices));
    values.emplace_back(micro_batches.back().num_response_tokens, reference_.policy() != nullptr);
  }
  for (size_t i = 0; i < micro_batches.size() && std::isfinite(metrics.loss); ++i)
    TrainMicroBatch(micro_batches[i], totals, part, &values[i], &metrics);
  AddOtherRanks(part, totals, &values, &metrics);
  if (!std::isfinite(metrics.loss)) {
    result->failure = "the loss is not a finite number";
    return false;
  }
  const PhaseTimer timer(&metrics.seconds.optimizer);
  const std::vector<std::span<float>> gradients = CollectGradients();
  std::vector<double> squares;
  const double norm = optimizer_.Norm(gradients, &squares);
  metrics.AddGradient(norm, gradient_names_, squares);
  if (!std::isfinite(norm)) {
    result->failure = "the gradient's norm is not a finite number";
    return false;
  }
  if (norm == 0) return false;
  metrics.lr = optimizer_.Step(gradients, norm, state_);
  packed_ = false;
  return true;
}

/// On one thread: the first look at a tensor may complete it.
std::vector<std::span<float>> Trainer::CollectGradients() {
  std::vector<std::span<float>> gradients;
  const Adapter& adapter = state_->adapter();
  if (!adapter.exists()) {
    for (size_t i = 0; i < gradients_.size(); ++i) gradients.push_back(gradients_.Tensor(i));
    std::vector<ranks::Reduction> reductions;
    for (const State::Part& part : state_->parts()) reductions.push_back({part.owner, gradients[part.trainable].subspan(part.begin, part.count)});
    ranks_.Add(reductions);
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
    matrices.push_back({target.n, target.k, gradients_.Tensor(target.parameter).data(), state_->Factor(2 * t).data(),
                        state_->Factor(2 * t + 1).data(), gradients[2 * t].data(), gradients[2 * t + 1].data()});
  }
  FactorGradients(matrices, adapter.rank, adapter.scale(), pool_);
  // Of the factors, since the matrices' gradients would be hundreds of times as much to send.
  const ranks::Reduction all{0, {factor_gradients_.as<float>(), next}};
  ranks_.Add({&all, 1});
  return gradients;
}

/// Rank 0 computes the others' losses from what their forward passes gave, for the metrics: it takes no time, and numbers that are not sums
/// (quantiles, say) come out as with one rank. Then all have the loss of all.
void Trainer::AddOtherRanks(const Part& part, const ClaimTotals& totals, std::vector<ForwardValues>* own, Metrics* metrics) {
  if (ranks_.size() == 1) return;
  const PhaseTimer timer(&metrics->seconds.backward);  // mostly the wait for ranks that have more to compute
  std::vector<MicroBatch> others;
  std::vector<ForwardValues> theirs;
  std::vector<ranks::Transfer> transfers;
  const bool has_reference = reference_.policy() != nullptr;
  const size_t num_own = own->size();
  for (int rank = 1; rank < ranks_.size(); ++rank) {
    const auto lists = MicroBatchesOf(part, rank);
    for (size_t i = 0; i < lists.size(); ++i) {
      MicroBatch micro = Gather(part.groups, lists[i]);
      const size_t count = micro.num_response_tokens;
      ForwardValues values(ranks_.IsFirst() || rank == ranks_.rank() ? count : 0, has_reference);  // others have no part in this transfer
      if (rank == ranks_.rank() && i < num_own) values = std::move((*own)[i]);
      others.push_back(std::move(micro));
      theirs.push_back(std::move(values));
      for (auto* array : {&theirs.back().logprobs, &theirs.back().entropies}) transfers.push_back({rank, 0, array->data(), count * sizeof(float)});
      if (has_reference) transfers.push_back({rank, 0, theirs.back().reference.data(), count * sizeof(float)});
    }
  }
  ranks_.Move(transfers);
  if (ranks_.IsFirst()) {
    for (size_t i = 0; i < others.size(); ++i) {
      Loss(others[i], totals, part, theirs[i], metrics);
      metrics->forward_tokens += others[i].num_tokens;
      metrics->matrix_operations += (has_reference ? 2 : 1) * ForwardOperations(state_->config(), others[i].inputs) +
                                    BackwardOperations(state_->config(), state_->adapter(), others[i].inputs);
    }
  }
  const ranks::Transfer loss{0, ranks::kEveryOther, &metrics->loss, sizeof metrics->loss};
  ranks_.Move({&loss, 1});
}

void Trainer::TrainMicroBatch(const MicroBatch& micro, const ClaimTotals& totals, const Part& part, ForwardValues* values, Metrics* metrics) {
  const double operations = ForwardOperations(state_->config(), micro.inputs);
  {
    const PhaseTimer timer(&metrics->seconds.forward);
    if (reference_.policy() != nullptr) {
      pass_.Forward(*reference_.policy(), micro.inputs, micro.temperature, values->reference, {}, /*keep=*/false);
      metrics->matrix_operations += operations;
    }
    pass_.Forward(*policy_, micro.inputs, micro.temperature, values->logprobs, values->entropies, /*keep=*/true);
    metrics->forward_tokens += micro.num_tokens;
    metrics->matrix_operations += operations;
  }
  const TokenGradients gradients = Loss(micro, totals, part, *values, metrics);
  if (!std::isfinite(metrics->loss)) return;
  const PhaseTimer timer(&metrics->seconds.backward);
  metrics->matrix_operations += BackwardOperations(state_->config(), state_->adapter(), micro.inputs);
  pass_.Backward(*policy_, gradients.of_logprobs, gradients.of_entropies, &gradients_);
}

/// Adds the micro-batch's loss to the metrics; returns its derivatives.
Trainer::TokenGradients Trainer::Loss(const MicroBatch& micro, const ClaimTotals& totals, const Part& part, const ForwardValues& values,
                                      Metrics* metrics) const {
  const size_t num_tokens = micro.num_response_tokens;
  TokenGradients gradients{std::vector<float>(num_tokens, 0.0f), std::vector<float>(options_.method.UsesEntropy() ? num_tokens : 0, 0.0f)};
  size_t first = 0;  // response tokens of the micro-batch before this sequence
  std::vector<double> current, old, reference_values, entropy_values;
  SequenceTerms terms;
  for (const size_t index : micro.indices) {
    size_t first_in_group = 0;
    for (const TrainingSequence& sequence : micro.groups[index].sequences) {
      Pick(sequence, values.logprobs, first, &current);
      Pick(sequence, values.entropies, first, &entropy_values);
      if (options_.method.old_is_behaviour) {
        old = sequence.behaviour;
      } else if (part.old_logprobs.empty()) {
        old = current;
      } else {
        Pick(sequence, part.old_logprobs[index], first_in_group, &old);
      }
      if (reference_.policy() != nullptr) Pick(sequence, values.reference, first, &reference_values);
      const double weight = sequence.trained.empty() ? 0 : options_.method.loss.aggregation->weight(totals, sequence.NumCounted());
      SequenceLoss(options_.method.loss, {current, old, sequence.behaviour, reference_values, entropy_values, sequence.advantage, weight}, &terms);
      metrics->loss += terms.loss;
      metrics->AddSequence(options_.method, sequence, current, old, entropy_values, terms);
      for (size_t t = 0; t < sequence.trained.size(); ++t) {
        const size_t token = first + static_cast<size_t>(sequence.trained[t]);
        gradients.of_logprobs[token] = static_cast<float>(terms.gradients[t]);
        if (options_.method.UsesEntropy()) gradients.of_entropies[token] = static_cast<float>(terms.entropy_gradient);
      }
      first += sequence.rollout->tokens.size();
      first_in_group += sequence.rollout->tokens.size();
    }
  }
  return gradients;
}

}  // namespace april::grpo
