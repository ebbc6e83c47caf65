// The table of one element type from the kernels that this instruction set compiled.
#pragma once

#include "kernels/cpu/attention_backward.h"
#include "kernels/cpu/gradient.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/optimizer.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vocabulary.h"

namespace april::kernels {
namespace {

template <class E>
constexpr Kernels MakeTable(const char* name) {
  return {
      .name = name,
      .element_bytes = sizeof(typename E::Type),
      .column_block = kBlockColumns,
      .panel_columns = kPanelColumns,
      .sum_step = 2 * E::kStepUnits,
      .packed_bytes = PackedBytes<E>,
      .pack = Pack<E>,
      .pack_transposed = PackTransposed<E>,
      .linear = Linear<E>,
      .packed_rows_bytes = PackedRowsBytes<E>,
      .pack_gradient_rows = PackRows<E>,
      .pack_rows = PackRows<E>,
      .weight_gradient = WeightGradient<E>,
      .embed = Embed<E>,
      .rms_norm = RmsNorm<E>,
      .rms_norm_backward = RmsNormBackward<E>,
      .rope = Rope<E>,
      .rope_backward = RopeBackward<E>,
      .silu = Silu<E>,
      .silu_backward = SiluBackward<E>,
      .convert = Convert<E>,
      .column_sum = ColumnSum<E>,
      .to_float = ToFloat<E>,
      .add = AddRows,
      .kv_block_bytes = KvBlockBytes<E>,
      .store_kv = StoreKv<E>,
      .attention = Attention<E>,
      .attention_delta = AttentionDelta<E>,
      .attention_backward_bytes = AttentionBackwardBytes<E>,
      .attention_backward = AttentionBackward<E>,
      .sum_chunk = SumChunk,
      .join_chunks = JoinChunks,
      .softmax = Softmax,
      .softmax_gradient = SoftmaxGradient<E>,
      .argmax = ArgMax,
      .adamw = AdamW<E>,
      .sum_squares = SumSquares,
  };
}

}  // namespace
}  // namespace april::kernels
