// Sizes and orders that the bits of a result depend on. Changing one changes recorded log-probabilities: raise the kernel sets' names with it.
#pragma once

#include <stdint.h>

namespace april::kernels {

/// Positions in one block of keys and values. Attention visits blocks in ascending absolute position.
inline constexpr int64_t kKvBlock = 32;

/// Vocabulary entries per chunk of log-sum-exp and sampling, combined in ascending order.
inline constexpr int64_t kVocabChunk = 1024;

/// Rows per tile of a weight gradient: each tile is one f32 accumulation chain from zero, tiles are added in claim order.
inline constexpr int64_t kGradientTile = 128;

/// Virtual lanes of elementwise functions and of row reductions: element i belongs to lane i % 16; lanes are combined by a fixed tree.
inline constexpr int64_t kLanes = 16;

/// Elements per partial sum of a gradient norm; partial sums are added in ascending order.
inline constexpr int64_t kSumChunk = 65536;

// The bounds of what the kernels take.
inline constexpr int64_t kMaxHeadDim = 256;    ///< head sizes are multiples of kLanes up to this
inline constexpr int64_t kMaxHeadsPerKv = 64;  ///< query heads that share one key head

}  // namespace april::kernels
