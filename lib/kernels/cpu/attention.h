// Attention over blocks of keys and values, forward.
#pragma once

#include "kernels/cpu/product.h"

namespace april::kernels {
namespace {

// Keys of a block and head: [unit of head_dim][32 positions]; values: [unit of positions][head_dim]. Both are operands of MultiplyAdd as they lie.
template <class E>
constexpr int64_t KvHeadBytes(int64_t head_dim) {
  return kKvBlock * head_dim * static_cast<int64_t>(sizeof(typename E::Type));
}

template <class E>
size_t KvBlockBytes(int64_t kv_heads, int64_t head_dim) {
  return static_cast<size_t>(kv_heads * KvHeadBytes<E>(head_dim));
}

template <class E>
void StoreKv(const StoreKvArgs& a) {
  using Type = typename E::Type;
  for (int64_t r = 0; r < a.rows; ++r) {
    const int64_t position = a.first_position + r, slot = position % kKvBlock;
    const int64_t base = a.blocks[position / kKvBlock] * a.block_stride_bytes;
    const Type* k = static_cast<const Type*>(a.k) + r * a.k_stride;
    const Type* v = static_cast<const Type*>(a.v) + r * a.v_stride;
    for (int64_t h = 0; h < a.kv_heads; ++h, k += a.head_dim, v += a.head_dim) {
      char* key = static_cast<char*>(a.keys) + base + h * KvHeadBytes<E>(a.head_dim) + slot * 4;
      for (int64_t d = 0; d < a.head_dim; d += E::kPack, key += kKvBlock * 4) __builtin_memcpy(key, k + d, 4);
      Type* value = reinterpret_cast<Type*>(static_cast<char*>(a.values) + base + h * KvHeadBytes<E>(a.head_dim)) +
                    slot / E::kPack * a.head_dim * E::kPack + slot % E::kPack;
      for (int64_t d = 0; d < a.head_dim; ++d) value[d * E::kPack] = v[d];
    }
  }
}

/// scores[r][0..32) of query rows, q_bytes apart, against the 32 positions of one block. With kFetch, what lies `ahead` bytes behind the keys is
/// fetched on the way.
template <class E, bool kFetch = false>
APRIL_INLINE void Scores(const char* q, int64_t q_bytes, int64_t rows, const char* keys, int64_t head_dim, float (*scores)[kKvBlock],
                         int64_t ahead = 0) {
  ForRowGroups<Lanes::kScoreRows>(rows, [&]<int kRows>(int64_t first) {
    Tile<kRows, 2> t;
    Clear(t);
    MultiplyAdd<E, kFetch>(t, q + first * q_bytes, q_bytes, 4, keys, kKvBlock * 4, head_dim / E::kPack, ahead);
    APRIL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      Store(scores[first + r], t.v[r][0]);
      Store(scores[first + r] + kLanes, t.v[r][1]);
    }
  });
}

/// The numbers 0 to 15.
APRIL_INLINE Vec LaneNumbers() {
  const float numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return Load(numbers);
}

/// What a group of query rows carries from block to block.
template <class E>
struct AttentionState {
  static constexpr int kRows = E::kAttentionRows;
  static constexpr int64_t kFactors = DivideUp(kRows, kLanes) * kLanes;
  alignas(64) typename E::Type q[kRows][kMaxHeadDim];
  int64_t position[kRows];
  float maximum[kRows];
  float factor[kFactors];  // of what was accumulated before the block
  Vec sum[kRows];
  alignas(64) float scores[kRows][kKvBlock];
  alignas(64) typename E::Type weights[kRows][kKvBlock];
  alignas(64) float out[kRows][kMaxHeadDim];
};

/// Scores of one block to weights: new maxima, factors for the past, exp, lane sums.
template <class E>
APRIL_INLINE void Weigh(AttentionState<E>& s, int64_t rows, int64_t block_start, float scale) {
  const Vec lane = LaneNumbers(), nothing = Set(-kInfinity);
  float drop[AttentionState<E>::kFactors] = {};
  for (int64_t r = 0; r < rows; ++r) {
    Vec x0 = Mul(Load(s.scores[r]), Set(scale)), x1 = Mul(Load(s.scores[r] + kLanes), Set(scale));
    const int64_t visible = s.position[r] - block_start + 1;
    if (visible < kKvBlock) {
      const Vec limit = Set(static_cast<float>(visible));
      x0 = SelectLess(lane, limit, x0, nothing);
      x1 = SelectLess(Add(lane, Set(16.0f)), limit, x1, nothing);
    }
    Store(s.scores[r], x0);
    Store(s.scores[r] + kLanes, x1);
    const float here = MaxLanes(Max(x0, x1));
    const float maximum = s.maximum[r] < here ? here : s.maximum[r];
    drop[r] = s.maximum[r] - maximum;
    s.maximum[r] = maximum;
  }
  for (int64_t r = 0; r < rows; r += kLanes) Store(s.factor + r, Exp(Load(drop + r)));
  for (int64_t r = 0; r < rows; ++r) {
    const Vec maximum = Set(s.maximum[r]);
    Vec p0 = Exp(Sub(Load(s.scores[r]), maximum)), p1 = Exp(Sub(Load(s.scores[r] + kLanes), maximum));
    s.sum[r] = Add(Mul(s.sum[r], Set(s.factor[r])), Add(p0, p1));
    E::Store(s.weights[r], p0);
    E::Store(s.weights[r] + kLanes, p1);
  }
}

/// One block: its scores, its weights, its share of the output. With kFetch, the block `ahead` bytes further is brought near meanwhile.
template <class E, bool kFetch>
APRIL_INLINE void VisitBlock(const AttentionArgs& a, AttentionState<E>& s, int64_t rows, int64_t block, int64_t base, int64_t ahead) {
  Scores<E, kFetch>(reinterpret_cast<const char*>(s.q), sizeof(s.q[0]), rows, static_cast<const char*>(a.keys) + base, a.head_dim, s.scores, ahead);
  Weigh(s, rows, block * kKvBlock, a.scale);
  const int64_t units = DivideUp(Minimum(kKvBlock, s.position[rows - 1] - block * kKvBlock + 1), E::kPack);
  AccumulateRows<E, Lanes::kTileRows, kFetch>(reinterpret_cast<const char*>(s.weights), sizeof(s.weights[0]), 4,
                                              static_cast<const char*>(a.values) + base, a.head_dim * 4, units, rows, a.head_dim, s.factor, s.out[0],
                                              kMaxHeadDim, ahead);
}

/// Output of the finished rows.
template <class E>
APRIL_INLINE void Finish(const AttentionArgs& a, AttentionState<E>& s, int64_t rows, int64_t first, int64_t kv_head) {
  const int64_t group = a.heads / a.kv_heads;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t row = (first + r) / group, head = kv_head * group + (first + r) % group;
    const float sum = SumLanes(s.sum[r]);
    const Vec inverse = Set(1.0f / sum);
    auto* out = static_cast<typename E::Type*>(a.out) + row * a.out_stride + head * a.head_dim;
    // Adding zero makes a negative zero positive: the sign of a zero may depend on what lies behind the mask.
    for (int64_t i = 0; i < a.head_dim; i += kLanes) E::Store(out + i, Add(Mul(Load(s.out[r] + i), inverse), Zero()));
    if (a.lse != nullptr) a.lse[row * a.lse_stride + head] = static_cast<float>(static_cast<double>(s.maximum[r]) + Log(static_cast<double>(sum)));
  }
}

template <class E>
void Attention(const AttentionArgs& a) {
  constexpr int64_t kRows = E::kAttentionRows;
  const int64_t group = a.heads / a.kv_heads, head_bytes = KvHeadBytes<E>(a.head_dim);
  const bool fetch = a.rows * group <= kRows;  // decoding: every block is read once, so memory is the limit
  AttentionState<E> s;
  for (int64_t kv_head = a.kv_head_begin; kv_head < a.kv_head_end; ++kv_head) {
    // All (row, query head) pairs of this key head, in groups; those of one row share its keys, neighbouring rows nearly all of them.
    for (int64_t first = 0; first < a.rows * group; first += kRows) {
      const int64_t rows = Minimum(kRows, a.rows * group - first);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t row = (first + r) / group, head = kv_head * group + (first + r) % group;
        const auto* q = static_cast<const typename E::Type*>(a.q) + row * a.q_stride + head * a.head_dim;
        __builtin_memcpy(s.q[r], q, static_cast<size_t>(a.head_dim) * sizeof(*q));
        s.position[r] = a.first_position + row;
        s.maximum[r] = -kInfinity;
        s.sum[r] = Zero();
        for (int64_t i = 0; i < a.head_dim; i += kLanes) Store(s.out[r] + i, Zero());
      }
      const int64_t blocks = s.position[rows - 1] / kKvBlock + 1;
      for (int64_t block = 0; block < blocks; ++block) {
        const int64_t base = a.blocks[block] * a.block_stride_bytes + kv_head * head_bytes;
        const bool last = block + 1 == blocks;
        if (fetch && !(last && kv_head + 1 == a.kv_head_end)) {
          const int64_t next = last ? a.blocks[0] * a.block_stride_bytes + (kv_head + 1) * head_bytes
                                    : a.blocks[block + 1] * a.block_stride_bytes + kv_head * head_bytes;
          VisitBlock<E, true>(a, s, rows, block, base, next - base);
        } else {
          VisitBlock<E, false>(a, s, rows, block, base, 0);
        }
      }
      Finish(a, s, rows, first, kv_head);
    }
  }
}

template <class E>
void AttentionDelta(const AttentionDeltaArgs& a) {
  using Type = typename E::Type;
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t h = 0; h < a.heads; ++h) {
      const Type* out = static_cast<const Type*>(a.out) + r * a.stride + h * a.head_dim;
      const Type* dout = static_cast<const Type*>(a.dout) + r * a.stride + h * a.head_dim;
      Vec sum = Zero();
      for (int64_t i = 0; i < a.head_dim; i += kLanes) sum = Fma(E::Load(out + i), E::Load(dout + i), sum);
      a.delta[r * a.delta_stride + h] = SumLanes(sum);
    }
  }
}

}  // namespace
}  // namespace april::kernels
