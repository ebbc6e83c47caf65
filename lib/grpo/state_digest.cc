#include "grpo/state_digest.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "kernels/contract.h"
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
  constexpr auto kDigestChunk = static_cast<size_t>(kernels::kSumChunk);  // of formats/checkpoints.md; parts of ranks are whole chunks
  const auto num_chunks = [](size_t size) { return (size + kDigestChunk - 1) / kDigestChunk; };
  std::vector<size_t> places;  // of each trainable's first chunk in `digests`: those of its masters, of its first, of its second moments
  size_t total = 0;
  for (size_t i = 0; i < state->trainables().size(); ++i) {
    places.push_back(total);
    total += 3 * num_chunks(state->Size(i));
  }
  struct Chunk {
    std::span<const float> values;
    size_t place;
  };
  std::vector<Chunk> own;
  std::vector<uint64_t> digests(total);
  std::vector<ranks::Transfer> transfers;
  for (const State::Part& part : state->parts()) {
    const std::span<float> arrays[] = {state->Master(part.trainable), state->FirstMoment(part.trainable), state->SecondMoment(part.trainable)};
    for (size_t array = 0; array < 3; ++array) {
      const size_t first = places[part.trainable] + array * num_chunks(state->Size(part.trainable)) + part.begin / kDigestChunk;
      if (part.owner != 0) transfers.push_back({part.owner, 0, &digests[first], num_chunks(part.count) * sizeof(uint64_t)});
      for (size_t begin = 0; part.owner == ranks.rank() && begin < part.count; begin += kDigestChunk)
        own.push_back({arrays[array].subspan(begin, std::min(kDigestChunk, part.count - begin)), first + begin / kDigestChunk});
    }
  }
  pool.Run([&](kernels::ThreadPool::Worker& worker) {
    const auto step = static_cast<size_t>(worker.num_threads());
    for (size_t i = static_cast<size_t>(worker.index()); i < own.size(); i += step)
      digests[own[i].place] = Digest(own[i].values.data(), own[i].values.size_bytes());
  });
  ranks.Move(transfers);
  return Digest(digests.data(), digests.size() * sizeof(uint64_t));
}

}  // namespace april::grpo
