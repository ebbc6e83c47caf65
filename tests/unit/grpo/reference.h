// What the tests against tests/parity's references share.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "fixtures.h"

namespace april::grpo {

inline Json ReadReference(const std::string& name) {
  return Json::parse(ReadFile(SystemFiles(), std::string(APRIL_SOURCE_DIR) + "/tests/parity/" + name));
}

/// f32 values in base64.
inline std::vector<float> Unpack(const std::string& base64) {
  std::string bytes;
  uint32_t bits = 0;
  int num_bits = 0;
  for (const char c : base64) {
    const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t digit = digits.find(c);
    if (digit == std::string::npos) break;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if ((num_bits += 6) >= 8) bytes.push_back(static_cast<char>(bits >> (num_bits -= 8)));
  }
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), values.size() * 4);
  return values;
}

/// The prompts, responses and rewards of a reference. Without "behaviour" in it, log-probabilities are made up.
inline Claim ReferenceClaim(const Json& reference, double temperature) {
  std::vector<std::vector<record::Rollout>> groups;
  for (size_t g = 0; g < reference["prompts"].size(); ++g) {
    std::vector<record::Rollout> rollouts;
    for (size_t i = 0; i < reference["responses"][g].size(); ++i) {
      const auto tokens = reference["responses"][g][i].get<std::vector<uint32_t>>();
      record::Rollout rollout = MakeRollout(g + 1, static_cast<int64_t>(i), static_cast<int64_t>(tokens.size()), reference["rewards"][g][i]);
      rollout.prompt_tokens = reference["prompts"][g].get<std::vector<uint32_t>>();
      rollout.tokens = tokens;
      if (reference.contains("behaviour")) rollout.logprobs = reference["behaviour"][g][i].get<std::vector<float>>();
      rollout.segments[0].temperature = temperature;
      rollouts.push_back(std::move(rollout));
    }
    groups.push_back(std::move(rollouts));
  }
  return MakeClaim(0, std::move(groups));
}

/// |seen * scale - expected| / |expected| in the 2-norm.
inline double RelativeError(std::span<const float> seen, const std::vector<float>& expected, double scale) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double e = static_cast<double>(expected[i]), s = static_cast<double>(seen[i]) * scale;
    difference += (s - e) * (s - e);
    norm += e * e;
  }
  return std::sqrt(difference / norm);
}

}  // namespace april::grpo
