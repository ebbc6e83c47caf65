// The reference policy of --kl: the initial weights, or those that --ref-reset took later.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "grpo/state.h"
#include "kernels/kernels.h"
#include "kernels/memory.h"
#include "kernels/thread_pool.h"
#include "model/policy.h"
#include "weights/model_files.h"
#include "weights/tensor.h"

namespace april::grpo {

/// The network with bf16 weights: what is published is what is computed with. An f32 kernel set gets them widened. `reuse` gives its memory back.
std::shared_ptr<const model::Policy> PackRounded(const model::Config& config, std::vector<weights::TensorView> rounded,
                                                 const kernels::Kernels& kernels, kernels::ThreadPool& pool, bool for_training,
                                                 std::shared_ptr<const model::Policy> reuse = nullptr);

class Reference {
 public:
  /// `initial` may be null: there is no --kl.
  explicit Reference(std::shared_ptr<const model::Policy> initial) : policy_(std::move(initial)) {}

  const model::Policy* policy() const { return policy_.get(); }
  /// The state's bf16 weights are the reference from now on.
  void Take(const State& state, const kernels::Kernels& kernels, kernels::ThreadPool& pool);
  /// These files, which a checkpoint of later than a reset holds, must be in the next one, too. The policy was made of them, if there is one.
  void Keep(const weights::ModelFiles& files, const State& state);
  /// bf16, by Hugging Face name; empty as long as it is the initial one. Views into this object.
  const std::vector<weights::TensorView>& tensors() const { return tensors_; }

 private:
  std::vector<uint16_t*> Lay(const std::vector<weights::TensorView>& like);

  std::shared_ptr<const model::Policy> policy_;
  kernels::Memory memory_;
  std::vector<weights::TensorView> tensors_;
};

}  // namespace april::grpo
