#include "grpo/state_digest.h"

#include <algorithm>
#include <string_view>
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

uint64_t DigestOfOptimizer(State* state, kernels::ThreadPool& pool, ranks::Ranks& ranks) {
  constexpr size_t kPieceBytes = 1u << 20;  // small enough to be shared out evenly, and large enough that its digest runs at the memory's speed
  std::vector<std::string_view> pieces;
  for (size_t i = 0; i < state->trainables().size(); ++i) {
    for (const std::span<float> part : {state->Master(i), state->FirstMoment(i), state->SecondMoment(i)}) {
      const std::string_view bytes(reinterpret_cast<const char*>(part.data()), part.size_bytes());
      for (size_t begin = 0; begin < bytes.size(); begin += kPieceBytes) pieces.push_back(bytes.substr(begin, kPieceBytes));
    }
  }
  std::vector<uint64_t> digests(pieces.size());
  pool.Run([&](kernels::ThreadPool::Worker& worker) {
    const auto step = static_cast<size_t>(worker.num_threads());
    for (size_t i = static_cast<size_t>(worker.index()); i < pieces.size(); i += step) digests[i] = Digest(pieces[i]);
  });
  std::vector<uint64_t> by_rank(static_cast<size_t>(ranks.size()));
  by_rank[static_cast<size_t>(ranks.rank())] = Digest(digests.data(), digests.size() * sizeof(uint64_t));
  std::vector<ranks::Transfer> transfers;
  for (int rank = 1; rank < ranks.size(); ++rank) transfers.push_back({rank, 0, &by_rank[static_cast<size_t>(rank)], sizeof(uint64_t)});
  ranks.Move(transfers);
  return Digest(by_rank.data(), by_rank.size() * sizeof(uint64_t));
}

}  // namespace april::grpo
