// One transformer layer over a batch of rows, inside a parallel region: the only forward there is. Private to the model.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/thread_pool.h"
#include "model/forward.h"
#include "model/packed_policy.h"
#include "model/rope.h"

namespace april::model {

using Worker = kernels::ThreadPool::Worker;

/// Rows that a thread takes through a product at once, so that they stay in its second-level cache.
inline constexpr int64_t kPanelRows = 256;

/// Consecutive positions of one sequence.
struct Span {
  int64_t row = 0, rows = 0, position = 0;
  const int32_t* blocks = nullptr;  ///< position p lies in blocks[p / kKvBlock]
};

/// Appends `span` to `spans` cut at block boundaries: two threads never write one block.
void AppendCut(const Span& span, std::vector<Span>* spans);

/// What rows are to be computed. Arrays have `num_rows` rows.
struct Batch {
  int64_t num_rows = 0;
  const uint32_t* tokens = nullptr;
  const int32_t* positions = nullptr;
  std::span<const Span> stores;  ///< where each row's keys and values go; a shared prompt's last rows may go to several sequences
  std::span<const Span> reads;   ///< each row's attention
  bool apart = false;            ///< reads are the stores, each of another sequence, and nothing is kept for a backward pass
};

/// Keys and values of one layer.
struct KvBase {
  void* keys = nullptr;
  void* values = nullptr;
  int64_t block_stride_bytes = 0;
};

/// Activations of a layer, row-major; "elem" is the kernel set's element type.
struct Activations {
  float* x_in = nullptr;   ///< [rows, hidden] the residual stream before the layer, or null: not kept
  float* x_mid = nullptr;  ///< and between attention and MLP
  float* q_raw = nullptr;  ///< [rows, heads * head_dim] before norm and rotation, or null
  float* k_raw = nullptr;
  float* lse = nullptr;      ///< [rows, heads] attention's log-sum-exp, or null
  void* h = nullptr;         ///< elem [rows, hidden] output of a norm
  void* q = nullptr;         ///< elem [rows, heads * head_dim] rotated
  void* k = nullptr;         ///< elem [rows, kv_heads * head_dim] rotated
  void* v = nullptr;         ///< elem [rows, kv_heads * head_dim]
  void* attended = nullptr;  ///< elem [rows, heads * head_dim]
  void* gate = nullptr;      ///< elem [rows, intermediate], or null: not kept
  void* up = nullptr;
  void* act = nullptr;  ///< elem [rows, intermediate]
};

/// Activations without the pointers: lays them out in a block of memory.
struct ActivationLayout {
  const Config& config;
  const kernels::Kernels& kernels;
  int64_t rows;
  bool for_backward;  ///< with x_mid, lse, gate and up, and q_raw and k_raw where the backward pass needs them

  /// Sets the pointers into `base` (all but x_in and h); returns the bytes used.
  size_t Place(char* base, Activations* to) const;
};

/// Where logits go.
struct LogitsTo {
  float* logits = nullptr;               ///< [rows, vocab]
  int64_t stride = 0;                    ///< from one row to the next
  kernels::ChunkSums* chunks = nullptr;  ///< [rows, NumChunks(vocab)], or null
  std::span<const float> scales;         ///< of the softmax: one a row, or one for all
  bool with_products = false;            ///< whether the chunks are to give entropies
};

/// Private memory of each thread.
class ThreadScratch {
 public:
  void Resize(int num_threads, size_t bytes);
  void* Of(const Worker& worker) const { return memory_[static_cast<size_t>(worker.index())].data(); }

 private:
  std::vector<kernels::Memory> memory_;
};

class LayerPass {
 public:
  LayerPass(const Config& config, const kernels::Kernels& kernels, int num_threads);

  RopeTable& rope() { return rope_; }

  ThreadScratch& scratch() { return scratch_; }
  size_t scratch_bytes() const { return scratch_bytes_; }

  // Each is called by every thread of a region, and ends with all of them at a barrier.
  void Embed(Worker& worker, const PackedPolicy& policy, const Batch& batch, float* x) const;
  /// x [rows, hidden] is the residual stream, read and updated. Without `with_output` it ends with the activation: what a recomputation for Backward
  /// needs.
  void Layer(Worker& worker, const PackedLayer& layer, const Batch& batch, const KvBase& kv, const Activations& to, float* x,
             bool with_output = true) const;
  /// out[rows, n] (=, or += with `add`) x W^T.
  void Linear(Worker& worker, const PackedMatrix& matrix, const void* x, int64_t x_stride, int64_t rows, float* out, int64_t out_stride,
              bool add) const;
  /// The same for column blocks [begin, end); `out` starts with the first of them.
  void LinearRange(Worker& worker, const PackedMatrix& matrix, int64_t begin, int64_t end, const void* x, int64_t x_stride, int64_t rows, float* out,
                   int64_t out_stride, bool add) const;
  void Norm(Worker& worker, const float* x, int64_t rows, const std::vector<float>& weight, void* out, float* x_copy) const;
  /// Final norm of the named rows of x, then their logits, and of each chunk of those what a softmax needs. `h`: elem [rows, hidden].
  void Logits(Worker& worker, const PackedPolicy& policy, const float* x, std::span<const int64_t> rows, void* h, const LogitsTo& to) const;

  /// For one thread: columns of blocks [begin, end) of a product, into `out` whose first column is the first of them.
  void LinearBlocks(const PackedMatrix& matrix, const void* x, int64_t x_stride, int64_t rows, int64_t begin, int64_t end, float* out,
                    int64_t out_stride, bool add) const;

 private:
  /// Norm's output for this thread: few rows are faster normalised by every thread for itself than shared out.
  const void* NormFor(Worker& worker, const float* x, const Batch& batch, const std::vector<float>& weight, void* out, float* x_copy) const;
  void NormRows(const float* x, int64_t rows, const std::vector<float>& weight, void* out) const;
  void Project(Worker& worker, const PackedLayer& layer, const Batch& batch, const void* h, const Activations& to) const;
  void ProjectHeads(const PackedMatrix& matrix, const std::vector<float>& bias, const std::vector<float>& norm, bool rotate, const Batch& batch,
                    const void* h, int64_t row, int64_t rows, int64_t head, int64_t heads, float* scratch, void* out, float* raw) const;
  void Attend(Worker& worker, const Batch& batch, const KvBase& kv, const Activations& to) const;
  void GateUp(Worker& worker, const PackedLayer& layer, int64_t num_rows, const void* h, const Activations& to) const;

  const Config config_;
  const kernels::Kernels& kernels_;
  RopeTable rope_;
  ThreadScratch scratch_, few_rows_;
  size_t scratch_bytes_;
  int64_t heads_at_once_;   ///< heads whose columns fill whole blocks
  int64_t blocks_at_once_;  ///< column blocks of gate and up that a task takes
};

}  // namespace april::model
