// What a Policy holds: weights in the layouts of its kernel set. Private to the model.
#pragma once

#include <functional>

#include "kernels/memory.h"
#include "model/policy.h"

namespace april::model {

/// A matrix [n, k] packed for linear, somewhere in its policy's memory. In backward direction the packed matrix is the transposed one.
struct PackedMatrix {
  char* packed = nullptr;
  int64_t n = 0, k = 0;
};

struct PackedLayer {
  std::vector<float> norm1, norm2, q_norm, k_norm, q_bias, k_bias, v_bias;  ///< empty: the architecture has none
  PackedMatrix q, k, v, o, gate, up, down;
  PackedMatrix qkv_t, o_t, gate_up_t, down_t;  ///< empty unless for training
};

/// Vocabulary entries that the backward pass handles at a time; their slice of the last matrix is packed by itself.
inline constexpr int64_t kHeadSlice = 4096;

class PackedPolicy final : public Policy {
 public:
  /// Says where parameter `index` of Parameters(config) lies, row-major in the kernel set's element type: at `room`, once it is written there, or
  /// somewhere of its own.
  using Source = std::function<const void*(size_t index, const ParameterSpec& spec, void* room)>;
  /// Takes the memory of `spare`, which is lost, unless it is null.
  PackedPolicy(const Config& config, const Source& source, const kernels::Kernels& kernels, kernels::ThreadPool& pool, bool for_training,
               PackedPolicy* spare);

  static const PackedPolicy& Of(const Policy& policy) { return static_cast<const PackedPolicy&>(policy); }

  const Config& config() const override { return config_; }
  const kernels::Kernels& kernels() const override { return kernels_; }
  uint64_t NumBytes() const override { return num_bytes_; }
  bool for_training() const { return for_training_; }

  const PackedLayer& layer(int64_t index) const { return layers_[static_cast<size_t>(index)]; }
  const void* embedding() const { return embedding_.data(); }
  const std::vector<float>& final_norm() const { return final_norm_; }
  const PackedMatrix& head() const { return head_; }
  const PackedMatrix& head_t(int64_t slice) const { return head_t_[static_cast<size_t>(slice)]; }

 private:
  struct Loader;

  /// Gives every matrix its sizes, and its place behind `base` in the order of use: one block of memory for all. Returns the bytes used.
  size_t Place(char* base);

  Config config_;
  const kernels::Kernels& kernels_;
  bool for_training_;
  uint64_t num_bytes_ = 0;
  kernels::Memory embedding_;  ///< rows are looked up in it
  kernels::Memory matrices_;
  std::vector<float> final_norm_;
  PackedMatrix head_;
  std::vector<PackedMatrix> head_t_;
  std::vector<PackedLayer> layers_;
};

}  // namespace april::model
