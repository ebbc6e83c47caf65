// Gradient of attention for short sequences made of row spans. Products in the element type, sums in f32, one fixed order.
#pragma once

#include "kernels/cpu/attention.h"

namespace april::kernels {
namespace {

constexpr int64_t kQueryTile = 64;

/// Where a call's working arrays lie in its scratch memory.
template <class E>
struct BackwardScratch {
  using Type = typename E::Type;
  char* key_scores;    // keys as the forward stores them: [block][unit of head_dim][32 positions]
  char* value_scores;  // values in the same form, for dout v^T
  char* key_rows;      // [unit of positions][head_dim], for ds k
  char* query_rows;    // of one tile of queries: [unit of rows][head_dim]
  char* dout_rows;
  char* p_columns;  // of one tile and block: [unit of query rows][32 positions]
  char* ds_columns;
  Type* ds;   // [query rows][32 positions]
  float* dk;  // [positions][head_dim]
  float* dv;

  static size_t Bytes(int64_t positions, int64_t head_dim) { return static_cast<size_t>(BackwardScratch().Place(nullptr, positions, head_dim)); }

  /// Sets all pointers; returns the bytes used.
  int64_t Place(char* base, int64_t positions, int64_t head_dim) {
    const int64_t padded = DivideUp(positions, kKvBlock) * kKvBlock, width = static_cast<int64_t>(sizeof(Type));
    int64_t used = 0;
    auto take = [&](int64_t bytes) {
      char* at = base ? base + used : nullptr;
      used += DivideUp(bytes, 64) * 64;
      return at;
    };
    key_scores = take(padded * head_dim * width);
    value_scores = take(padded * head_dim * width);
    key_rows = take(padded * head_dim * width);
    query_rows = take(kQueryTile * head_dim * width);
    dout_rows = take(kQueryTile * head_dim * width);
    p_columns = take(kQueryTile * kKvBlock * width);
    ds_columns = take(kQueryTile * kKvBlock * width);
    ds = reinterpret_cast<Type*>(take(kQueryTile * kKvBlock * width));
    dk = reinterpret_cast<float*>(take(padded * head_dim * 4));
    dv = reinterpret_cast<float*>(take(padded * head_dim * 4));
    return used;
  }
};

template <class E>
size_t AttentionBackwardBytes(int64_t positions, int64_t, int64_t head_dim) {
  return BackwardScratch<E>::Bytes(positions, head_dim);
}

/// Position `index` of an operand in the form of stored keys.
template <class E>
APRIL_INLINE void PutColumn(char* operand, int64_t index, const typename E::Type* row, int64_t head_dim) {
  char* out = operand + index / kKvBlock * KvHeadBytes<E>(head_dim) + index % kKvBlock * 4;
  for (int64_t d = 0; d < head_dim; d += E::kPack, out += kKvBlock * 4) {
    if (row == nullptr) {
      __builtin_memset(out, 0, 4);
    } else {
      __builtin_memcpy(out, row + d, 4);
    }
  }
}

/// Probabilities and score gradients of one tile of queries and one block: p = exp(s - lse), ds = p (dp - delta) scale.
template <class E>
APRIL_INLINE void ScoreGradients(const AttentionBackwardArgs& a, const BackwardScratch<E>& w, int64_t head, int64_t row, int64_t rows,
                                 int64_t query_position, int64_t block_start, float (*s)[kKvBlock], float (*dp)[kKvBlock]) {
  const Vec lane = LaneNumbers();
  for (int64_t r = 0; r < rows; ++r) {
    const Vec lse = Set(a.lse[(row + r) * a.lse_stride + head]), delta = Set(a.delta[(row + r) * a.lse_stride + head]);
    const Vec visible = Set(static_cast<float>(Minimum(kKvBlock, query_position + r - block_start + 1)));
    for (int64_t i = 0; i < kKvBlock; i += kLanes) {
      Vec p = Exp(Sub(Mul(Load(s[r] + i), Set(a.scale)), lse));
      p = SelectLess(Add(lane, Set(static_cast<float>(i))), visible, p, Zero());
      Store(s[r] + i, p);
      Vec ds = Mul(Mul(p, Sub(Load(dp[r] + i), delta)), Set(a.scale));
      Store(dp[r] + i, ds);
      E::Store(w.ds + r * kKvBlock + i, ds);
    }
  }
  for (int64_t r = 0; r < DivideUp(rows, E::kReduceStep) * E::kReduceStep; r += E::kPack) {
    for (int64_t i = 0; i < kKvBlock; i += kLanes) {
      const int64_t at = (r / E::kPack * kKvBlock + i) * 4;
      if constexpr (E::kPack == 2) {
        const auto row_of = [&](const float(*x)[kKvBlock], int64_t of) { return of < rows ? Load(x[of] + i) : Zero(); };
        StoreBits(w.p_columns + at, PairBf16(row_of(s, r), row_of(s, r + 1)));
        StoreBits(w.ds_columns + at, PairBf16(row_of(dp, r), row_of(dp, r + 1)));
      } else {
        StoreBits(w.p_columns + at, AsBits(Load(s[r] + i)));
        StoreBits(w.ds_columns + at, AsBits(Load(dp[r] + i)));
      }
    }
  }
}

template <class E>
void AttentionBackward(const AttentionBackwardArgs& a) {
  using Type = typename E::Type;
  const int64_t group = a.heads / a.kv_heads, head_dim = a.head_dim, width = static_cast<int64_t>(sizeof(Type));
  int64_t positions = 0;
  for (int64_t i = 0; i < a.num_spans; ++i) positions += a.spans[i].count;
  const RowSpan queries = a.spans[a.num_spans - 1];
  const int64_t padded = DivideUp(positions, kKvBlock) * kKvBlock, before = positions - queries.count;

  BackwardScratch<E> w;
  w.Place(static_cast<char*>(a.scratch), positions, head_dim);
  // Position by position; the padding counts as zero.
  const Type* unit_keys[E::kPack] = {};
  int64_t position = 0;
  auto put_position = [&](const Type* k, const Type* v) {
    PutColumn<E>(w.key_scores, position, k, head_dim);
    PutColumn<E>(w.value_scores, position, v, head_dim);
    unit_keys[position % E::kPack] = k;
    if (++position % E::kPack == 0) PutUnits<E>(unit_keys, head_dim, w.key_rows + (position / E::kPack - 1) * head_dim * 4);
  };
  for (int64_t i = 0; i < a.num_spans; ++i) {
    for (int64_t r = a.spans[i].begin; r < a.spans[i].begin + a.spans[i].count; ++r) {
      put_position(static_cast<const Type*>(a.k) + r * a.k_stride + a.kv_head * head_dim,
                   static_cast<const Type*>(a.v) + r * a.v_stride + a.kv_head * head_dim);
    }
  }
  while (position < padded) put_position(nullptr, nullptr);
  __builtin_memset(w.dk, 0, static_cast<size_t>(padded * head_dim) * 4);
  __builtin_memset(w.dv, 0, static_cast<size_t>(padded * head_dim) * 4);

  alignas(64) float s[kQueryTile][kKvBlock], dp[kQueryTile][kKvBlock];
  for (int64_t head = a.kv_head * group; head < (a.kv_head + 1) * group; ++head) {
    for (int64_t first = 0; first < queries.count; first += kQueryTile) {
      const int64_t rows = Minimum(kQueryTile, queries.count - first), row = queries.begin + first;
      const Type* unit_q[E::kPack] = {};
      const Type* unit_dout[E::kPack] = {};
      for (int64_t r = 0; r < DivideUp(rows, E::kReduceStep) * E::kReduceStep; ++r) {
        const Type* q = r < rows ? static_cast<const Type*>(a.q) + (row + r) * a.q_stride + head * head_dim : nullptr;
        const Type* d = r < rows ? static_cast<const Type*>(a.dout) + (row + r) * a.dout_stride + head * head_dim : nullptr;
        unit_q[r % E::kPack] = q;
        unit_dout[r % E::kPack] = d;
        if ((r + 1) % E::kPack != 0) continue;
        PutUnits<E>(unit_q, head_dim, w.query_rows + r / E::kPack * head_dim * 4);
        PutUnits<E>(unit_dout, head_dim, w.dout_rows + r / E::kPack * head_dim * 4);
      }
      const auto* q_rows = reinterpret_cast<const char*>(static_cast<const Type*>(a.q) + row * a.q_stride + head * head_dim);
      const auto* dout_rows = reinterpret_cast<const char*>(static_cast<const Type*>(a.dout) + row * a.dout_stride + head * head_dim);
      float* dq = a.dq + row * a.dq_stride + head * head_dim;
      for (int64_t r = 0; r < rows; ++r) __builtin_memset(dq + r * a.dq_stride, 0, static_cast<size_t>(head_dim) * 4);
      const int64_t last = before + first + rows - 1, row_units = DivideUp(rows, E::kPack);
      for (int64_t start = 0; start <= last; start += kKvBlock) {
        const char* block_keys = w.key_scores + start / kKvBlock * KvHeadBytes<E>(head_dim);
        const char* block_values = w.value_scores + start / kKvBlock * KvHeadBytes<E>(head_dim);
        Scores<E>(q_rows, a.q_stride * width, rows, block_keys, head_dim, s);
        Scores<E>(dout_rows, a.dout_stride * width, rows, block_values, head_dim, dp);
        ScoreGradients<E>(a, w, head, row, rows, before + first, start, s, dp);
        AccumulateRows<E, Lanes::kTileRows>(w.p_columns, 4, kKvBlock * 4, w.dout_rows, head_dim * 4, row_units, kKvBlock, head_dim, nullptr,
                                            w.dv + start * head_dim, head_dim);
        AccumulateRows<E, Lanes::kTileRows>(w.ds_columns, 4, kKvBlock * 4, w.query_rows, head_dim * 4, row_units, kKvBlock, head_dim, nullptr,
                                            w.dk + start * head_dim, head_dim);
        AccumulateRows<E, Lanes::kTileRows>(reinterpret_cast<const char*>(w.ds), kKvBlock * static_cast<int64_t>(sizeof(Type)), 4,
                                            w.key_rows + start / E::kPack * head_dim * 4, head_dim * 4, kKvBlock / E::kPack, rows, head_dim, nullptr,
                                            dq, a.dq_stride);
      }
    }
  }
  position = 0;
  for (int64_t i = 0; i < a.num_spans; ++i) {
    const int64_t begin = a.spans[i].begin + (i + 1 < a.num_spans ? a.addend_shift : 0);
    for (int64_t r = begin; r < begin + a.spans[i].count; ++r, ++position) {
      float* dk = a.dk + r * a.dkv_stride + a.kv_head * head_dim;
      float* dv = a.dv + r * a.dkv_stride + a.kv_head * head_dim;
      for (int64_t d = 0; d < head_dim; d += kLanes) {
        Store(dk + d, Load(w.dk + position * head_dim + d));
        Store(dv + d, Load(w.dv + position * head_dim + d));
      }
    }
  }
}

}  // namespace
}  // namespace april::kernels
