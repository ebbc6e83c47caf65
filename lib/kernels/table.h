// The kernel table: plain function pointers over plain pointers and strides. Only C types, because files compiled for a special instruction set
// include it. One long header on purpose: these structures are the whole contract of a kernel set, and are read side by side.
//
// Element type. Weights, activations that enter products, queries, keys and values are "elem": bf16 (uint16_t) or float, as the set's element_bytes
// says. Everything else is float. Strides count elements of the array's own type from one row to the next. Rows of elem arrays start on a 4-byte
// boundary. Threads. A function computes exactly the range that it is given and knows nothing of threads: split rows, column blocks, panels or heads
// freely; no result depends on the split, on the number of rows, or on neighbouring rows. Call them with flush-to-zero on (inside ThreadPool::Run, or
// under FlushDenormals). Products. One f32 accumulator per output over all of K in ascending order. bf16: per pair, acc = fma(odd, odd, acc), then
// acc = fma(even, even, acc), what the instruction vdpbf16ps computes; f32: acc = fma(x, w, acc). Sets with a sum_step sum bf16 in steps of so many
// elements, as AMX does (cpu/tiles.h). Every set of one element type and sum_step gives the same bits.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace april::kernels {

/// out[r, c] (=, or += with `add`) sum over k of x[r, k] * w[c, k], for all rows and the columns of blocks [block_begin, block_end).
struct LinearArgs {
  const void* x;  ///< elem [rows, k]
  int64_t x_stride;
  int64_t rows;
  const void* packed;  ///< from pack or pack_transposed
  int64_t n, k;        ///< all output columns, and the reduction; k is a multiple of 2
  int64_t block_begin, block_end;
  float* out;  ///< f32 [rows, n]
  int64_t out_stride;
  bool add;
};

/// Copies w's rows into columns [column_begin, column_begin + n) of a packed matrix with reduction k. Zero the packed matrix first when its columns
/// do not fill the last block. Several matrices (q, k, v; gate, up) may fill one packed matrix side by side. Split it among threads at multiples of
/// the block.
struct PackArgs {
  const void* w;  ///< elem [n, k], row-major
  int64_t w_stride;
  int64_t n, k;
  int64_t column_begin;
  void* packed;
};

/// Packs the transpose, so that dX = dY W is the same linear: output columns are w's columns [column_begin, column_end), the reduction of `total`
/// holds w's rows at [reduce_begin, reduce_begin + n). reduce_begin, n and total are multiples of 2. Split it among threads over columns at multiples
/// of the block.
struct PackTransposedArgs {
  const void* w;  ///< elem [n, k], row-major
  int64_t w_stride;
  int64_t n;
  int64_t column_begin, column_end;  ///< of [0, k)
  int64_t reduce_begin, total;
  void* packed;  ///< packed_bytes(k, total)
};

/// Lays tiles [tile_begin, tile_end) of kGradientTile rows out as an operand of weight_gradient: pack_gradient_rows as dY, pack_rows as X. Rows
/// beyond `rows` count as zero.
struct PackRowsArgs {
  const void* x;  ///< elem [rows, n], row-major
  int64_t x_stride;
  int64_t rows, n;
  int64_t tile_begin, tile_end;
  void* packed;  ///< packed_rows_bytes(rows, n); tile t is at its fixed place
};

/// dw[i, j] += sum over rows of dy[r, i] * x[r, j]: each kGradientTile-row tile one chain from zero in row order, tiles added in order; with a
/// sum_step, each step added to what is there.
/// Panels are kernel-set columns (panel_columns) of dy and of x; a thread takes a rectangle of them.
struct WeightGradientArgs {
  const void* dy;  ///< pack_gradient_rows of dY [rows, n]
  const void* x;   ///< pack_rows of X [rows, k]
  int64_t num_tiles;
  int64_t n, k;
  int64_t n_panel_begin, n_panel_end;
  int64_t k_panel_begin, k_panel_end;
  float* dw;  ///< f32 [n, k]
  int64_t dw_stride;
  const int64_t* tile_rows = nullptr;  ///< [num_tiles]: a tile's rows, of which the rest counts as zero and costs nothing; null: all are full
};

/// out[r] = table[tokens[r]].
struct EmbedArgs {
  const void* table;  ///< elem [vocabulary, n], row-major
  const uint32_t* tokens;
  int64_t rows, n;
  float* out;
  int64_t out_stride;
};

/// out = round(x * inv * weight), inv = 1 / sqrt(mean(x^2) + eps).   Source  Zhang and Sennrich, "Root Mean Square Layer Normalization", equation 4.
struct RmsNormArgs {
  const float* x;
  int64_t x_stride;
  int64_t rows, n;
  const float* weight;  ///< [n]
  float eps;
  void* out;  ///< elem [rows, n]
  int64_t out_stride;
  float* inv_rms;  ///< [rows], or null
};

/// dx (=, or += with `add`) inv * (weight * dy - x * inv^2 * mean(weight * dy * x)); weight_tiles[t] = sum over tile t's rows, in order, of dy * x *
/// inv.
struct RmsNormBackwardArgs {
  const float* x;
  int64_t x_stride;
  const float* inv_rms;
  const float* weight;
  const float* dy;
  int64_t dy_stride;
  int64_t rows, n;
  float* dx;
  int64_t dx_stride;
  bool add;
  float* weight_tiles;  ///< [ceil(rows / kGradientTile), n], overwritten, or null; add the tiles to the gradient in order
};

/// For every row and head: y = x + bias; with norm_weight y = rms_norm(y) over the head; out = round(rotation of y at the row's position). Half-split
/// form: out[i] = y[i] cos[i] - y[i + d/2] sin[i], out[i + d/2] = y[i + d/2] cos[i] + y[i] sin[i].   Source  Su et al., "RoFormer", in Hugging Face's
/// layout.
struct RopeArgs {
  const float* x;  ///< [rows, heads * head_dim]
  int64_t x_stride;
  int64_t rows;
  const int32_t* positions;  ///< [rows]
  int64_t heads, head_dim;
  const float* cos_sin;      ///< [positions, head_dim]: the cosines of the head_dim / 2 angles, then the sines
  const float* bias;         ///< [heads * head_dim], or null
  const float* norm_weight;  ///< [head_dim], or null
  float eps;
  void* out;  ///< elem [rows, heads * head_dim]
  int64_t out_stride;
};

/// dx = round(gradient of rope's input, from dy, the gradient of its output). x, bias, eps are needed with norm_weight only.
struct RopeBackwardArgs {
  const float* dy;
  int64_t dy_stride;
  int64_t rows;
  const int32_t* positions;
  int64_t heads, head_dim;
  const float* cos_sin;
  const float* x;
  int64_t x_stride;
  const float* bias;
  const float* norm_weight;
  float eps;
  void* dx;  ///< elem [rows, heads * head_dim]
  int64_t dx_stride;
  float* norm_weight_tiles;  ///< [ceil(rows / kGradientTile), head_dim], overwritten, or null
};

/// Stores rows of consecutive positions into their blocks. Keys and values lie in the kernel set's own layout, kv_block_bytes each: one head after
/// another, kv_block_bytes(1, head_dim) each.
struct StoreKvArgs {
  const void* k;  ///< elem [rows, kv_heads * head_dim], rotated
  int64_t k_stride;
  const void* v;  ///< elem [rows, kv_heads * head_dim]
  int64_t v_stride;
  int64_t rows, first_position;
  int64_t kv_heads, head_dim;
  void* keys;    ///< of block 0
  void* values;  ///< of block 0
  int64_t block_stride_bytes;
  const int32_t* blocks;  ///< position p lies in block blocks[p / kKvBlock]
};

/// Causal attention of `rows` consecutive positions of one sequence over its stored keys and values, for key heads [kv_head_begin, kv_head_end) and
/// all the query heads that share them. A row sees positions 0 to its own; online softmax over blocks in ascending order. Positions after a row's own
/// change nothing, as long as they hold finite values: blocks are zeroed when allocated.
///   Source  Milakov and Gimelshein, "Online normalizer calculation for softmax", algorithm 3; Dao et al., "FlashAttention", algorithm 1.
struct AttentionArgs {
  const void* q;  ///< elem [rows, heads * head_dim], rotated
  int64_t q_stride;
  int64_t rows, first_position;
  int64_t heads, kv_heads, head_dim;
  int64_t kv_head_begin, kv_head_end;
  const void* keys;
  const void* values;
  int64_t block_stride_bytes;
  const int32_t* blocks;
  float scale;  ///< of the scores, 1 / sqrt(head_dim)
  void* out;    ///< elem [rows, heads * head_dim]
  int64_t out_stride;
  float* lse;  ///< log-sum-exp of the scaled scores [rows, heads], or null
  int64_t lse_stride;
};

/// delta[r, h] = sum over the head of dout * out.
struct AttentionDeltaArgs {
  const void* out;   ///< elem [rows, heads * head_dim]
  const void* dout;  ///< elem
  int64_t stride;    ///< of both
  int64_t rows, heads, head_dim;
  float* delta;  ///< [rows, heads]
  int64_t delta_stride;
};

struct RowSpan {
  int64_t begin, count;  ///< rows of the micro-batch's row-major arrays
};

/// Gradient of attention for one key head and the queries of one sequence: those of its last span. The sequence's positions are its spans' rows, one
/// span after another (a shared prompt, then its own rows); each query sees all earlier spans and its own span up to itself. dq, dk and dv are
/// overwritten, dk and dv of a prompt not at its own rows but `addend_shift` further: what these queries add to it. So the sequences of a group may
/// be computed in any order and at once, and the prompt's gradients added up afterwards, in one order.
///   Source  Dao, "FlashAttention-2", algorithm 2.
struct AttentionBackwardArgs {
  const void* q;  ///< elem [micro-batch rows, heads * head_dim]
  int64_t q_stride;
  const void* k;  ///< elem [micro-batch rows, kv_heads * head_dim]
  int64_t k_stride;
  const void* v;
  int64_t v_stride;
  const void* dout;  ///< elem [micro-batch rows, heads * head_dim]
  int64_t dout_stride;
  const float* lse;    ///< [micro-batch rows, heads]
  const float* delta;  ///< [micro-batch rows, heads]
  int64_t lse_stride;  ///< of lse and delta
  const RowSpan* spans;
  int64_t num_spans;
  int64_t heads, kv_heads, head_dim, kv_head;
  float scale;
  float* dq;  ///< [micro-batch rows, heads * head_dim]
  int64_t dq_stride;
  float* dk;  ///< [micro-batch rows, kv_heads * head_dim]
  float* dv;
  int64_t dkv_stride;
  int64_t addend_shift;  ///< from rows of all spans but the last to where their dk and dv go
  void* scratch;         ///< attention_backward_bytes(positions, queries, head_dim), 64-byte aligned; one per thread
};

/// out = round(silu(gate) * up), silu(x) = x / (1 + exp(-x)).
struct SiluArgs {
  const float* gate;  ///< [rows, n]
  const float* up;
  int64_t in_stride;
  int64_t rows, n;
  void* out;  ///< elem
  int64_t out_stride;
};

struct SiluBackwardArgs {
  const float* gate;  ///< [rows, n]
  const float* up;
  int64_t in_stride;
  const float* dy;  ///< gradient of the product
  int64_t dy_stride;
  int64_t rows, n;
  void* dgate;  ///< elem
  void* dup;    ///< elem
  int64_t out_stride;
};

/// out = round(x + bias).
struct ConvertArgs {
  const float* x;
  int64_t x_stride;
  int64_t rows, n;
  const float* bias;  ///< [n], or null
  void* out;          ///< elem
  int64_t out_stride;
};

/// tiles[t][c] = sum over tile t's rows, in order, of dy[r, c]: the gradient of a bias, tile by tile.
struct ColumnSumArgs {
  const void* dy;  ///< elem [rows, n]
  int64_t dy_stride;
  int64_t rows, n;
  float* tiles;  ///< [ceil(rows / kGradientTile), n], overwritten
};

/// What is left of a chunk of logits, x[i] = logits[i] * scale: a softmax over many chunks is made of it without reading them again.
struct ChunkSums {
  float maximum;   ///< of x; a NaN is passed over
  float sum;       ///< of exp(x - maximum), in 16 lanes; a NaN or infinite x makes it a NaN; 0 when every x is minus infinity
  float products;  ///< of exp(x - maximum) * (x - maximum), likewise, or 0 when not asked for
};

struct SumChunkArgs {
  const float* logits;
  int64_t n;    ///< at most kVocabChunk
  float scale;  ///< 1 / temperature
  bool with_products;
};

/// Chunks are added in ascending order, in double.
struct JoinChunksArgs {
  const ChunkSums* chunks;
  int64_t num_chunks;
  float* maximum;   ///< of all x, or null
  double* weights;  ///< [num_chunks] sum of exp(x - maximum of all) in each chunk, or null
  float* entropy;   ///< of the softmax, nats, or null; needs the chunks' products
};

/// dlogits[i] = round(scale * (logprob_gradient * (onehot(token)[i] - p[i]) - entropy_gradient * p[i] * (log p[i] + entropy))), p = exp(x -
/// log_sum_exp).
struct SoftmaxGradientArgs {
  const float* logits;
  int64_t vocab;
  float scale;
  float log_sum_exp;
  int64_t token;  ///< -1: it is not among these logits, a slice of the vocabulary
  float logprob_gradient;
  float entropy;           ///< needed when entropy_gradient is not zero
  float entropy_gradient;  ///< 0: the term is left out
  void* out;               ///< elem [vocab]
};

/// m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2, with g = gradient * gradient_scale; w = w (1 - lr decay) - lr / correction1 * m /
/// (sqrt(v) / sqrt(correction2) + eps); out = round(w).   Source  Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2.
struct AdamWArgs {
  float* w;
  float* m;
  float* v;
  const float* gradient;
  int64_t n;
  float gradient_scale;
  float lr, beta1, beta2, eps, weight_decay;
  float correction1, correction2;  ///< 1 - beta^step
  void* out;                       ///< elem [n], or null
};

struct Kernels {
  const char* name;       ///< recorded with every segment: same name and same build, same bits
  int64_t element_bytes;  ///< 2: bf16, 4: f32
  int64_t column_block;   ///< output columns in a block of linear
  int64_t panel_columns;  ///< columns in a panel of weight_gradient
  int64_t sum_step;       ///< elements in a step of a product's sum; 0: it has none

  size_t (*packed_bytes)(int64_t n, int64_t k);
  void (*pack)(const PackArgs&);
  void (*pack_transposed)(const PackTransposedArgs&);
  void (*linear)(const LinearArgs&);
  size_t (*packed_rows_bytes)(int64_t rows, int64_t n);
  void (*pack_gradient_rows)(const PackRowsArgs&);
  void (*pack_rows)(const PackRowsArgs&);
  void (*weight_gradient)(const WeightGradientArgs&);

  void (*embed)(const EmbedArgs&);
  void (*rms_norm)(const RmsNormArgs&);
  void (*rms_norm_backward)(const RmsNormBackwardArgs&);
  void (*rope)(const RopeArgs&);
  void (*rope_backward)(const RopeBackwardArgs&);
  void (*silu)(const SiluArgs&);
  void (*silu_backward)(const SiluBackwardArgs&);
  void (*convert)(const ConvertArgs&);
  void (*column_sum)(const ColumnSumArgs&);
  void (*to_float)(const void* elem, float* out, int64_t n);
  void (*add)(const float* x, float* out, int64_t n);  ///< out += x

  size_t (*kv_block_bytes)(int64_t kv_heads, int64_t head_dim);  ///< of the keys of one block and layer; of the values as well
  void (*store_kv)(const StoreKvArgs&);
  void (*attention)(const AttentionArgs&);
  void (*attention_delta)(const AttentionDeltaArgs&);
  size_t (*attention_backward_bytes)(int64_t positions, int64_t queries, int64_t head_dim);
  void (*attention_backward)(const AttentionBackwardArgs&);

  ChunkSums (*sum_chunk)(const SumChunkArgs&);
  float (*join_chunks)(const JoinChunksArgs&);                                              ///< log(sum exp(x)) over all chunks
  void (*softmax)(const float* logits, int64_t n, float scale, float maximum, float* out);  ///< exp(logits * scale - maximum)
  void (*softmax_gradient)(const SoftmaxGradientArgs&);
  int64_t (*argmax)(const float* x, int64_t n);  ///< the first of the largest; a NaN never wins

  void (*adamw)(const AdamWArgs&);
  double (*sum_squares)(const float* x, int64_t n);  ///< in double over 16 lanes; call it on chunks of kSumChunk and add in order
};

}  // namespace april::kernels
