#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace april::model {
namespace {

constexpr int64_t kPositionsAtOnce = 1024;

double Llama3(const RopeScaling& scaling, double frequency) {
  const double turns = static_cast<double>(scaling.original_positions) * frequency / (2 * std::numbers::pi);  // within the original context
  if (turns < scaling.low_freq_factor) return frequency / scaling.factor;
  if (turns > scaling.high_freq_factor) return frequency;
  const double smooth = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - smooth) * frequency / scaling.factor + smooth * frequency;
}

/// The pair that turns `turns` times within the original context, as a real number.
double YarnPair(const Config& config, double turns) {
  const double positions = static_cast<double>(config.rope_scaling.original_positions);
  return static_cast<double>(config.head_dim) * std::log(positions / (turns * 2 * std::numbers::pi)) / (2 * std::log(config.rope_theta));
}

double Yarn(const Config& config, double frequency, int64_t pair) {
  const double last = static_cast<double>(config.head_dim - 1);
  const double low = std::max(std::floor(YarnPair(config, config.rope_scaling.beta_fast)), 0.0);
  const double high = std::min(std::ceil(YarnPair(config, config.rope_scaling.beta_slow)), last);
  const double ramp = std::clamp((static_cast<double>(pair) - low) / (high == low ? 0.001 : high - low), 0.0, 1.0);
  return frequency / config.rope_scaling.factor * ramp + frequency * (1 - ramp);
}

}  // namespace

std::vector<double> RopeFrequencies(const Config& config) {
  std::vector<double> frequencies;
  for (int64_t pair = 0; pair < config.head_dim / 2; ++pair) {
    double frequency = std::pow(config.rope_theta, -2.0 * static_cast<double>(pair) / static_cast<double>(config.head_dim));
    if (config.rope_scaling.kind == RopeScaling::Kind::kLlama3) frequency = Llama3(config.rope_scaling, frequency);
    if (config.rope_scaling.kind == RopeScaling::Kind::kYarn) frequency = Yarn(config, frequency, pair);
    frequencies.push_back(frequency);
  }
  return frequencies;
}

RopeTable::RopeTable(const Config& config)
    : frequencies_(RopeFrequencies(config)),
      factor_(config.rope_scaling.kind == RopeScaling::Kind::kYarn ? config.rope_scaling.attention_factor : 1),
      row_size_(static_cast<size_t>(config.head_dim)) {}

void RopeTable::Extend(int64_t positions) {
  auto position = static_cast<int64_t>(table_.size() / row_size_);
  if (positions <= position) return;
  const int64_t end = (positions + kPositionsAtOnce - 1) / kPositionsAtOnce * kPositionsAtOnce;
  table_.resize(static_cast<size_t>(end) * row_size_);
  for (; position < end; ++position) {
    float* row = table_.data() + static_cast<size_t>(position) * row_size_;
    for (size_t pair = 0; pair < frequencies_.size(); ++pair) {
      const double angle = static_cast<double>(position) * frequencies_[pair];
      row[pair] = static_cast<float>(std::cos(angle) * factor_);
      row[frequencies_.size() + pair] = static_cast<float>(std::sin(angle) * factor_);
    }
  }
}

}  // namespace april::model
