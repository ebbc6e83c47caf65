// The backward pass: layers in reverse (the last matrix: training_head.cc). Products in the element type with f32 accumulators, all else in f32.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/training_state.h"

namespace april::model {
namespace {

constexpr int64_t kRows = 8;           // of elementwise work that a thread takes at once
constexpr int64_t kScratchRows = 128;  // of a product that is used up at once

}  // namespace

BackwardPass::Indices::Indices(const Config& config)
    : q_norm(config.attention_bias ? 7 : 4), o(q_norm + (config.qk_norm ? 2 : 0)), norm2(o + 1), gate(o + 2), up(o + 3), down(o + 4), count(o + 5) {}

BackwardPass::BackwardPass(TrainingPass::State& state, const PackedPolicy& policy, std::span<const float> logprob_gradients,
                           std::span<const float> entropy_gradients, Gradients* gradients)
    : s_(state),
      plan_(*state.plan),
      policy_(policy),
      kernels_(state.kernels),
      config_(state.config),
      logprob_gradients_(logprob_gradients),
      entropy_gradients_(entropy_gradients),
      gradients_(*gradients),
      lookup_slots_(gradients->LookupSlots(plan_.tokens)),
      rows_(static_cast<int64_t>(plan_.tokens.size())),
      hidden_(config_.hidden),
      q_(config_.heads * config_.head_dim),
      kv_(config_.kv_heads * config_.head_dim),
      inner_(config_.intermediate) {
  const int64_t elem = kernels_.element_bytes, head_rows = kHeadTiles * kernels::kGradientTile;
  const int64_t row_tiles = plan_.row_tiles.count();
  const int64_t wide = std::max(2 * inner_, q_ + 2 * kv_);
  Room<float>(&s_.dx, rows_ * hidden_);
  Room<char>(&s_.dx_elem, rows_ * hidden_ * elem);
  Room<float>(&s_.dh, std::max(rows_, head_rows) * hidden_);
  Room<float>(&s_.inv_rms, std::max(rows_, head_rows));
  Room<char>(&s_.wide, rows_ * wide * elem);
  Room<char>(&s_.dattended, rows_ * q_ * elem);
  Room<float>(&s_.delta, rows_ * config_.heads);
  Room<float>(&s_.dq, rows_ * q_);
  Room<float>(&s_.dk, (rows_ + plan_.num_addend_rows) * kv_);
  Room<float>(&s_.dv, (rows_ + plan_.num_addend_rows) * kv_);
  const auto packed = [&](int64_t tiles, int64_t n) { return static_cast<int64_t>(kernels_.packed_rows_bytes(kernels::kGradientTile, n)) * tiles; };
  const int64_t head_tiles = std::min(kHeadTiles, plan_.target_tiles.count());
  Room<char>(&s_.packed_dy, std::max(packed(row_tiles, std::max({inner_, hidden_, q_})), packed(head_tiles, kHeadSlice)));
  Room<char>(&s_.packed_x, std::max(packed(row_tiles, std::max({inner_, hidden_, q_})), packed(head_tiles, hidden_)));
  Room<float>(&s_.tiles, std::max(row_tiles, head_tiles) * std::max(hidden_, q_));
  if (s_.num_whole < config_.layers) Room<float>(&s_.x_again, rows_ * hidden_);
  const int64_t head_row_count = head_tiles * kernels::kGradientTile;
  Room<float>(&s_.gathered, head_row_count * hidden_);
  Room<float>(&s_.dgathered, head_row_count * hidden_);
  Room<char>(&s_.dlogits, head_row_count * kHeadStride * elem);
  Room<float>(&s_.logits_again, head_row_count * kHeadStride);
  const size_t attention = kernels_.attention_backward_bytes(plan_.max_positions + plan_.max_queries, plan_.max_queries, config_.head_dim);
  const size_t bytes = std::max(attention, static_cast<size_t>(3 * kScratchRows * kScratchColumns) * sizeof(float));
  if (bytes > s_.scratch_bytes) s_.scratch.Resize(s_.pool.num_threads(), s_.scratch_bytes = bytes);
}

void BackwardPass::Run(Worker& worker) {
  const Indices at(config_);
  RunHead(worker);
  for (int64_t i = config_.layers; i-- > 0;) {
    const PackedLayer& layer = policy_.layer(i);
    if ((i + 1 == config_.layers || (i + 1) % s_.input_distance == 0) && i % s_.input_distance != 0) InputsAgain(worker, i);
    if (i >= s_.num_whole) ComputeAgain(worker, i);
    Activations saved = i < s_.num_whole ? s_.layers[static_cast<size_t>(i)] : s_.again;
    saved.x_in = s_.inputs[static_cast<size_t>(i)];
    const size_t parameter = 1 + static_cast<size_t>(i) * at.count;
    Mlp(worker, layer, saved, parameter);
    Attention(worker, layer, saved, parameter);
  }
  Lookups(worker);
}

void BackwardPass::CopyRows(Worker& worker, const float* from, float* to) {
  for (int64_t task; (task = worker.NextTask(DivideUp(rows_, kRows))) >= 0;) {
    const int64_t row = task * kRows;
    std::memcpy(to + row * hidden_, from + row * hidden_, static_cast<size_t>(std::min(kRows, rows_ - row) * hidden_) * sizeof(float));
  }
  worker.Barrier();
}

void BackwardPass::InputsAgain(Worker& worker, int64_t last) {
  const int64_t first = last - last % s_.input_distance;
  float* x = s_.x_again.as<float>();
  CopyRows(worker, s_.inputs[static_cast<size_t>(first)], x);
  for (int64_t layer = first; layer < last; ++layer) {
    s_.pass.Layer(worker, policy_.layer(layer), plan_.batch(), s_.Kv(), s_.layers[static_cast<size_t>(layer)], x);
    CopyRows(worker, x, s_.inputs[static_cast<size_t>(layer) + 1]);
  }
}

void BackwardPass::ComputeAgain(Worker& worker, int64_t layer) {
  float* x = s_.x_again.as<float>();
  CopyRows(worker, s_.inputs[static_cast<size_t>(layer)], x);
  s_.pass.Layer(worker, policy_.layer(layer), plan_.batch(), s_.Kv(), s_.again, x, false);
}

// ---- a layer ----

void BackwardPass::Mlp(Worker& worker, const PackedLayer& layer, const Activations& saved, size_t parameter) {
  const Indices at(config_);
  const Tiles& tiles = plan_.row_tiles;
  RoundGradient(worker);
  ActivationGradient(worker, layer, saved);
  s_.pass.Linear(worker, layer.gate_up_t, s_.wide.data(), 2 * inner_, rows_, s_.dh.as<float>(), hidden_, false);

  Pack(worker, kernels_.pack_rows, tiles, saved.act, inner_, inner_, &s_.packed_x);
  WeightGradient(worker, tiles, s_.dx_elem.data(), hidden_, hidden_, inner_, gradients_.Pending(parameter + at.down).data());
  NormAgain(worker, saved.x_mid, layer.norm2);
  Pack(worker, kernels_.pack_rows, tiles, s_.h_memory.data(), hidden_, hidden_, &s_.packed_x);
  for (const size_t part : {0, 1}) {
    WeightGradient(worker, tiles, At(s_.wide.data(), static_cast<int64_t>(part) * inner_), 2 * inner_, inner_, hidden_,
                   gradients_.Pending(parameter + at.gate + part).data());
  }
  NormGradient(worker, saved.x_mid, layer.norm2, parameter + at.norm2);
}

/// Through the last product of the MLP and its activation: gradients of gate and up, side by side in `wide`.
void BackwardPass::ActivationGradient(Worker& worker, const PackedLayer& layer, const Activations& saved) {
  const int64_t block = kernels_.column_block, at_once = std::max<int64_t>(1, kScratchColumns / block), stride = at_once * block;
  const int64_t blocks = DivideUp(inner_, block), tasks = DivideUp(blocks, at_once);
  float* dact = static_cast<float*>(s_.scratch.Of(worker));
  float *gate = dact + kScratchRows * stride, *up = gate + kScratchRows * stride;
  for (int64_t task; (task = worker.NextTask(DivideUp(rows_, kScratchRows) * tasks)) >= 0;) {
    const int64_t row = task / tasks * kScratchRows, rows = std::min(kScratchRows, rows_ - row), begin = task % tasks * at_once,
                  end = std::min(blocks, begin + at_once), column = begin * block, n = std::min(inner_, end * block) - column;
    s_.pass.LinearBlocks(layer.down_t, At(s_.dx_elem.data(), row * hidden_), hidden_, rows, begin, end, dact, stride, false);
    for (int64_t r = 0; r < rows; ++r) {
      kernels_.to_float(At(saved.gate, (row + r) * inner_ + column), gate + r * stride, n);
      kernels_.to_float(At(saved.up, (row + r) * inner_ + column), up + r * stride, n);
    }
    void* dgate = At(s_.wide.data(), row * 2 * inner_ + column);
    kernels_.silu_backward({gate, up, stride, dact, stride, rows, n, dgate, At(dgate, inner_), 2 * inner_});
  }
  worker.Barrier();
}

void BackwardPass::Attention(Worker& worker, const PackedLayer& layer, const Activations& saved, size_t parameter) {
  const Indices at(config_);
  const Tiles& tiles = plan_.row_tiles;
  const int64_t qkv = q_ + 2 * kv_;
  RoundGradient(worker);
  AttendedGradient(worker, layer, saved);
  RotationGradient(worker, layer, saved, parameter);
  s_.pass.Linear(worker, layer.qkv_t, s_.wide.data(), qkv, rows_, s_.dh.as<float>(), hidden_, false);

  Pack(worker, kernels_.pack_rows, tiles, saved.attended, q_, q_, &s_.packed_x);
  WeightGradient(worker, tiles, s_.dx_elem.data(), hidden_, hidden_, q_, gradients_.Pending(parameter + at.o).data());
  NormAgain(worker, saved.x_in, layer.norm1);
  Pack(worker, kernels_.pack_rows, tiles, s_.h_memory.data(), hidden_, hidden_, &s_.packed_x);
  for (const size_t part : {0, 1, 2}) {
    const int64_t first = part == 0 ? 0 : part == 1 ? q_ : q_ + kv_, n = part == 0 ? q_ : kv_;
    WeightGradient(worker, tiles, At(s_.wide.data(), first), qkv, n, hidden_, gradients_.Pending(parameter + at.q + part).data());
    if (!config_.attention_bias) continue;
    for (int64_t t; (t = worker.NextTask(tiles.count())) >= 0;) {
      const Tile tile = tiles[t];
      kernels_.column_sum({At(s_.wide.data(), tile.row * qkv + first), qkv, tile.rows, n, s_.tiles.as<float>() + t * n});
    }
    worker.Barrier();
    AddTiles(worker, tiles.count(), n, parameter + at.q_bias + part);
  }
  NormGradient(worker, saved.x_in, layer.norm1, parameter + at.norm1);
}

/// Through the output product and attention itself: dq, dk, dv of rotated queries and keys. Sequences are computed at once; what they add to their
/// prompts' keys and values is added up afterwards, the prompt's own first, then the responses' in order.
void BackwardPass::AttendedGradient(Worker& worker, const PackedLayer& layer, const Activations& saved) {
  const int64_t block = kernels_.column_block, at_once = std::max<int64_t>(1, kScratchColumns / block), stride = at_once * block;
  const int64_t blocks = DivideUp(q_, block), tasks = DivideUp(blocks, at_once);
  float* scratch = static_cast<float*>(s_.scratch.Of(worker));
  for (int64_t task; (task = worker.NextTask(DivideUp(rows_, kScratchRows) * tasks)) >= 0;) {
    const int64_t row = task / tasks * kScratchRows, rows = std::min(kScratchRows, rows_ - row), begin = task % tasks * at_once,
                  end = std::min(blocks, begin + at_once), column = begin * block;
    s_.pass.LinearBlocks(layer.o_t, At(s_.dx_elem.data(), row * hidden_), hidden_, rows, begin, end, scratch, stride, false);
    kernels_.convert({scratch, stride, rows, std::min(q_, end * block) - column, nullptr, At(s_.dattended.data(), row * q_ + column), q_});
  }
  worker.Barrier();
  const int64_t heads = config_.heads, head_dim = config_.head_dim;
  for (int64_t task; (task = worker.NextTask(DivideUp(rows_, kRows))) >= 0;) {
    const int64_t row = task * kRows, rows = std::min(kRows, rows_ - row);
    kernels_.attention_delta(
        {At(saved.attended, row * q_), At(s_.dattended.data(), row * q_), q_, rows, heads, head_dim, s_.delta.as<float>() + row * heads, heads});
  }
  worker.Barrier();
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim)));
  for (int64_t task; (task = worker.NextTask(static_cast<int64_t>(plan_.attended.size()) * config_.kv_heads)) >= 0;) {
    const AttendedSpan& attended = plan_.attended[static_cast<size_t>(task / config_.kv_heads)];
    kernels_.attention_backward({saved.q,
                                 q_,
                                 saved.k,
                                 kv_,
                                 saved.v,
                                 kv_,
                                 s_.dattended.data(),
                                 q_,
                                 saved.lse,
                                 s_.delta.as<float>(),
                                 heads,
                                 attended.spans,
                                 attended.num_spans,
                                 heads,
                                 config_.kv_heads,
                                 head_dim,
                                 task % config_.kv_heads,
                                 scale,
                                 s_.dq.as<float>(),
                                 q_,
                                 s_.dk.as<float>(),
                                 s_.dv.as<float>(),
                                 kv_,
                                 attended.addend_shift,
                                 s_.scratch.Of(worker)});
  }
  worker.Barrier();
  for (int64_t task; (task = worker.NextTask(static_cast<int64_t>(plan_.prompt_sums.size()))) >= 0;) {
    const PromptSum& prompt = plan_.prompt_sums[static_cast<size_t>(task)];
    for (float* gradient : {s_.dk.as<float>(), s_.dv.as<float>()}) {
      float* sum = gradient + prompt.rows.begin * kv_;
      for (int64_t i = 0; i < prompt.num_addends; ++i)
        kernels_.add(sum + (prompt.first_shift + i * prompt.addend_rows) * kv_, sum, prompt.rows.count * kv_);
    }
  }
  worker.Barrier();
}

/// From dq, dk, dv to the gradients of the three products' outputs, side by side in `wide`.
void BackwardPass::RotationGradient(Worker& worker, const PackedLayer& layer, const Activations& saved, size_t parameter) {
  const Indices at(config_);
  const int64_t qkv = q_ + 2 * kv_;
  const int64_t num_tiles = plan_.row_tiles.count();
  const auto data = [](const std::vector<float>& values) { return values.empty() ? nullptr : values.data(); };
  for (const bool keys : {false, true}) {
    const int64_t n = keys ? kv_ : q_, first = keys ? q_ : 0;
    const float *dy = keys ? s_.dk.as<float>() : s_.dq.as<float>(), *raw = keys ? saved.k_raw : saved.q_raw;
    for (int64_t t; (t = worker.NextTask(num_tiles)) >= 0;) {
      const Tile tile = plan_.row_tiles[t];
      kernels_.rope_backward({dy + tile.row * n, n, tile.rows, plan_.positions.data() + tile.row, n / config_.head_dim, config_.head_dim,
                              s_.pass.rope().Row(0), raw ? raw + tile.row * n : nullptr, n, data(keys ? layer.k_bias : layer.q_bias),
                              data(keys ? layer.k_norm : layer.q_norm), static_cast<float>(config_.rms_eps),
                              At(s_.wide.data(), tile.row * qkv + first), qkv,
                              config_.qk_norm ? s_.tiles.as<float>() + t * config_.head_dim : nullptr});
      if (keys)
        kernels_.convert({s_.dv.as<float>() + tile.row * kv_, kv_, tile.rows, kv_, nullptr, At(s_.wide.data(), tile.row * qkv + q_ + kv_), qkv});
    }
    worker.Barrier();
    if (config_.qk_norm) AddTiles(worker, num_tiles, config_.head_dim, parameter + at.q_norm + (keys ? 1 : 0));
  }
}

void BackwardPass::Lookups(Worker& worker) {
  if (lookup_slots_.empty()) return;
  for (int64_t task; (task = worker.NextTask(DivideUp(hidden_, kScratchColumns))) >= 0;) {
    const int64_t column = task * kScratchColumns, n = std::min(kScratchColumns, hidden_ - column);
    for (int64_t row = 0; row < rows_; ++row) {
      kernels_.add(s_.dx.as<float>() + row * hidden_ + column, gradients_.Lookup(lookup_slots_[static_cast<size_t>(row)]) + column, n);
    }
  }
  worker.Barrier();
}

// ---- parts ----

void BackwardPass::RoundGradient(Worker& worker) {
  for (int64_t task; (task = worker.NextTask(DivideUp(rows_, kRows))) >= 0;) {
    const int64_t row = task * kRows;
    kernels_.convert(
        {s_.dx.as<float>() + row * hidden_, hidden_, std::min(kRows, rows_ - row), hidden_, nullptr, At(s_.dx_elem.data(), row * hidden_), hidden_});
  }
  worker.Barrier();
}

void BackwardPass::NormAgain(Worker& worker, const float* x, const std::vector<float>& weight) {
  for (int64_t task; (task = worker.NextTask(DivideUp(rows_, kRows))) >= 0;) {
    const int64_t row = task * kRows;
    kernels_.rms_norm({x + row * hidden_, hidden_, std::min(kRows, rows_ - row), hidden_, weight.data(), static_cast<float>(config_.rms_eps),
                       At(s_.h_memory.data(), row * hidden_), hidden_, s_.inv_rms.as<float>() + row});
  }
  worker.Barrier();
}

void BackwardPass::NormGradient(Worker& worker, const float* x, const std::vector<float>& weight, size_t parameter) {
  const int64_t num_tiles = plan_.row_tiles.count();
  for (int64_t t; (t = worker.NextTask(num_tiles)) >= 0;) {
    const Tile tile = plan_.row_tiles[t];
    const int64_t offset = tile.row * hidden_;
    kernels_.rms_norm_backward({x + offset, hidden_, s_.inv_rms.as<float>() + tile.row, weight.data(), s_.dh.as<float>() + offset, hidden_, tile.rows,
                                hidden_, s_.dx.as<float>() + offset, hidden_, true, s_.tiles.as<float>() + t * hidden_});
  }
  worker.Barrier();
  AddTiles(worker, num_tiles, hidden_, parameter);
}

void BackwardPass::Pack(Worker& worker, PackRows pack, const Tiles& tiles, const void* x, int64_t stride, int64_t n, kernels::Memory* packed) {
  const size_t bytes = kernels_.packed_rows_bytes(kernels::kGradientTile, n);
  for (int64_t t; (t = worker.NextTask(tiles.count())) >= 0;) {
    const Tile tile = tiles[t];
    pack({At(x, tile.row * stride), stride, tile.rows, n, 0, 1, packed->as<char>() + static_cast<size_t>(t) * bytes});
  }
  worker.Barrier();
}

void BackwardPass::WeightGradient(Worker& worker, const Tiles& tiles, const void* dy, int64_t dy_stride, int64_t n, int64_t k, float* dw) {
  if (dw == nullptr) return;
  Pack(worker, kernels_.pack_gradient_rows, tiles, dy, dy_stride, n, &s_.packed_dy);
  const int64_t n_panels = DivideUp(n, kernels_.panel_columns), k_panels = DivideUp(k, kernels_.panel_columns);
  for (int64_t task; (task = worker.NextTask(n_panels * k_panels)) >= 0;) {
    const int64_t n_panel = task / k_panels, k_panel = task % k_panels;
    kernels_.weight_gradient(
        {s_.packed_dy.data(), s_.packed_x.data(), tiles.count(), n, k, n_panel, n_panel + 1, k_panel, k_panel + 1, dw, k, tiles.rows.data()});
  }
  worker.Barrier();
}

void BackwardPass::AddTiles(Worker& worker, int64_t num_tiles, int64_t n, size_t parameter) {
  float* gradient = gradients_.Pending(parameter).data();
  if (gradient == nullptr) return;
  if (worker.NextTask(1) == 0) {
    for (int64_t t = 0; t < num_tiles; ++t) kernels_.add(s_.tiles.as<float>() + t * n, gradient, n);
  }
  worker.Barrier();
}

}  // namespace april::model
