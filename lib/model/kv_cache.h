// Keys and values in blocks of a fixed number of positions; sequences share whole blocks of a common prompt.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/kernels.h"
#include "model/config.h"

namespace april::model {

/// One sequence's blocks: position p lies in blocks[p / kKvBlock]. The holder owns one reference to each block.
struct Sequence {
  std::vector<int32_t> blocks;
  int64_t length = 0;  ///< positions whose keys and values are stored
};

class KvCache {
 public:
  KvCache(const Config& config, const kernels::Kernels& kernels, int64_t num_blocks);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  int64_t num_blocks() const;
  int64_t num_free_blocks() const;
  static int64_t BlocksFor(int64_t positions);
  static uint64_t BytesPerBlock(const Config& config, const kernels::Kernels& kernels);

  /// Makes room for positions up to `length` (not included). False, with nothing changed, when blocks run out.
  bool Reserve(Sequence* sequence, int64_t length);
  /// A second sequence with the same first `length` positions: whole blocks are shared, a partly filled last one is copied. False when blocks run
  /// out.
  bool Fork(const Sequence& from, int64_t length, Sequence* to);
  void Release(Sequence* sequence);

  // For the forward pass: where layer `layer` of a block lies.
  void* KeyBase(int64_t layer) const;
  void* ValueBase(int64_t layer) const;
  int64_t block_stride_bytes() const;  ///< from one block's keys to the next block's, within a layer

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace april::model
