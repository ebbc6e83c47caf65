#include "model/kv_cache.h"

#include <cstring>

#include "kernels/memory.h"

namespace april::model {

struct KvCache::State {
  int64_t layers = 0;
  size_t half_bytes = 0;   ///< the keys of one block and layer; the values follow
  size_t layer_bytes = 0;  ///< all blocks of a layer
  kernels::Memory memory;
  std::vector<int32_t> references;
  std::vector<int32_t> free;
  std::vector<bool> used_before;  ///< memory is zero until then

  char* Block(int64_t layer, int32_t block) const {
    return memory.as<char>() + static_cast<size_t>(layer) * layer_bytes + static_cast<size_t>(block) * 2 * half_bytes;
  }

  /// Blocks start as zeros: a row reads its whole last block, and what an earlier owner left might not be finite.
  int32_t Take() {
    const int32_t block = free.back();
    free.pop_back();
    references[static_cast<size_t>(block)] = 1;
    if (used_before[static_cast<size_t>(block)]) {
      for (int64_t layer = 0; layer < layers; ++layer) std::memset(Block(layer, block), 0, 2 * half_bytes);
    }
    used_before[static_cast<size_t>(block)] = true;
    return block;
  }
};

KvCache::KvCache(const Config& config, const kernels::Kernels& kernels, int64_t num_blocks) : state_(std::make_unique<State>()) {
  state_->layers = config.layers;
  state_->half_bytes = kernels.kv_block_bytes(config.kv_heads, config.head_dim);
  state_->layer_bytes = static_cast<size_t>(num_blocks) * 2 * state_->half_bytes;
  state_->memory = kernels::Memory(static_cast<size_t>(config.layers) * state_->layer_bytes);
  state_->references.resize(static_cast<size_t>(num_blocks));
  state_->used_before.resize(static_cast<size_t>(num_blocks));
  for (int64_t block = num_blocks; block-- > 0;) state_->free.push_back(static_cast<int32_t>(block));
}

KvCache::~KvCache() = default;

int64_t KvCache::num_blocks() const { return static_cast<int64_t>(state_->references.size()); }
int64_t KvCache::num_free_blocks() const { return static_cast<int64_t>(state_->free.size()); }
int64_t KvCache::BlocksFor(int64_t positions) { return (positions + kernels::kKvBlock - 1) / kernels::kKvBlock; }

uint64_t KvCache::BytesPerBlock(const Config& config, const kernels::Kernels& kernels) {
  return static_cast<uint64_t>(config.layers) * 2 * kernels.kv_block_bytes(config.kv_heads, config.head_dim);
}

bool KvCache::Reserve(Sequence* sequence, int64_t length) {
  const int64_t missing = BlocksFor(length) - static_cast<int64_t>(sequence->blocks.size());
  if (missing > num_free_blocks()) return false;
  for (int64_t i = 0; i < missing; ++i) sequence->blocks.push_back(state_->Take());
  return true;
}

bool KvCache::Fork(const Sequence& from, int64_t length, Sequence* to) {
  const int64_t whole = length / kernels::kKvBlock;
  const bool partial = length % kernels::kKvBlock != 0;
  if (partial && state_->free.empty()) return false;
  Sequence copy;
  copy.length = length;
  copy.blocks.assign(from.blocks.begin(), from.blocks.begin() + whole);
  for (const int32_t block : copy.blocks) ++state_->references[static_cast<size_t>(block)];
  if (partial) {
    const int32_t source = from.blocks[static_cast<size_t>(whole)], target = state_->Take();
    for (int64_t layer = 0; layer < state_->layers; ++layer) {
      std::memcpy(state_->Block(layer, target), state_->Block(layer, source), 2 * state_->half_bytes);
    }
    copy.blocks.push_back(target);
  }
  *to = std::move(copy);
  return true;
}

void KvCache::Release(Sequence* sequence) {
  for (const int32_t block : sequence->blocks) {
    if (--state_->references[static_cast<size_t>(block)] == 0) state_->free.push_back(block);
  }
  *sequence = {};
}

void* KvCache::KeyBase(int64_t layer) const { return state_->Block(layer, 0); }
void* KvCache::ValueBase(int64_t layer) const { return state_->Block(layer, 0) + state_->half_bytes; }
int64_t KvCache::block_stride_bytes() const { return static_cast<int64_t>(2 * state_->half_bytes); }

}  // namespace april::model
