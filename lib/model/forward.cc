#include "model/forward.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/layer_pass.h"

namespace april::model {
namespace {

/// Rows that go through the layers together; more are cut, which changes no bit.
constexpr int64_t kChunkRows = 512;

}  // namespace

struct Forward::State {
  State(const Config& model_config, const kernels::Kernels& kernel_set, kernels::ThreadPool& threads)
      : config(model_config), kernels(kernel_set), pool(threads), pass(model_config, kernel_set, threads.num_threads()) {}

  void Reserve(int64_t rows);
  void Prepare(std::span<const Row> rows);
  Batch Prepared() const;
  void Layer(Worker& worker, const PackedPolicy& policy, KvCache& cache, const Batch& batch, int64_t layer);
  void RunChunk(const PackedPolicy& policy, KvCache& cache, float* logits, kernels::ChunkSums* chunks);

  const Config config;
  const kernels::Kernels& kernels;
  kernels::ThreadPool& pool;
  LayerPass pass;
  int64_t capacity = 0;
  kernels::Memory memory;
  float* x = nullptr;
  Activations activations;
  std::vector<uint32_t> tokens;
  std::vector<int32_t> positions;
  std::vector<Span> spans;
  std::vector<int64_t> logit_rows;
  std::vector<float> scales;  ///< of those
};

void Forward::State::Reserve(int64_t rows) {
  if (rows <= capacity) return;
  capacity = std::min(kChunkRows, std::max(rows, 2 * capacity));
  const ActivationLayout layout{config, kernels, capacity, false};
  const auto x_bytes = static_cast<size_t>(capacity * config.hidden) * sizeof(float);
  const auto h_bytes = static_cast<size_t>(capacity * config.hidden * kernels.element_bytes);
  memory = {};
  memory = kernels::Memory(x_bytes + h_bytes + layout.Place(nullptr, &activations));
  x = memory.as<float>();
  activations.h = memory.as<char>() + x_bytes;
  layout.Place(memory.as<char>() + x_bytes + h_bytes, &activations);
  const auto reserve = static_cast<size_t>(capacity);
  tokens.reserve(reserve);
  positions.reserve(reserve);
  spans.reserve(reserve);
  logit_rows.reserve(reserve);
  scales.reserve(reserve);
}

void Forward::State::Prepare(std::span<const Row> rows) {
  tokens.clear();
  positions.clear();
  spans.clear();
  logit_rows.clear();
  scales.clear();
  Span span;
  const Sequence* sequence = nullptr;
  int64_t last = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    if (row.token >= config.vocab) {
      throw Error::Incompatible("token " + std::to_string(row.token) + " is not in the model's vocabulary of " + std::to_string(config.vocab));
    }
    if (row.position < 0 || KvCache::BlocksFor(int64_t{row.position} + 1) > static_cast<int64_t>(row.sequence->blocks.size())) {
      throw Error::Runtime("no room in the key/value cache for position " + std::to_string(row.position));
    }
    last = std::max<int64_t>(last, row.position);
    tokens.push_back(row.token);
    positions.push_back(row.position);
    if (row.logits) {
      logit_rows.push_back(static_cast<int64_t>(i));
      scales.push_back(row.scale);
    }
    if (row.sequence == sequence && row.position == span.position + span.rows) {
      ++span.rows;
    } else {
      if (span.rows > 0) AppendCut(span, &spans);
      span = {static_cast<int64_t>(i), 1, row.position, row.sequence->blocks.data()};
      sequence = row.sequence;
    }
    row.sequence->length = std::max(row.sequence->length, int64_t{row.position} + 1);
  }
  AppendCut(span, &spans);
  pass.rope().Extend(last + 1);
}

Batch Forward::State::Prepared() const {
  const auto same = [](const Span& a, const Span& b) { return a.blocks == b.blocks; };
  const bool apart = std::adjacent_find(spans.begin(), spans.end(), same) == spans.end();
  return {static_cast<int64_t>(tokens.size()), tokens.data(), positions.data(), spans, spans, apart};
}

void Forward::State::Layer(Worker& worker, const PackedPolicy& policy, KvCache& cache, const Batch& batch, int64_t layer) {
  const KvBase kv{cache.KeyBase(layer), cache.ValueBase(layer), cache.block_stride_bytes()};
  pass.Layer(worker, policy.layer(layer), batch, kv, activations, x);
}

void Forward::State::RunChunk(const PackedPolicy& policy, KvCache& cache, float* logits, kernels::ChunkSums* chunks) {
  const Batch batch = Prepared();
  pool.Run([&](Worker& worker) {
    pass.Embed(worker, policy, batch, x);
    for (int64_t layer = 0; layer < config.layers; ++layer) Layer(worker, policy, cache, batch, layer);
    pass.Logits(worker, policy, x, logit_rows, activations.h, {logits, config.vocab, chunks, scales});
  });
}

Forward::Forward(const Config& config, const kernels::Kernels& kernels, kernels::ThreadPool& pool)
    : state_(std::make_unique<State>(config, kernels, pool)) {}
Forward::~Forward() = default;

void Forward::Run(const Policy& policy, KvCache& cache, std::span<const Row> rows, float* logits, kernels::ChunkSums* chunks) {
  while (!rows.empty()) {
    const std::span<const Row> chunk = rows.first(std::min(rows.size(), static_cast<size_t>(kChunkRows)));
    state_->Reserve(static_cast<int64_t>(chunk.size()));
    state_->Prepare(chunk);
    state_->RunChunk(PackedPolicy::Of(policy), cache, logits, chunks);
    const auto num_logits = static_cast<int64_t>(state_->logit_rows.size());
    logits += num_logits * state_->config.vocab;
    if (chunks != nullptr) chunks += num_logits * NumChunks(state_->config.vocab);
    rows = rows.subspan(chunk.size());
  }
}

int64_t Forward::FirstNotFinite(const Policy& policy, KvCache& cache, const Row& row) {
  State& state = *state_;
  const PackedPolicy& packed = PackedPolicy::Of(policy);
  state.Reserve(1);
  state.Prepare({&row, 1});
  const Batch batch = state.Prepared();
  const auto is_finite = [&] { return std::all_of(state.x, state.x + state.config.hidden, [](float value) { return std::isfinite(value); }); };
  state.pool.Run([&](Worker& worker) { state.pass.Embed(worker, packed, batch, state.x); });
  for (int64_t layer = -1; layer < state.config.layers; ++layer) {
    if (layer >= 0) state.pool.Run([&](Worker& worker) { state.Layer(worker, packed, cache, batch, layer); });
    if (!is_finite()) return layer;
  }
  return state.config.layers;
}

}  // namespace april::model
