// What Forward leaves for Backward. Private to the model.
#pragma once

#include <optional>
#include <vector>

#include "kernels/memory.h"
#include "model/training.h"
#include "model/training_plan.h"

namespace april::model {

/// Gradient tiles whose logits go through Backward together.
inline constexpr int64_t kHeadTiles = 8;

/// Columns that a thread takes of work that goes over all rows in order, and of a product that is used up at once.
inline constexpr int64_t kScratchColumns = 64;

// Rows of logits lie a little more than their length apart: rows a power of two apart would share one set of the cache.
inline constexpr int64_t kRowGap = 32;
inline constexpr int64_t kHeadStride = kHeadSlice + kRowGap;

/// Grows `memory` to `count` values and half as many again when it has less room; what it held is then lost. Room that is not touched costs nothing,
/// and micro-batches of about the same size find the pages of the one before.
template <typename T>
T* Room(kernels::Memory* memory, int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(T);
  if (memory->size() < bytes) {
    *memory = {};
    *memory = kernels::Memory(bytes + bytes / 2);
  }
  return memory->as<T>();
}

struct TrainingPass::State {
  State(const Config& model_config, const kernels::Kernels& kernel_set, kernels::ThreadPool& threads, uint64_t bytes)
      : config(model_config), kernels(kernel_set), pool(threads), pass(model_config, kernel_set, threads.num_threads()), activation_bytes(bytes) {}

  void Plan(std::span<const TrainingGroup> groups, double sampling_temperature, bool keep);
  /// Lays out the kept activations: of one in `input_distance` layers its input, of the first `num_whole` layers all, of the first `num_kept_targets`
  /// their logits.
  void PlaceActivations(bool keep);
  /// Decides whose logits are kept in at most that much memory, and makes room for the others'. Returns the bytes that the kept ones take.
  int64_t PlaceLogits(int64_t bytes);
  void RunLayers(Worker& worker, const PackedPolicy& policy);
  void RunHead(Worker& worker, const PackedPolicy& policy, std::span<float> logprobs, std::span<float> entropies);
  int64_t LogitStride() const { return config.vocab + kRowGap; }
  KvBase Kv() const;
  float Scale() const { return SoftmaxScale(temperature); }

  const Config config;
  const kernels::Kernels& kernels;
  kernels::ThreadPool& pool;
  LayerPass pass;
  const uint64_t activation_bytes;

  std::optional<TrainingPlan> plan;
  double temperature = 1;
  bool kept = false;
  void RequireRoom(int64_t bytes);                  ///< of activations; throws Runtime when what is not touched yet is not there
  int64_t activation_room = 0;                      ///< bytes, the most so far
  int64_t num_whole = 0;                            ///< layers that keep all their activations
  int64_t input_distance = 1;                       ///< between layers that keep their input; 1 where any layer keeps more
  int64_t num_kept_targets = 0;                     ///< the first ones, which keep their logits
  std::vector<Activations> layers;                  ///< what each layer's forward writes to
  Activations again;                                ///< where a layer is computed again
  std::vector<float*> inputs;                       ///< where Backward finds each layer's input; not kept ones share places
  std::vector<float> log_sum_exps, entropy_values;  ///< by target; entropies only when asked for
  std::vector<kernels::ChunkSums> chunks;           ///< of the logits at hand

  kernels::Memory kv_memory, x_memory, h_memory, logits_memory, inputs_memory, whole_memory, shared_memory;
  float *x = nullptr, *kept_logits = nullptr;
  void* h = nullptr;

  // Working memory of Backward.
  kernels::Memory dx, dx_elem, dh, inv_rms, wide, dattended, delta, dq, dk, dv, packed_dy, packed_x, tiles, x_again, gathered, dgathered, dlogits,
      logits_again;
  ThreadScratch scratch;
  size_t scratch_bytes = 0;
};

/// The backward of the micro-batch in `state`, by all threads of a region.
class BackwardPass {
 public:
  BackwardPass(TrainingPass::State& state, const PackedPolicy& policy, std::span<const float> logprob_gradients,
               std::span<const float> entropy_gradients, Gradients* gradients);
  void Run(Worker& worker);

 private:
  /// Places of a layer's parameters after its first, in the order of Parameters().
  struct Indices {
    explicit Indices(const Config& config);
    const size_t norm1 = 0, q = 1, k = 2, v = 3, q_bias = 4;
    const size_t q_norm, o, norm2, gate, up, down, count;
  };

  void RunHead(Worker& worker);
  /// `tiles` count their rows from target `first`.
  void RunHeadTiles(Worker& worker, int64_t first, const Tiles& tiles);
  void HeadSlice(Worker& worker, int64_t slice, int64_t first, const Tiles& tiles);
  void ScatterHidden(Worker& worker, int64_t first, int64_t count);
  /// The inputs of the layers up to `last` that were not kept, from the kept one before them.
  void InputsAgain(Worker& worker, int64_t last);
  void ComputeAgain(Worker& worker, int64_t layer);
  void CopyRows(Worker& worker, const float* from, float* to);
  void Mlp(Worker& worker, const PackedLayer& layer, const Activations& saved, size_t parameter);
  void ActivationGradient(Worker& worker, const PackedLayer& layer, const Activations& saved);
  void Attention(Worker& worker, const PackedLayer& layer, const Activations& saved, size_t parameter);
  void AttendedGradient(Worker& worker, const PackedLayer& layer, const Activations& saved);
  void RotationGradient(Worker& worker, const PackedLayer& layer, const Activations& saved, size_t parameter);
  void Lookups(Worker& worker);

  void RoundGradient(Worker& worker);
  void NormAgain(Worker& worker, const float* x, const std::vector<float>& weight);
  void NormGradient(Worker& worker, const float* x, const std::vector<float>& weight, size_t parameter);
  using PackRows = void (*)(const kernels::PackRowsArgs&);
  void Pack(Worker& worker, PackRows pack, const Tiles& tiles, const void* x, int64_t stride, int64_t n, kernels::Memory* packed);
  /// dw [n, k] += dy^T packed_x. Does nothing when dw is null: a gradient that is not wanted.
  void WeightGradient(Worker& worker, const Tiles& tiles, const void* dy, int64_t dy_stride, int64_t n, int64_t k, float* dw);
  /// Adds `tiles` [num_tiles, n] to the gradient, in order, when it is wanted.
  void AddTiles(Worker& worker, int64_t num_tiles, int64_t n, size_t parameter);

  const void* At(const void* elem, int64_t offset) const { return static_cast<const char*>(elem) + offset * s_.kernels.element_bytes; }
  void* At(void* elem, int64_t offset) const { return static_cast<char*>(elem) + offset * s_.kernels.element_bytes; }

  TrainingPass::State& s_;
  const TrainingPlan& plan_;
  const PackedPolicy& policy_;
  const kernels::Kernels& kernels_;
  const Config& config_;
  std::span<const float> logprob_gradients_, entropy_gradients_;
  Gradients& gradients_;
  std::vector<size_t> lookup_slots_;
  int64_t rows_, hidden_, q_, kv_, inner_;
};

}  // namespace april::model
