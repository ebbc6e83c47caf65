// Everything that an update changes: f32 master weights, AdamW's moments, the bf16 weights that are published, and the counters; with an adapter,
// also the matrices that its factors are merged into. Among several ranks each has the masters and moments of its own shard, and all of the bf16
// weights. An adapter is too small to be worth dividing: rank 0 moves it, and the others have its factors and base, and merge them too, so that of
// the weights only factors travel after the start.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "grpo/adapter.h"
#include "kernels/memory.h"
#include "kernels/thread_pool.h"
#include "model/config.h"
#include "model/policy.h"
#include "ranks/ranks.h"
#include "weights/model_files.h"
#include "weights/tensor.h"

namespace april::grpo {

class State {
 public:
  /// All zero. Without an adapter the parameters themselves are trained, with one its factors. `ranks` is not kept.
  explicit State(const model::Config& config, Adapter adapter = {}, const ranks::Ranks& ranks = *ranks::Ranks::Alone());
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  /// Master weights from a model's files, or the adapter's base from them and its first factors drawn by `seed`; moments and counters zero: policy
  /// version 0. Throws Data naming a missing tensor or wrong shape.
  void LoadModel(const weights::ModelFiles& files, uint64_t seed, kernels::ThreadPool& pool);
  /// With an adapter: the model that its factors will be merged into, rounded to bf16. Masters, moments and counters stay as they are; until the next
  /// Round the weights are the base's.
  void LoadBase(const weights::ModelFiles& files);
  /// The weights to publish: the shard's masters rounded to bf16, to nearest even, or the factors merged into the base.
  void Round(kernels::ThreadPool& pool);
  /// With an adapter: rank 0's base, on every rank. All of them call it, before the first RoundAndShare.
  void ShareBase(ranks::Ranks& ranks);
  /// The weights to publish, on every rank: Round, unless it was done since the masters changed, and what ranks need of each other for it. All of
  /// them call it.
  void RoundAndShare(ranks::Ranks& ranks, kernels::ThreadPool& pool, bool is_rounded);

  int64_t step = 0;             ///< index of the next claim
  uint64_t version = 0;         ///< policy version of these weights
  int64_t optimizer_steps = 0;  ///< AdamW's step count, and the schedule's position

  const model::Config& config() const { return config_; }
  const Adapter& adapter() const { return adapter_; }
  /// What the network computes with and what is published: the model's own tensors.
  const std::vector<model::ParameterSpec>& parameters() const { return parameters_; }
  std::span<uint16_t> Rounded(size_t parameter) { return Tensor(rounded_, rounded_places_, parameter); }
  /// What the optimiser moves, and what has master weights and moments: the parameters one by one, or the adapter's factors.
  const std::vector<model::ParameterSpec>& trainables() const { return trainables_; }
  size_t Size(size_t trainable) const { return places_.sizes[trainable]; }
  /// Elements of one trainable that one rank has the masters and moments of: ZeRO, arXiv 1910.02054, section 5.1.
  struct Part {
    size_t trainable = 0, begin = 0, count = 0;
    int owner = 0;
  };
  /// Of all ranks: in the trainables' order, owners ascending, each a near equal share in whole chunks of kernels::kSumChunk; an adapter's are rank
  /// 0's.
  const std::vector<Part>& parts() const { return parts_; }
  bool IsWhole() const { return ShardSize() == places_.total; }  ///< whether this rank has it all
  /// The own part of a trainable; empty when it is others'.
  std::span<float> Master(size_t trainable) { return OwnPart(master_, trainable); }
  std::span<float> FirstMoment(size_t trainable) { return OwnPart(first_moment_, trainable); }
  std::span<float> SecondMoment(size_t trainable) { return OwnPart(second_moment_, trainable); }
  size_t PartBegin(size_t trainable) const { return own_[trainable].begin; }
  /// An adapter's factor, whole on every rank.
  std::span<const float> Factor(size_t trainable) const { return {master_.as<float>() + places_.offsets[trainable], places_.sizes[trainable]}; }

  std::vector<weights::TensorView> RoundedViews() const;  ///< bf16, by Hugging Face name
  std::vector<weights::TensorView> FactorViews() const;   ///< f32, the adapter's
  /// f32 "first_moment.NAME", "second_moment.NAME" and, when the parameters themselves are trained, before them "master.NAME", each for all
  /// trainables. Without data on a rank that has not all of them.
  std::vector<weights::TensorView> OptimizerViews() const;
  /// The own part of such a tensor.
  std::span<float> OptimizerPart(size_t view) { return OwnPart(*OptimizerValues()[view / trainables_.size()], view % trainables_.size()); }
  std::span<const float> OptimizerPart(size_t view) const {
    return OwnPart(*OptimizerValues()[view / trainables_.size()], view % trainables_.size());
  }

 private:
  /// Where tensors lie in one block of memory, in elements.
  struct Places {
    void Add(size_t size);
    std::vector<size_t> offsets, sizes;
    size_t total = 0;
  };
  static std::span<uint16_t> Tensor(const kernels::Memory& values, const Places& places, size_t tensor) {
    return {values.as<uint16_t>() + places.offsets[tensor], places.sizes[tensor]};
  }
  std::span<float> OwnPart(const kernels::Memory& values, size_t trainable) const {
    const Part& part = own_[trainable];
    return {values.as<float>() + (part.count == 0 ? 0 : places_.offsets[trainable] + part.begin - bounds_[rank_]), part.count};
  }
  size_t ShardSize() const { return bounds_[rank_ + 1] - bounds_[rank_]; }
  void Divide(const ranks::Ranks& ranks);
  void ClearMoments();
  /// What the optimiser's views are of, in their order.
  std::vector<const kernels::Memory*> OptimizerValues() const;
  std::vector<weights::TensorView> TrainableViews(const std::string& prefix, const kernels::Memory& values) const;
  void MergeAdapter(kernels::ThreadPool& pool);

  model::Config config_;
  Adapter adapter_;
  std::vector<model::ParameterSpec> parameters_, trainables_;
  Places rounded_places_, places_, base_places_;  ///< of parameters, of trainables, of the adapter's targets
  size_t rank_ = 0;
  std::vector<Part> parts_, own_;                          ///< `own_` by trainable
  std::vector<size_t> bounds_;                             ///< where each rank's shard begins in `places_`, and the end
  kernels::Memory master_, first_moment_, second_moment_;  ///< f32, the own shard; an adapter's masters are whole on every rank
  kernels::Memory rounded_, base_;                         ///< bf16
};

}  // namespace april::grpo
