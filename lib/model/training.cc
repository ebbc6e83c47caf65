#include "model/training.h"

#include <algorithm>
#include <cstring>

#include "base/available_memory.h"
#include "base/bytes.h"
#include "base/error.h"
#include "model/forward.h"
#include "model/training_state.h"

namespace april::model {
namespace {

/// Inputs that are held at once: the kept ones, and those between two of them.
int64_t InputPlaces(int64_t layers, int64_t distance) { return DivideUp(layers, distance) + distance - 1; }

/// The smallest distance whose inputs number at most `places`; without such, the one with the fewest.
int64_t InputDistance(int64_t layers, int64_t places) {
  int64_t best = 1;
  for (int64_t distance = 2; InputPlaces(layers, best) > places && distance <= layers; ++distance) {
    if (InputPlaces(layers, distance) < InputPlaces(layers, best)) best = distance;
  }
  return best;
}

}  // namespace

void TrainingPass::State::Plan(std::span<const TrainingGroup> groups, double sampling_temperature, bool keep) {
  kept = false;
  plan.emplace(config, groups);
  temperature = sampling_temperature;
  pass.rope().Extend(plan->max_positions);
  const auto rows = static_cast<int64_t>(plan->tokens.size());
  const size_t kv_bytes = static_cast<size_t>(plan->num_blocks) * 2 * kernels.kv_block_bytes(config.kv_heads, config.head_dim);
  std::memset(Room<char>(&kv_memory, static_cast<int64_t>(kv_bytes)), 0, kv_bytes);
  x = Room<float>(&x_memory, rows * config.hidden);
  h = Room<char>(&h_memory, std::max(rows, kHeadTiles * kernels::kGradientTile) * config.hidden * kernels.element_bytes);
  log_sum_exps.resize(static_cast<size_t>(plan->num_targets()));
  PlaceActivations(keep);
}

void TrainingPass::State::PlaceActivations(bool keep) {
  const auto rows = static_cast<int64_t>(plan->tokens.size());
  const ActivationLayout light{config, kernels, rows, false}, whole{config, kernels, rows, true};
  Activations unused;
  const auto layer_bytes = static_cast<int64_t>(whole.Place(nullptr, &unused)),
             input_bytes = rows * config.hidden * static_cast<int64_t>(sizeof(float));
  input_distance =
      keep ? InputDistance(config.layers, (static_cast<int64_t>(activation_bytes) - layer_bytes) / std::max<int64_t>(1, input_bytes)) : 1;
  const int64_t num_inputs = keep ? InputPlaces(config.layers, input_distance) : 0;
  const int64_t budget = static_cast<int64_t>(activation_bytes) - config.layers * input_bytes;
  // Whole layers first: a byte of them spares more work than a byte of logits.
  num_whole = keep ? std::clamp<int64_t>(budget / std::max<int64_t>(1, layer_bytes), 0, config.layers) : 0;
  if (keep && num_whole < config.layers) num_whole = std::max<int64_t>(0, num_whole - 1);  // one is where layers are computed again
  const int64_t logits_bytes = PlaceLogits(keep && num_whole == config.layers ? budget - num_whole * layer_bytes : 0);
  const int64_t shared_bytes = num_whole == config.layers ? 0 : keep ? layer_bytes : static_cast<int64_t>(light.Place(nullptr, &unused));
  const int64_t addend_bytes = keep ? plan->num_addend_rows * 2 * config.kv_heads * config.head_dim * static_cast<int64_t>(sizeof(float)) : 0;
  RequireRoom(num_whole * layer_bytes + logits_bytes + shared_bytes + num_inputs * input_bytes + addend_bytes);
  layers.assign(static_cast<size_t>(config.layers), {});
  again = {};
  if (num_whole < config.layers) {
    char* base = Room<char>(&shared_memory, shared_bytes);
    if (keep) whole.Place(base, &again);
    for (int64_t i = num_whole; i < config.layers; ++i) light.Place(base, &layers[static_cast<size_t>(i)]);
  }
  char* base = Room<char>(&whole_memory, num_whole * layer_bytes + logits_bytes);
  kept_logits = reinterpret_cast<float*>(base + num_whole * layer_bytes);
  for (int64_t i = 0; i < num_whole; ++i) whole.Place(base + i * layer_bytes, &layers[static_cast<size_t>(i)]);
  again.h = h;
  for (Activations& layer : layers) layer.h = h;
  inputs.clear();
  if (!keep) return;
  float* first = Room<float>(&inputs_memory, num_inputs * rows * config.hidden);
  for (int64_t i = 0; i < config.layers; ++i) {
    const int64_t behind = i % input_distance, place = behind == 0 ? i / input_distance : num_inputs - behind;
    inputs.push_back(first + place * rows * config.hidden);
    if (behind == 0) layers[static_cast<size_t>(i)].x_in = inputs.back();
  }
}

void TrainingPass::State::RequireRoom(int64_t bytes) {
  if (bytes <= activation_room) return;
  RequireMemory(static_cast<uint64_t>(bytes - activation_room), "a micro-batch of " + std::to_string(plan->tokens.size()) + " tokens",
                "a smaller --micro-batch-tokens or --activation-memory; a group is never cut, and keeps " +
                    HumanBytes(static_cast<uint64_t>(InputPlaces(config.layers, InputDistance(config.layers, 0)) * config.hidden) * sizeof(float)) +
                    " a token at least");
  activation_room = bytes;
}

KvBase TrainingPass::State::Kv() const {
  const size_t bytes = kernels.kv_block_bytes(config.kv_heads, config.head_dim);
  return {kv_memory.data(), kv_memory.as<char>() + bytes, static_cast<int64_t>(2 * bytes)};
}

void TrainingPass::State::RunLayers(Worker& worker, const PackedPolicy& policy) {
  const Batch batch = plan->batch();
  pass.Embed(worker, policy, batch, x);
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    pass.Layer(worker, policy.layer(layer), batch, Kv(), layers[static_cast<size_t>(layer)], x);
  }
}

TrainingPass::TrainingPass(const Config& config, const kernels::Kernels& kernels, kernels::ThreadPool& pool, uint64_t activation_bytes)
    : state_(std::make_unique<State>(config, kernels, pool, activation_bytes)) {}
TrainingPass::~TrainingPass() = default;

void TrainingPass::Forward(const Policy& policy, std::span<const TrainingGroup> groups, double temperature, std::span<float> logprobs,
                           std::span<float> entropies, bool keep) {
  State& s = *state_;
  s.Plan(groups, temperature, keep);
  const auto num_targets = static_cast<size_t>(s.plan->num_targets());
  if (logprobs.size() != num_targets || (!entropies.empty() && entropies.size() != num_targets)) {
    throw Error::Runtime("log-probabilities of " + std::to_string(num_targets) + " response tokens do not fit " + std::to_string(logprobs.size()) +
                         " places");
  }
  s.pool.Run([&](Worker& worker) {
    s.RunLayers(worker, PackedPolicy::Of(policy));
    s.RunHead(worker, PackedPolicy::Of(policy), logprobs, entropies);
  });
  s.entropy_values.assign(entropies.begin(), entropies.end());
  s.kept = keep;
}

void TrainingPass::Backward(const Policy& policy, std::span<const float> logprob_gradients, std::span<const float> entropy_gradients,
                            Gradients* gradients) {
  State& s = *state_;
  const PackedPolicy& packed = PackedPolicy::Of(policy);
  if (!s.kept) throw Error::Runtime("Backward needs a Forward that kept its activations");
  if (!packed.for_training()) throw Error::Runtime("Backward needs a policy that was packed for training");
  const auto num_targets = static_cast<size_t>(s.plan->num_targets());
  if (logprob_gradients.size() != num_targets || (!entropy_gradients.empty() && entropy_gradients.size() != num_targets)) {
    throw Error::Runtime("gradients of " + std::to_string(logprob_gradients.size()) + " log-probabilities do not fit " + std::to_string(num_targets));
  }
  if (!entropy_gradients.empty() && s.entropy_values.empty()) throw Error::Runtime("gradients of entropies, which Forward was not asked for");
  BackwardPass backward(s, packed, logprob_gradients, entropy_gradients, gradients);
  s.pool.Run([&](Worker& worker) { backward.Run(worker); });
  s.kept = false;
}

}  // namespace april::model
