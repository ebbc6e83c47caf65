#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "kernels/memory.h"
#include "model/training.h"

namespace april::model {

struct Gradients::State {
  struct Place {
    size_t offset, size;
  };
  std::vector<Place> places;
  kernels::Memory memory;
  size_t hidden = 0;
  std::unordered_map<uint32_t, size_t> slots;  ///< by token
  std::vector<uint32_t> tokens;                ///< by slot
  std::vector<float> lookups;                  ///< [slots, hidden]

  std::span<float> At(size_t parameter) const {
    const Place& place = places[parameter];
    return place.size == 0 ? std::span<float>() : std::span<float>(memory.as<float>() + place.offset, place.size);
  }

  void Fold() {
    for (size_t slot = 0; slot < tokens.size(); ++slot) {
      float* row = memory.as<float>() + places[0].offset + tokens[slot] * hidden;
      for (size_t i = 0; i < hidden; ++i) row[i] += lookups[slot * hidden + i];
    }
    Forget();
  }

  void Forget() {
    slots.clear();
    tokens.clear();
    lookups.clear();
  }
};

Gradients::Gradients(const Config& config, const std::vector<bool>& wanted) : state_(std::make_unique<State>()) {
  size_t offset = 0;
  for (const ParameterSpec& spec : Parameters(config)) {
    size_t count = wanted.empty() || wanted[state_->places.size()] ? 1 : 0;
    for (const int64_t size : spec.shape) count *= static_cast<size_t>(size);
    state_->places.push_back({offset, count});
    offset += (count + 15) / 16 * 16;
  }
  state_->memory = kernels::Memory(offset * sizeof(float));
  state_->hidden = static_cast<size_t>(config.hidden);
}

Gradients::~Gradients() = default;

void Gradients::Zero(kernels::ThreadPool& pool) {
  constexpr size_t kChunkBytes = size_t{4} << 20;
  state_->Forget();
  const size_t size = state_->memory.size();
  pool.Run([&](kernels::ThreadPool::Worker& worker) {
    for (int64_t chunk; (chunk = worker.NextTask(static_cast<int64_t>((size + kChunkBytes - 1) / kChunkBytes))) >= 0;) {
      const size_t begin = static_cast<size_t>(chunk) * kChunkBytes;
      std::memset(state_->memory.as<char>() + begin, 0, std::min(kChunkBytes, size - begin));
    }
  });
}

std::span<float> Gradients::Tensor(size_t parameter) {
  if (parameter == 0) state_->Fold();
  return state_->At(parameter);
}

size_t Gradients::size() const { return state_->places.size(); }

std::span<float> Gradients::Pending(size_t parameter) { return state_->At(parameter); }

std::vector<size_t> Gradients::LookupSlots(std::span<const uint32_t> tokens) {
  if (state_->places[0].size == 0) return {};
  std::vector<size_t> slots;
  slots.reserve(tokens.size());
  for (const uint32_t token : tokens) {
    const auto [place, added] = state_->slots.try_emplace(token, state_->tokens.size());
    if (added) state_->tokens.push_back(token);
    slots.push_back(place->second);
  }
  state_->lookups.resize(state_->tokens.size() * state_->hidden);
  return slots;
}

float* Gradients::Lookup(size_t slot) { return state_->lookups.data() + slot * state_->hidden; }

}  // namespace april::model
