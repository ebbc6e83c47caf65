// The last matrix and the final norm: log-probabilities of the targets, and the way back through them.
#include <algorithm>
#include <cstring>

#include "model/forward.h"
#include "model/training_state.h"

namespace april::model {
namespace {

/// Targets whose logits are computed together.
constexpr int64_t kTargetsAtOnce = 128;
static_assert(kTargetsAtOnce <= kHeadTiles * kernels::kGradientTile);

}  // namespace

int64_t TrainingPass::State::PlaceLogits(int64_t bytes) {
  const int64_t row_bytes = LogitStride() * static_cast<int64_t>(sizeof(float)), room = std::max<int64_t>(0, bytes) / row_bytes;
  // Whole parts as Backward takes them.
  const Tiles& parts = plan->target_tiles;
  chunks.resize(static_cast<size_t>(kTargetsAtOnce * NumChunks(config.vocab)));
  num_kept_targets = 0;
  for (int64_t tile = 0; tile < parts.count(); tile += kHeadTiles) {
    const Tile last = parts[std::min(tile + kHeadTiles, parts.count()) - 1];
    if (last.row + last.rows > room) break;
    num_kept_targets = last.row + last.rows;
  }
  if (num_kept_targets < plan->num_targets()) Room<float>(&logits_memory, kTargetsAtOnce * LogitStride());
  return num_kept_targets * row_bytes;
}

void TrainingPass::State::RunHead(Worker& worker, const PackedPolicy& policy, std::span<float> logprobs, std::span<float> entropies) {
  const int64_t num_chunks = NumChunks(config.vocab);
  const float scale = Scale();
  for (int64_t first = 0, count = 0; first < plan->num_targets(); first += count) {
    const bool keeps = first < num_kept_targets;
    count = std::min(kTargetsAtOnce, (keeps ? num_kept_targets : plan->num_targets()) - first);
    float* logits = keeps ? kept_logits + first * LogitStride() : logits_memory.as<float>();
    pass.Logits(worker, policy, x, std::span(plan->target_rows).subspan(static_cast<size_t>(first), static_cast<size_t>(count)), h,
                {logits, LogitStride(), chunks.data(), std::span(&scale, 1), !entropies.empty()});
    for (int64_t i; (i = worker.NextTask(count)) >= 0;) {
      const auto target = static_cast<size_t>(first + i);
      float* entropy = entropies.empty() ? nullptr : &entropies[target];
      log_sum_exps[target] = kernels.join_chunks({chunks.data() + i * num_chunks, num_chunks, nullptr, nullptr, entropy});
      logprobs[target] = TokenLogprob(logits + i * LogitStride(), plan->target_tokens[target], temperature, log_sum_exps[target]);
    }
    worker.Barrier();
  }
}

void BackwardPass::RunHead(Worker& worker) {
  float* dx = s_.dx.as<float>();
  for (int64_t row; (row = worker.NextTask(rows_)) >= 0;) std::memset(dx + row * hidden_, 0, static_cast<size_t>(hidden_) * sizeof(float));
  worker.Barrier();
  const Tiles& tiles = plan_.target_tiles;
  for (int64_t tile = 0; tile < tiles.count(); tile += kHeadTiles) {
    RunHeadTiles(worker, tiles[tile].row, tiles.Part(tile, std::min(kHeadTiles, tiles.count() - tile)));
  }
}

void BackwardPass::RunHeadTiles(Worker& worker, int64_t first, const Tiles& tiles) {
  const int64_t count = tiles.total_rows();
  float *x = s_.gathered.as<float>(), *inv_rms = s_.inv_rms.as<float>();
  for (int64_t i; (i = worker.NextTask(count)) >= 0;) {
    const float* row = s_.x + plan_.target_rows[static_cast<size_t>(first + i)] * hidden_;
    std::memcpy(x + i * hidden_, row, static_cast<size_t>(hidden_) * sizeof(float));
    kernels_.rms_norm({row, hidden_, 1, hidden_, policy_.final_norm().data(), static_cast<float>(config_.rms_eps),
                       At(s_.h_memory.data(), i * hidden_), hidden_, inv_rms + i});
  }
  worker.Barrier();
  Pack(worker, kernels_.pack_rows, tiles, s_.h_memory.data(), hidden_, hidden_, &s_.packed_x);
  for (int64_t slice = 0; slice * kHeadSlice < config_.vocab; ++slice) HeadSlice(worker, slice, first, tiles);

  for (int64_t t; (t = worker.NextTask(tiles.count())) >= 0;) {
    const Tile tile = tiles[t];
    const int64_t offset = tile.row * hidden_;
    kernels_.rms_norm_backward({x + offset, hidden_, inv_rms + tile.row, policy_.final_norm().data(), s_.dh.as<float>() + offset, hidden_, tile.rows,
                                hidden_, s_.dgathered.as<float>() + offset, hidden_, false, s_.tiles.as<float>() + t * hidden_});
  }
  worker.Barrier();
  AddTiles(worker, tiles.count(), hidden_, 1 + static_cast<size_t>(config_.layers) * Indices(config_).count);
  ScatterHidden(worker, first, count);
}

void BackwardPass::HeadSlice(Worker& worker, int64_t slice, int64_t first, const Tiles& tiles) {
  const int64_t count = tiles.total_rows(), begin = slice * kHeadSlice, n = std::min(kHeadSlice, config_.vocab - begin);
  const bool keeps = first < s_.num_kept_targets;
  const int64_t stride = keeps ? s_.LogitStride() : kHeadStride, block = kernels_.column_block;
  const float* logits = keeps ? s_.kept_logits + first * stride + begin : s_.logits_again.as<float>();
  if (!keeps) {
    s_.pass.LinearRange(worker, policy_.head(), begin / block, DivideUp(begin + n, block), s_.h_memory.data(), hidden_, count,
                        s_.logits_again.as<float>(), stride, false);
  }
  for (int64_t i; (i = worker.NextTask(count)) >= 0;) {
    const auto target = static_cast<size_t>(first + i);
    const int64_t token = static_cast<int64_t>(plan_.target_tokens[target]) - begin;
    void* out = At(s_.dlogits.data(), i * kHeadStride);
    const float entropy_gradient = entropy_gradients_.empty() ? 0 : entropy_gradients_[target];
    kernels_.softmax_gradient({logits + i * stride, n, s_.Scale(), s_.log_sum_exps[target], token >= 0 && token < n ? token : -1,
                               logprob_gradients_[target], entropy_gradient == 0 ? 0 : s_.entropy_values[target], entropy_gradient, out});
    if (n % 2 != 0) std::memset(At(out, n), 0, static_cast<size_t>(kernels_.element_bytes));
  }
  worker.Barrier();
  s_.pass.Linear(worker, policy_.head_t(slice), s_.dlogits.data(), kHeadStride, count, s_.dh.as<float>(), hidden_, slice > 0);
  const size_t parameter = config_.tied_embeddings ? 0 : gradients_.size() - 1;
  const std::span<float> dw = gradients_.Pending(parameter);
  if (!dw.empty()) WeightGradient(worker, tiles, s_.dlogits.data(), kHeadStride, n, hidden_, dw.data() + begin * hidden_);
}

/// dx of each target's row, added in order: a prompt's last row belongs to several. A thread takes columns.
void BackwardPass::ScatterHidden(Worker& worker, int64_t first, int64_t count) {
  const float* from = s_.dgathered.as<float>();
  for (int64_t task; (task = worker.NextTask(DivideUp(hidden_, kScratchColumns))) >= 0;) {
    const int64_t column = task * kScratchColumns, n = std::min(kScratchColumns, hidden_ - column);
    for (int64_t i = 0; i < count; ++i) {
      kernels_.add(from + i * hidden_ + column, s_.dx.as<float>() + plan_.target_rows[static_cast<size_t>(first + i)] * hidden_ + column, n);
    }
  }
  worker.Barrier();
}

}  // namespace april::model
