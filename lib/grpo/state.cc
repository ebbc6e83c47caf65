#include "grpo/state.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "grpo/low_rank.h"
#include "kernels/contract.h"
#include "weights/convert.h"

namespace april::grpo {
namespace {

constexpr size_t kAlignment = 16;  // elements: each tensor begins on a cache line of f32
constexpr auto kChunk = static_cast<size_t>(kernels::kSumChunk);
constexpr size_t kRoundChunk = 1u << 16;  // elements that one thread rounds at a time

weights::TensorView View(std::string name, weights::DType dtype, const std::vector<int64_t>& shape, const void* data) {
  weights::TensorView view{std::move(name), dtype, shape, data, 0};
  view.num_bytes = static_cast<uint64_t>(view.NumElements()) * (dtype == weights::DType::kBf16 ? 2 : 4);
  return view;
}

}  // namespace

void State::Places::Add(size_t size) {
  offsets.push_back(total);
  sizes.push_back(size);
  total += (size + kAlignment - 1) / kAlignment * kAlignment;
}

State::State(const model::Config& config, Adapter adapter, const ranks::Ranks& ranks)
    : config_(config),
      adapter_(std::move(adapter)),
      parameters_(model::Parameters(config)),
      trainables_(adapter_.exists() ? FactorSpecs(adapter_, parameters_) : parameters_),
      rank_(static_cast<size_t>(ranks.rank())) {
  for (const model::ParameterSpec& parameter : parameters_) rounded_places_.Add(parameter.NumElements());
  for (const model::ParameterSpec& trainable : trainables_) places_.Add(trainable.NumElements());
  for (const Adapter::Target& target : adapter_.targets) base_places_.Add(static_cast<size_t>(target.n * target.k));
  Divide(ranks);
  master_ = kernels::Memory((adapter_.exists() ? places_.total : ShardSize()) * sizeof(float));
  ClearMoments();
  rounded_ = kernels::Memory(rounded_places_.total * sizeof(uint16_t));
  if (adapter_.exists()) base_ = kernels::Memory(base_places_.total * sizeof(uint16_t));
}

void State::Divide(const ranks::Ranks& ranks) {
  const auto num_ranks = static_cast<size_t>(ranks.size()), num_owners = adapter_.exists() ? 1 : num_ranks;
  const std::vector<size_t>&sizes = places_.sizes, &offsets = places_.offsets;
  size_t all = 0, before = 0;  // elements
  for (const size_t size : sizes) all += size;
  for (size_t trainable = 0; trainable < sizes.size(); ++trainable) {
    for (size_t begin = 0; begin < sizes[trainable]; begin += kChunk) {
      const size_t count = std::min(kChunk, sizes[trainable] - begin), owner = before * num_owners / all;
      while (bounds_.size() <= owner) bounds_.push_back(offsets[trainable] + begin);
      if (!parts_.empty() && parts_.back().trainable == trainable && parts_.back().owner == static_cast<int>(owner)) {
        parts_.back().count += count;
      } else {
        parts_.push_back({trainable, begin, count, static_cast<int>(owner)});
      }
      before += count;
    }
  }
  bounds_.resize(num_ranks + 1, places_.total);
  own_.resize(sizes.size());
  for (const Part& part : parts_) {
    if (part.owner == ranks.rank()) own_[part.trainable] = part;
  }
}

void State::ClearMoments() {
  for (kernels::Memory* moment : {&first_moment_, &second_moment_}) *moment = kernels::Memory(ShardSize() * sizeof(float));
}

void State::LoadModel(const weights::ModelFiles& files, uint64_t seed, kernels::ThreadPool& pool) {
  if (adapter_.exists()) {
    LoadBase(files);
    for (size_t t = 0; t < adapter_.targets.size(); ++t) {
      DrawFactor(seed, adapter_.targets[t], adapter_.rank, Master(2 * t).data());
      std::ranges::fill(Master(2 * t + 1), 0.0f);
    }
  } else {
    for (size_t i = 0; i < parameters_.size(); ++i) files.Read(parameters_[i].name, parameters_[i].shape, weights::DType::kF32, Master(i).data());
  }
  ClearMoments();
  step = optimizer_steps = 0;
  version = 0;
  Round(pool);
}

void State::LoadBase(const weights::ModelFiles& files) {
  for (size_t i = 0; i < parameters_.size(); ++i) files.Read(parameters_[i].name, parameters_[i].shape, weights::DType::kBf16, Rounded(i).data());
  for (size_t t = 0; t < adapter_.targets.size(); ++t) {
    std::ranges::copy(Rounded(adapter_.targets[t].parameter), Tensor(base_, base_places_, t).begin());
  }
}

void State::Round(kernels::ThreadPool& pool) {
  if (adapter_.exists()) return MergeAdapter(pool);
  const size_t size = ShardSize();
  const auto num_chunks = static_cast<int64_t>((size + kRoundChunk - 1) / kRoundChunk);
  const auto* from = master_.as<float>();
  auto* to = rounded_.as<uint16_t>() + bounds_[rank_];  // trainables and parameters lie alike
  pool.Run([&](kernels::ThreadPool::Worker& worker) {
    for (int64_t chunk; (chunk = worker.NextTask(num_chunks)) >= 0;) {
      const size_t begin = static_cast<size_t>(chunk) * kRoundChunk, end = std::min(begin + kRoundChunk, size);
      for (size_t i = begin; i < end; ++i) to[i] = weights::F32ToBf16(from[i]);
    }
  });
}

void State::ShareBase(ranks::Ranks& ranks) {
  if (!adapter_.exists()) return;
  std::vector<ranks::Transfer> transfers;
  std::vector<std::span<uint16_t>> values;
  for (size_t i = 0; i < parameters_.size(); ++i) values.push_back(Rounded(i));
  for (size_t t = 0; t < adapter_.targets.size(); ++t) values[adapter_.targets[t].parameter] = Tensor(base_, base_places_, t);
  for (const std::span<uint16_t> tensor : values) transfers.push_back({0, ranks::kEveryOther, tensor.data(), tensor.size_bytes()});
  ranks.Move(transfers);
}

void State::RoundAndShare(ranks::Ranks& ranks, kernels::ThreadPool& pool, bool is_rounded) {
  if (adapter_.exists()) {
    const ranks::Transfer factors{0, ranks::kEveryOther, master_.data(), master_.size()};
    ranks.Move({&factors, 1});
  }
  if (!is_rounded) Round(pool);
  if (adapter_.exists()) return;  // every rank has merged them
  std::vector<ranks::Transfer> transfers;
  for (size_t rank = 0; rank + 1 < bounds_.size(); ++rank) {
    const size_t count = bounds_[rank + 1] - bounds_[rank];
    transfers.push_back({static_cast<int>(rank), ranks::kEveryOther, rounded_.as<uint16_t>() + bounds_[rank], count * sizeof(uint16_t)});
  }
  ranks.Move(transfers);
}

void State::MergeAdapter(kernels::ThreadPool& pool) {
  std::vector<MergeArgs> matrices;
  for (size_t t = 0; t < adapter_.targets.size(); ++t) {
    const Adapter::Target& target = adapter_.targets[t];
    matrices.push_back({target.n, target.k, Tensor(base_, base_places_, t).data(), Factor(2 * t).data(), Factor(2 * t + 1).data(),
                        Rounded(target.parameter).data()});
  }
  Merge(matrices, adapter_.rank, adapter_.scale(), pool);
}

std::vector<weights::TensorView> State::RoundedViews() const {
  std::vector<weights::TensorView> views;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    views.push_back(View(parameters_[i].name, weights::DType::kBf16, parameters_[i].shape, Tensor(rounded_, rounded_places_, i).data()));
  }
  return views;
}

std::vector<weights::TensorView> State::TrainableViews(const std::string& prefix, const kernels::Memory& values) const {
  std::vector<weights::TensorView> views;
  for (size_t i = 0; i < trainables_.size(); ++i) {
    views.push_back(View(prefix + trainables_[i].name, weights::DType::kF32, trainables_[i].shape, IsWhole() ? OwnPart(values, i).data() : nullptr));
  }
  return views;
}

std::vector<weights::TensorView> State::FactorViews() const {
  return adapter_.exists() ? TrainableViews("", master_) : std::vector<weights::TensorView>();
}

std::vector<const kernels::Memory*> State::OptimizerValues() const {
  if (adapter_.exists()) return {&first_moment_, &second_moment_};
  return {&master_, &first_moment_, &second_moment_};
}

std::vector<weights::TensorView> State::OptimizerViews() const {
  std::vector<weights::TensorView> views;
  for (const kernels::Memory* values : OptimizerValues()) {
    const char* prefix = values == &master_ ? "master." : values == &first_moment_ ? "first_moment." : "second_moment.";
    std::ranges::move(TrainableViews(prefix, *values), std::back_inserter(views));
  }
  return views;
}

}  // namespace april::grpo
