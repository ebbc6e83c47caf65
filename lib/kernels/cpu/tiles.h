// Products on AMX tiles: sixteen rows of sixteen floats, met with bf16 pairs. Included by amx.cc alone.
//
// The order of a sum is the instruction's (tdpbf16ps), which StepBf16 follows on lanes: steps of 32 elements of the reduction; in each, the even
// elements' products in one chain of fused steps from zero and the odd ones' in another; the two are added, and their sum to the accumulator. An
// incomplete step counts as filled up with zeros. How many rows a tile has changes no row's bits.
//   Source  Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, TDPBF16PS. The tests compare it with that text, bit for bit.
#pragma once

#include "kernels/cpu/product.h"

namespace april::kernels {
namespace {

constexpr int64_t kTileRowCount = 16;                                  // of a tile; a product takes two of them
constexpr int64_t kTileStep = StepBf16::kPack * StepBf16::kStepUnits;  // elements of the reduction in a tile
constexpr int64_t kTileStepBytes = 64;                                 // of a row of them
constexpr int64_t kTileColumns = 32;                                   // of a product: two tiles
constexpr int64_t kProductRows = 2 * kTileRowCount;

// Tiles 0 to 3: accumulators, two rows of two; 4 and 5: rows of the left operand; 6 and 7: columns of the right one.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

/// Rows that this thread's tiles are set to; 0: to nothing.
thread_local int64_t g_tile_rows = 0;

/// While it lives, the thread's tiles are in use: a thread that has them takes longer to be switched.
class TilesInUse {
 public:
  TilesInUse() = default;
  ~TilesInUse() {
    asm volatile("tilerelease");
    g_tile_rows = 0;
  }
  TilesInUse(const TilesInUse&) = delete;
  TilesInUse& operator=(const TilesInUse&) = delete;
};

inline void SetTileRows(int64_t rows) {
  if (rows == g_tile_rows) return;
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.row_bytes[i] = static_cast<uint16_t>(kTileStepBytes);
    config.rows[i] = static_cast<uint8_t>(kTileRowCount);
  }
  const auto first = static_cast<uint8_t>(Minimum(rows, kTileRowCount));
  const auto second = static_cast<uint8_t>(rows > kTileRowCount ? rows - kTileRowCount : 1);
  config.rows[0] = config.rows[1] = config.rows[4] = first;
  config.rows[2] = config.rows[3] = config.rows[5] = second;
  // g++ 12's intrinsic tells the compiler of the first eight bytes alone.
  asm volatile("ldtilecfg %0" ::"m"(config));
  g_tile_rows = rows;
}

/// The left operand: [rows][elements], `row_bytes` apart. Element 32 * i of a row lies i * step_bytes behind its first.
struct TileLeft {
  const char* data;
  int64_t row_bytes;
  int64_t step_bytes;
};

/// The right one: units of pairs [unit][column], `unit_bytes` apart; 16 units are a step.
struct TileRight {
  const char* data;
  int64_t unit_bytes;
  int64_t step_bytes;
};

// The compiler does not know what tiles read and write: memory is settled before the first of these and after the last.

APRIL_INLINE void SettleMemory() { asm volatile("" ::: "memory"); }

/// The accumulators of 17 to 32 rows (kTwo), or of up to 16, from c[r][0..32).
template <bool kTwo>
APRIL_INLINE void LoadSums(const float* c, int64_t c_stride) {
  const int64_t bytes = c_stride * 4;
  _tile_loadd(0, c, bytes);
  _tile_loadd(1, c + kLanes, bytes);
  if constexpr (kTwo) {
    _tile_loadd(2, c + kTileRowCount * c_stride, bytes);
    _tile_loadd(3, c + kTileRowCount * c_stride + kLanes, bytes);
  }
}

template <bool kTwo>
APRIL_INLINE void ClearSums() {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (kTwo) {
    _tile_zero(2);
    _tile_zero(3);
  }
}

template <bool kTwo>
APRIL_INLINE void StoreSums(float* c, int64_t c_stride) {
  const int64_t bytes = c_stride * 4;
  _tile_stored(0, c, bytes);
  _tile_stored(1, c + kLanes, bytes);
  if constexpr (kTwo) {
    _tile_stored(2, c + kTileRowCount * c_stride, bytes);
    _tile_stored(3, c + kTileRowCount * c_stride + kLanes, bytes);
  }
}

/// Adds `steps` steps. With kFetch, what lies `ahead` bytes behind the right operand, which has to be one stream, is fetched into the second cache on
/// the way.
template <bool kTwo, bool kFetch = false>
APRIL_INLINE void AddSteps(TileLeft a, TileRight b, int64_t steps, int64_t ahead = 0) {
  for (int64_t step = 0; step < steps; ++step) {
    if constexpr (kFetch) {
      APRIL_UNROLL
      for (int i = 0; i < 32; ++i) Prefetch(b.data + ahead + i * 64);
    }
    _tile_loadd(6, b.data, b.unit_bytes);
    _tile_loadd(4, a.data, a.row_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b.data + 64, b.unit_bytes);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTwo) {
      _tile_loadd(5, a.data + kTileRowCount * a.row_bytes, a.row_bytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    a.data += a.step_bytes;
    b.data += b.step_bytes;
  }
}

/// Calls body<kTwo>() with the tiles set to so many rows, 1 to 32.
template <class Body>
APRIL_INLINE void WithRows(int64_t rows, Body body) {
  SetTileRows(rows);
  SettleMemory();
  if (rows > kTileRowCount) {
    body.template operator()<true>();
  } else {
    body.template operator()<false>();
  }
  SettleMemory();
}

/// c[r][0..32) (=, or += with kAdd) sum over steps * 32 elements, for 1 to 32 rows; kFetch as above.
template <bool kAdd, bool kFetch = false>
APRIL_INLINE void TileProduct(TileLeft a, TileRight b, int64_t steps, int64_t rows, float* c, int64_t c_stride, int64_t ahead = 0) {
  WithRows(rows, [&]<bool kTwo>() APRIL_LAMBDA_INLINE {
    if constexpr (kAdd) {
      LoadSums<kTwo>(c, c_stride);
    } else {
      ClearSums<kTwo>();
    }
    AddSteps<kTwo, kFetch>(a, b, steps, ahead);
    StoreSums<kTwo>(c, c_stride);
  });
}

/// out[i][j] = in[j][i] of sixteen by sixteen units.
inline void TurnUnits(const char* in, int64_t in_bytes, char* out, int64_t out_bytes) {
  Bits r[16], t[16];
  APRIL_UNROLL
  for (int i = 0; i < 16; ++i) r[i] = LoadBits(in + i * in_bytes);
  APRIL_UNROLL
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  APRIL_UNROLL
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // r[4 g + j], lane l: column 4 l + j of rows 4 g to 4 g + 3.
  APRIL_UNROLL
  for (int j = 0; j < 4; ++j) {
    t[j] = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88);
    t[4 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88);
    t[8 + j] = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
    t[12 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
  }
  APRIL_UNROLL
  for (int j = 0; j < 4; ++j) {
    StoreBits(out + j * out_bytes, _mm512_shuffle_i32x4(t[j], t[4 + j], 0x88));
    StoreBits(out + (8 + j) * out_bytes, _mm512_shuffle_i32x4(t[j], t[4 + j], 0xdd));
    StoreBits(out + (4 + j) * out_bytes, _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0x88));
    StoreBits(out + (12 + j) * out_bytes, _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0xdd));
  }
}

}  // namespace
}  // namespace april::kernels
