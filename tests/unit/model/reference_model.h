// The slow obvious network, in float64 over autograd: the oracle of the forward and of the hand-written backward.
#pragma once

#include <ATen/ATen.h>
#undef CHECK  // Catch2's is meant

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"
#include "model/policy.h"
#include "model/rope.h"
#include "tiny_model.h"

namespace april::model {

class ReferenceModel {
 public:
  ReferenceModel(const Config& config, const std::vector<TinyParameter>& parameters) : config_(config) {
    const std::vector<ParameterSpec> specs = Parameters(config);
    for (size_t i = 0; i < specs.size(); ++i) {
      parameters_.push_back(at::tensor(parameters[i].values).reshape(specs[i].shape).to(at::kDouble).requires_grad_(true));
    }
  }

  const std::vector<at::Tensor>& parameters() const { return parameters_; }

  /// Logits [tokens, vocab] of one sequence.
  at::Tensor Logits(std::span<const uint32_t> tokens) const {
    const auto count = static_cast<int64_t>(tokens.size());
    at::Tensor ids = at::empty({count}, at::kLong);
    for (int64_t i = 0; i < count; ++i) ids.data_ptr<int64_t>()[i] = tokens[static_cast<size_t>(i)];
    size_t next = 0;
    const at::Tensor embedding = parameters_[next++];
    at::Tensor x = embedding.index_select(0, ids);
    const auto [cos, sin] = Rotation(count);
    const at::Tensor mask = at::full({count, count}, -1e30, at::kDouble).triu(1);
    for (int64_t layer = 0; layer < config_.layers; ++layer) {
      at::Tensor h = Norm(x, parameters_[next++]);
      at::Tensor q = h.matmul(parameters_[next++].t()), k = h.matmul(parameters_[next++].t()), v = h.matmul(parameters_[next++].t());
      if (config_.attention_bias) {
        q = q + parameters_[next++];
        k = k + parameters_[next++];
        v = v + parameters_[next++];
      }
      q = Heads(q, config_.heads);
      k = Heads(k, config_.kv_heads);
      v = Heads(v, config_.kv_heads);
      if (config_.qk_norm) {
        q = Norm(q, parameters_[next++]);
        k = Norm(k, parameters_[next++]);
      }
      q = Rotate(q, cos, sin);
      k = Rotate(k, cos, sin).repeat_interleave(config_.group(), 0);
      v = v.repeat_interleave(config_.group(), 0);
      const at::Tensor scores = q.matmul(k.transpose(1, 2)) / std::sqrt(static_cast<double>(config_.head_dim)) + mask;
      const at::Tensor attended = scores.softmax(-1).matmul(v).transpose(0, 1).reshape({count, config_.heads * config_.head_dim});
      x = x + attended.matmul(parameters_[next++].t());
      h = Norm(x, parameters_[next++]);
      const at::Tensor gate = h.matmul(parameters_[next++].t()), up = h.matmul(parameters_[next++].t());
      x = x + (at::silu(gate) * up).matmul(parameters_[next++].t());
    }
    x = Norm(x, parameters_[next++]);
    return x.matmul((config_.tied_embeddings ? embedding : parameters_[next]).t());
  }

 private:
  at::Tensor Norm(const at::Tensor& x, const at::Tensor& weight) const { return x * (x.square().mean(-1, true) + config_.rms_eps).rsqrt() * weight; }
  at::Tensor Heads(const at::Tensor& x, int64_t heads) const { return x.reshape({x.size(0), heads, config_.head_dim}).transpose(0, 1); }
  static at::Tensor Rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
    const int64_t half = x.size(2) / 2;
    const at::Tensor a = x.slice(2, 0, half), b = x.slice(2, half);
    return at::cat({a * cos - b * sin, b * cos + a * sin}, 2);
  }
  std::pair<at::Tensor, at::Tensor> Rotation(int64_t count) const {
    const std::vector<double> frequencies = RopeFrequencies(config_);
    const at::Tensor f = at::tensor(frequencies, at::kDouble);
    const at::Tensor angles = at::outer(at::arange(count, at::kDouble), f);
    const double factor = config_.rope_scaling.kind == RopeScaling::Kind::kYarn ? config_.rope_scaling.attention_factor : 1;
    return {angles.cos() * factor, angles.sin() * factor};
  }

  Config config_;
  std::vector<at::Tensor> parameters_;
};

}  // namespace april::model
