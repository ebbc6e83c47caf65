#include "grpo/state_digest.h"

#include <utility>
#include <vector>

#include "base/digest.h"
#include "kernels/memory.h"
#include "weights/manifest.h"

namespace april::grpo {
namespace {

/// `bytes(view)`: where a tensor's values are.
template <typename Bytes>
uint64_t DigestOfTensors(const State& state, Bytes bytes) {
  std::vector<weights::Manifest::Tensor> tensors;
  for (const weights::TensorView& view : state.RoundedViews()) {
    tensors.push_back({view.name, weights::Name(view.dtype), view.shape, Digest(bytes(view), view.num_bytes)});
  }
  return weights::WeightsDigest(std::move(tensors));
}

}  // namespace

uint64_t DigestOf(const State& state) {
  return DigestOfTensors(state, [](const weights::TensorView& view) { return view.data; });
}

uint64_t DigestOf(const weights::ModelFiles& files, const State& like) {
  kernels::Memory memory;
  return DigestOfTensors(like, [&](const weights::TensorView& view) -> const void* {
    memory = kernels::Memory(view.num_bytes);
    files.Read(view.name, view.shape, view.dtype, memory.data());
    return memory.data();
  });
}

}  // namespace april::grpo
