#include "model/layer_pass.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

namespace april::model {
namespace {

constexpr int64_t kRowsAtOnce = 8;      // of elementwise work
constexpr int64_t kGateUpColumns = 64;  // of gate and of up that one task computes

constexpr int64_t kSpansForWholeTasks = 4;  // sequences a thread from which on it takes whole ones in attention
constexpr int64_t kLogitRows = 128;         // whose logits of one chunk are computed together
static_assert(kernels::kVocabChunk % 64 == 0, "a chunk is whole column blocks");

constexpr int64_t kFewRows = 64;     // up to here a layer's time is reading its weights
constexpr int64_t kStreamUnits = 8;  // column blocks, or heads, that are worth a task of their own when there are few rows

/// Units that a task takes when few rows make reading the weights the work: long streams, but something for every thread, and spare tasks when there
/// is much.
int64_t StreamLength(int64_t units, int num_threads) {
  return DivideUp(units, std::clamp<int64_t>(units / kStreamUnits / num_threads, 1, 8) * num_threads);
}

}  // namespace

void AppendCut(const Span& span, std::vector<Span>* spans) {
  for (int64_t done = 0; done < span.rows;) {
    const int64_t position = span.position + done;
    const int64_t count = std::min(span.rows - done, kernels::kKvBlock - position % kernels::kKvBlock);
    spans->push_back({span.row + done, count, position, span.blocks});
    done += count;
  }
}

size_t ActivationLayout::Place(char* base, Activations* to) const {
  const int64_t q = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
  size_t used = 0;
  const auto take = [&](int64_t columns, int64_t bytes) {
    char* at = base == nullptr ? nullptr : base + used;
    used += (static_cast<size_t>(rows * columns * bytes) + 63) / 64 * 64;
    return at;
  };
  const auto floats = [&](int64_t columns) { return reinterpret_cast<float*>(take(columns, sizeof(float))); };
  const int64_t elem = kernels.element_bytes;
  to->q = take(q, elem);
  to->k = take(kv, elem);
  to->v = take(kv, elem);
  to->attended = take(q, elem);
  to->act = take(config.intermediate, elem);
  if (!for_backward) return used;
  to->x_mid = floats(config.hidden);
  to->lse = floats(config.heads);
  to->gate = take(config.intermediate, elem);
  to->up = take(config.intermediate, elem);
  if (config.qk_norm) {
    to->q_raw = floats(q);
    to->k_raw = floats(kv);
  }
  return used;
}

void ThreadScratch::Resize(int num_threads, size_t bytes) {
  memory_.clear();
  for (int i = 0; i < num_threads; ++i) memory_.emplace_back(bytes);
}

LayerPass::LayerPass(const Config& config, const kernels::Kernels& kernels, int num_threads)
    : config_(config),
      kernels_(kernels),
      rope_(config),
      heads_at_once_(std::lcm(config.head_dim, kernels.column_block) / config.head_dim),
      blocks_at_once_(std::max<int64_t>(1, kGateUpColumns / kernels.column_block)) {
  const int64_t columns = std::max(heads_at_once_ * config.head_dim, 2 * blocks_at_once_ * kernels.column_block);
  scratch_bytes_ = static_cast<size_t>(kPanelRows * columns) * sizeof(float);
  scratch_.Resize(num_threads, scratch_bytes_);
  few_rows_.Resize(num_threads, static_cast<size_t>(kRowsAtOnce * config.hidden * kernels.element_bytes));
}

void LayerPass::LinearBlocks(const PackedMatrix& matrix, const void* x, int64_t x_stride, int64_t rows, int64_t begin, int64_t end, float* out,
                             int64_t out_stride, bool add) const {
  const int64_t block = kernels_.column_block, columns = std::min(matrix.n, end * block) - begin * block;
  const char* packed = matrix.packed + static_cast<size_t>(begin) * kernels_.packed_bytes(block, matrix.k);
  kernels_.linear({x, x_stride, rows, packed, columns, matrix.k, 0, end - begin, out, out_stride, add});
}

void LayerPass::Embed(Worker& worker, const PackedPolicy& policy, const Batch& batch, float* x) const {
  const int64_t n = config_.hidden;
  for (int64_t task; (task = worker.NextTask(DivideUp(batch.num_rows, kRowsAtOnce))) >= 0;) {
    const int64_t row = task * kRowsAtOnce;
    kernels_.embed({policy.embedding(), batch.tokens + row, std::min(kRowsAtOnce, batch.num_rows - row), n, x + row * n, n});
  }
  worker.Barrier();
}

void LayerPass::Norm(Worker& worker, const float* x, int64_t rows, const std::vector<float>& weight, void* out, float* x_copy) const {
  const int64_t n = config_.hidden;
  for (int64_t task; (task = worker.NextTask(DivideUp(rows, kRowsAtOnce))) >= 0;) {
    const int64_t row = task * kRowsAtOnce, count = std::min(kRowsAtOnce, rows - row);
    if (x_copy) std::memcpy(x_copy + row * n, x + row * n, static_cast<size_t>(count * n) * sizeof(float));
    NormRows(x + row * n, count, weight, static_cast<char*>(out) + row * n * kernels_.element_bytes);
  }
  worker.Barrier();
}

void LayerPass::NormRows(const float* x, int64_t rows, const std::vector<float>& weight, void* out) const {
  const int64_t n = config_.hidden;
  kernels_.rms_norm({x, n, rows, n, weight.data(), static_cast<float>(config_.rms_eps), out, n, nullptr});
}

const void* LayerPass::NormFor(Worker& worker, const float* x, const Batch& batch, const std::vector<float>& weight, void* out, float* x_copy) const {
  if (!batch.apart || batch.num_rows > kRowsAtOnce) {
    Norm(worker, x, batch.num_rows, weight, out, x_copy);
    return out;
  }
  NormRows(x, batch.num_rows, weight, few_rows_.Of(worker));
  return few_rows_.Of(worker);
}

void LayerPass::LinearRange(Worker& worker, const PackedMatrix& matrix, int64_t begin, int64_t end, const void* x, int64_t x_stride, int64_t rows,
                            float* out, int64_t out_stride, bool add) const {
  const int64_t panels = DivideUp(rows, kPanelRows), at_once = panels > 1 ? 1 : StreamLength(end - begin, worker.num_threads());
  const int64_t tasks = DivideUp(end - begin, at_once);
  for (int64_t task; (task = worker.NextTask(panels * tasks)) >= 0;) {
    const int64_t row = task / tasks * kPanelRows, first = begin + task % tasks * at_once, last = std::min(end, first + at_once);
    LinearBlocks(matrix, static_cast<const char*>(x) + row * x_stride * kernels_.element_bytes, x_stride, std::min(kPanelRows, rows - row), first,
                 last, out + row * out_stride + (first - begin) * kernels_.column_block, out_stride, add);
  }
  worker.Barrier();
}

void LayerPass::Linear(Worker& worker, const PackedMatrix& matrix, const void* x, int64_t x_stride, int64_t rows, float* out, int64_t out_stride,
                       bool add) const {
  LinearRange(worker, matrix, 0, DivideUp(matrix.n, kernels_.column_block), x, x_stride, rows, out, out_stride, add);
}

void LayerPass::ProjectHeads(const PackedMatrix& matrix, const std::vector<float>& bias, const std::vector<float>& norm, bool rotate,
                             const Batch& batch, const void* h, int64_t row, int64_t rows, int64_t head, int64_t heads, float* scratch, void* out,
                             float* raw) const {
  const int64_t columns = heads * config_.head_dim, first = head * config_.head_dim, block = kernels_.column_block;
  float* product = raw ? raw + row * matrix.n + first : scratch;
  const int64_t stride = raw ? matrix.n : columns;
  LinearBlocks(matrix, static_cast<const char*>(h) + row * config_.hidden * kernels_.element_bytes, config_.hidden, rows, first / block,
               DivideUp(first + columns, block), product, stride, false);
  const float* head_bias = bias.empty() ? nullptr : bias.data() + first;
  void* target = static_cast<char*>(out) + (row * matrix.n + first) * kernels_.element_bytes;
  if (rotate) {
    kernels_.rope({product, stride, rows, batch.positions + row, heads, config_.head_dim, rope_.Row(0), head_bias,
                   norm.empty() ? nullptr : norm.data(), static_cast<float>(config_.rms_eps), target, matrix.n});
  } else {
    kernels_.convert({product, stride, rows, columns, head_bias, target, matrix.n});
  }
}

void LayerPass::Project(Worker& worker, const PackedLayer& layer, const Batch& batch, const void* h, const Activations& to) const {
  const auto heads_a_task = [&](int64_t heads) {
    if (batch.num_rows > kFewRows) return heads_at_once_;
    const int64_t fit = static_cast<int64_t>(scratch_bytes_ / sizeof(float)) / (batch.num_rows * heads_at_once_ * config_.head_dim);
    return std::min(StreamLength(DivideUp(heads, heads_at_once_), worker.num_threads()), fit) * heads_at_once_;
  };
  const int64_t q_heads = heads_a_task(config_.heads), kv_heads = heads_a_task(config_.kv_heads);
  const int64_t q_tasks = DivideUp(config_.heads, q_heads), kv_tasks = DivideUp(config_.kv_heads, kv_heads), tasks = q_tasks + 2 * kv_tasks;
  float* scratch = static_cast<float*>(scratch_.Of(worker));
  for (int64_t task; (task = worker.NextTask(DivideUp(batch.num_rows, kPanelRows) * tasks)) >= 0;) {
    const int64_t row = task / tasks * kPanelRows, rows = std::min(kPanelRows, batch.num_rows - row), part = task % tasks;
    if (part < q_tasks) {
      const int64_t head = part * q_heads;
      ProjectHeads(layer.q, layer.q_bias, layer.q_norm, true, batch, h, row, rows, head, std::min(q_heads, config_.heads - head), scratch, to.q,
                   to.q_raw);
      continue;
    }
    const bool keys = part - q_tasks < kv_tasks;
    const int64_t head = (part - q_tasks) % kv_tasks * kv_heads, heads = std::min(kv_heads, config_.kv_heads - head);
    if (keys) {
      ProjectHeads(layer.k, layer.k_bias, layer.k_norm, true, batch, h, row, rows, head, heads, scratch, to.k, to.k_raw);
    } else {
      ProjectHeads(layer.v, layer.v_bias, {}, false, batch, h, row, rows, head, heads, scratch, to.v, nullptr);
    }
  }
  worker.Barrier();
}

void LayerPass::Attend(Worker& worker, const Batch& batch, const KvBase& kv, const Activations& to) const {
  const int64_t dim = config_.head_dim, q_columns = config_.heads * dim, kv_columns = config_.kv_heads * dim, bytes = kernels_.element_bytes;
  const int64_t head_bytes = static_cast<int64_t>(kernels_.kv_block_bytes(1, dim));
  const auto store = [&](const Span& span, int64_t head, int64_t heads) {
    const int64_t offset = (span.row * kv_columns + head * dim) * bytes;
    kernels_.store_kv({static_cast<char*>(to.k) + offset, kv_columns, static_cast<char*>(to.v) + offset, kv_columns, span.rows, span.position, heads,
                       dim, static_cast<char*>(kv.keys) + head * head_bytes, static_cast<char*>(kv.values) + head * head_bytes, kv.block_stride_bytes,
                       span.blocks});
  };
  if (!batch.apart) {
    for (int64_t task; (task = worker.NextTask(static_cast<int64_t>(batch.stores.size()))) >= 0;) {
      store(batch.stores[static_cast<size_t>(task)], 0, config_.kv_heads);
    }
    worker.Barrier();
  }
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(dim)));
  const auto num_reads = static_cast<int64_t>(batch.reads.size());
  // With enough sequences for every thread, a task takes all heads of one: the next head's keys are then fetched while this one's are used.
  const int64_t at_once = batch.apart && num_reads >= kSpansForWholeTasks * worker.num_threads() ? config_.kv_heads : 1;
  const int64_t parts = DivideUp(config_.kv_heads, at_once);
  for (int64_t task; (task = worker.NextTask(num_reads * parts)) >= 0;) {
    // The last spans of a long sequence have the most to read: they go first.
    const Span& span = batch.reads[static_cast<size_t>(num_reads - 1 - task / parts)];
    const int64_t head = task % parts * at_once, offset = span.row * q_columns * bytes;
    if (batch.apart) store(span, head, at_once);
    kernels_.attention({static_cast<char*>(to.q) + offset, q_columns, span.rows, span.position, config_.heads, config_.kv_heads, dim, head,
                        head + at_once, kv.keys, kv.values, kv.block_stride_bytes, span.blocks, scale, static_cast<char*>(to.attended) + offset,
                        q_columns, to.lse ? to.lse + span.row * config_.heads : nullptr, config_.heads});
  }
  worker.Barrier();
}

void LayerPass::GateUp(Worker& worker, const PackedLayer& layer, int64_t num_rows, const void* h, const Activations& to) const {
  const int64_t block = kernels_.column_block, inner = config_.intermediate, blocks = DivideUp(inner, block), bytes = kernels_.element_bytes;
  int64_t at_once = blocks_at_once_;
  if (num_rows <= kFewRows) {
    at_once = std::min(StreamLength(blocks, worker.num_threads()), static_cast<int64_t>(scratch_bytes_ / sizeof(float)) / (2 * num_rows * block));
  }
  const int64_t tasks = DivideUp(blocks, at_once), stride = at_once * block;
  float* gate = static_cast<float*>(scratch_.Of(worker));
  float* up = gate + std::min(num_rows, kPanelRows) * stride;
  for (int64_t task; (task = worker.NextTask(DivideUp(num_rows, kPanelRows) * tasks)) >= 0;) {
    const int64_t row = task / tasks * kPanelRows, rows = std::min(kPanelRows, num_rows - row);
    const int64_t begin = task % tasks * at_once, end = std::min(blocks, begin + at_once), columns = std::min(inner, end * block) - begin * block;
    const void* x = static_cast<const char*>(h) + row * config_.hidden * bytes;
    LinearBlocks(layer.gate, x, config_.hidden, rows, begin, end, gate, stride, false);
    LinearBlocks(layer.up, x, config_.hidden, rows, begin, end, up, stride, false);
    const int64_t offset = (row * inner + begin * block) * bytes;
    kernels_.silu({gate, up, stride, rows, columns, static_cast<char*>(to.act) + offset, inner});
    if (to.gate) {
      kernels_.convert({gate, stride, rows, columns, nullptr, static_cast<char*>(to.gate) + offset, inner});
      kernels_.convert({up, stride, rows, columns, nullptr, static_cast<char*>(to.up) + offset, inner});
    }
  }
  worker.Barrier();
}

void LayerPass::Layer(Worker& worker, const PackedLayer& layer, const Batch& batch, const KvBase& kv, const Activations& to, float* x,
                      bool with_output) const {
  const int64_t q_columns = config_.heads * config_.head_dim;
  Project(worker, layer, batch, NormFor(worker, x, batch, layer.norm1, to.h, to.x_in), to);
  Attend(worker, batch, kv, to);
  Linear(worker, layer.o, to.attended, q_columns, batch.num_rows, x, config_.hidden, true);
  GateUp(worker, layer, batch.num_rows, NormFor(worker, x, batch, layer.norm2, to.h, to.x_mid), to);
  if (with_output) Linear(worker, layer.down, to.act, config_.intermediate, batch.num_rows, x, config_.hidden, true);
}

void LayerPass::Logits(Worker& worker, const PackedPolicy& policy, const float* x, std::span<const int64_t> rows, void* h, const LogitsTo& to) const {
  const int64_t n = config_.hidden, block = kernels_.column_block, num_chunks = NumChunks(config_.vocab);
  const auto count = static_cast<int64_t>(rows.size());
  if (count == 0) return;
  for (int64_t task; (task = worker.NextTask(count)) >= 0;) {
    kernels_.rms_norm({x + rows[static_cast<size_t>(task)] * n, n, 1, n, policy.final_norm().data(), static_cast<float>(config_.rms_eps),
                       static_cast<char*>(h) + task * n * kernels_.element_bytes, n, nullptr});
  }
  worker.Barrier();
  // A task's logits are summed while they lie in the second cache: half a megabyte at most. Read again later, they come from memory.
  for (int64_t task; (task = worker.NextTask(DivideUp(count, kLogitRows) * num_chunks)) >= 0;) {
    const int64_t row = task / num_chunks * kLogitRows, end = std::min(row + kLogitRows, count), chunk = task % num_chunks;
    const int64_t first = chunk * kernels::kVocabChunk, columns = std::min(kernels::kVocabChunk, config_.vocab - first);
    LinearBlocks(policy.head(), static_cast<const char*>(h) + row * n * kernels_.element_bytes, n, end - row, first / block,
                 DivideUp(first + columns, block), to.logits + row * to.stride + first, to.stride, false);
    for (int64_t r = row; r < end && to.chunks != nullptr; ++r) {
      const float scale = to.scales[to.scales.size() == 1 ? 0 : static_cast<size_t>(r)];
      to.chunks[r * num_chunks + chunk] = kernels_.sum_chunk({to.logits + r * to.stride + first, columns, scale, to.with_products});
    }
  }
  worker.Barrier();
}

}  // namespace april::model
