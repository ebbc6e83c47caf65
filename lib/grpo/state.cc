#include "grpo/state.h"

#include <algorithm>

#include "weights/convert.h"

namespace april::grpo {
namespace {

constexpr size_t kAlignment = 16;         // elements: each tensor begins on a cache line of f32
constexpr size_t kRoundChunk = 1u << 16;  // elements that one thread rounds at a time

weights::TensorView View(std::string name, weights::DType dtype, const std::vector<int64_t>& shape, const void* data) {
  weights::TensorView view{std::move(name), dtype, shape, data, 0};
  view.num_bytes = static_cast<uint64_t>(view.NumElements()) * (dtype == weights::DType::kBf16 ? 2 : 4);
  return view;
}

}  // namespace

State::State(const model::Config& config) : config_(config), parameters_(model::Parameters(config)) {
  for (const model::ParameterSpec& parameter : parameters_) {
    size_t size = 1;
    for (const int64_t extent : parameter.shape) size *= static_cast<size_t>(extent);
    offsets_.push_back(total_);
    sizes_.push_back(size);
    total_ += (size + kAlignment - 1) / kAlignment * kAlignment;
  }
  for (kernels::Memory* values : {&master_, &first_moment_, &second_moment_}) *values = kernels::Memory(total_ * sizeof(float));
  rounded_ = kernels::Memory(total_ * sizeof(uint16_t));
}

void State::LoadModel(const weights::ModelFiles& files, kernels::ThreadPool& pool) {
  for (size_t i = 0; i < parameters_.size(); ++i) files.Read(parameters_[i].name, parameters_[i].shape, weights::DType::kF32, Master(i).data());
  for (kernels::Memory* moment : {&first_moment_, &second_moment_}) *moment = kernels::Memory(total_ * sizeof(float));  // zero
  step = optimizer_steps = 0;
  version = 0;
  Round(pool);
}

void State::Round(kernels::ThreadPool& pool) {
  const auto num_chunks = static_cast<int64_t>((total_ + kRoundChunk - 1) / kRoundChunk);
  const auto* from = master_.as<float>();
  auto* to = rounded_.as<uint16_t>();
  pool.Run([&](kernels::ThreadPool::Worker& worker) {
    for (int64_t chunk; (chunk = worker.NextTask(num_chunks)) >= 0;) {
      const size_t begin = static_cast<size_t>(chunk) * kRoundChunk, end = std::min(begin + kRoundChunk, total_);
      for (size_t i = begin; i < end; ++i) to[i] = weights::F32ToBf16(from[i]);
    }
  });
}

std::vector<weights::TensorView> State::RoundedViews() const {
  std::vector<weights::TensorView> views;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    views.push_back(View(parameters_[i].name, weights::DType::kBf16, parameters_[i].shape, rounded_.as<uint16_t>() + offsets_[i]));
  }
  return views;
}

std::vector<weights::TensorView> State::OptimizerViews() const {
  std::vector<weights::TensorView> views;
  for (const auto& [prefix, values] :
       {std::pair("master.", &master_), std::pair("first_moment.", &first_moment_), std::pair("second_moment.", &second_moment_)}) {
    for (size_t i = 0; i < parameters_.size(); ++i) {
      views.push_back(View(prefix + parameters_[i].name, weights::DType::kF32, parameters_[i].shape, values->as<float>() + offsets_[i]));
    }
  }
  return views;
}

}  // namespace april::grpo
