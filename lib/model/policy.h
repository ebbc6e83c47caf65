// One policy version in memory: weights packed for a kernel set. Immutable once made, shared by generation, scoring and training.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/thread_pool.h"
#include "model/config.h"
#include "weights/model_files.h"
#include "weights/tensor.h"

namespace april::model {

/// Names and shapes of all parameters, in the one order that gradients, optimiser state and checkpoints use (Hugging Face names).
struct ParameterSpec {
  std::string name;
  std::vector<int64_t> shape;
  size_t NumElements() const;
};
std::vector<ParameterSpec> Parameters(const Config& config);

class Policy {
 public:
  /// Reads every parameter (converted to the kernel set's element type) and packs it once. Throws Data naming a missing tensor or wrong shape.
  ///   Memory  that of `spare` when nobody else holds it and it is such a policy, too: writing to pages that are there is several times cheaper.
  static std::shared_ptr<const Policy> Load(const weights::ModelFiles& files, const kernels::Kernels& kernels, kernels::ThreadPool& pool,
                                            const std::shared_ptr<const Policy>& spare = nullptr);
  /// From tensors in memory, in the order of Parameters(config), dtype of the kernel set. For the trainer, which just rounded them.
  /// With `for_training` the transposed weights that the backward pass needs are packed too.
  static std::shared_ptr<const Policy> FromTensors(const Config& config, const std::vector<weights::TensorView>& tensors,
                                                   const kernels::Kernels& kernels, kernels::ThreadPool& pool, bool for_training,
                                                   const std::shared_ptr<const Policy>& spare = nullptr);
  virtual ~Policy() = default;
  virtual const Config& config() const = 0;
  virtual const kernels::Kernels& kernels() const = 0;
  virtual uint64_t NumBytes() const = 0;
};

}  // namespace april::model
