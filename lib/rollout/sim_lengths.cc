#include "rollout/sim_lengths.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"
#include "rollout/sim_json.h"

namespace april::rollout {
namespace {

using Kind = LengthDistribution::Kind;

constexpr int64_t kMostTokens = int64_t{1} << 40;  // of a response: further out than any budget
// Indices that no response token has.
constexpr uint64_t kOfRollout = ~uint64_t{0}, kOfGroup = ~uint64_t{2};

/// Standard normal: Box and Muller, "A note on the generation of random normal deviates" (1958).
double Normal(uint64_t seed, uint64_t id, uint64_t index) {
  const double radius = std::sqrt(-2 * std::log(1 - RandomUnit(seed, RandomUse::kSampling, id, index)));
  return radius * std::cos(2 * std::numbers::pi * RandomUnit(seed, RandomUse::kSampling, id, index - 1));
}

/// P(Z < z), below 1.
double Below(double z) { return std::min(0.5 * std::erfc(-z / std::numbers::sqrt2), 1 - 1e-16); }

int64_t ListAt(const std::vector<int64_t>& tokens, double share) { return tokens[static_cast<size_t>(share * static_cast<double>(tokens.size()))]; }

int64_t HistogramAt(const LengthDistribution& lengths, double share) {
  double left = share * std::accumulate(lengths.counts.begin(), lengths.counts.end(), 0.0);
  size_t bin = 0;
  while (bin + 1 < lengths.counts.size() && left >= lengths.counts[bin]) left -= lengths.counts[bin++];
  const double within = std::clamp(lengths.counts[bin] > 0 ? left / lengths.counts[bin] : 0, 0.0, 1 - 1e-12);
  return lengths.edges[bin] + 1 + static_cast<int64_t>(within * static_cast<double>(lengths.edges[bin + 1] - lengths.edges[bin]));
}

int64_t Whole(double tokens) { return static_cast<int64_t>(std::ceil(std::min(tokens, static_cast<double>(kMostTokens)))); }

constexpr std::pair<Kind, const char*> kNames[] = {
    {Kind::kList, "list"}, {Kind::kHistogram, "histogram"}, {Kind::kLognormal, "lognormal"}, {Kind::kHeavyTail, "heavy-tail"}};

Kind KindNamed(const std::string& name) {
  for (const auto& [kind, known] : kNames) {
    if (name == known) return kind;
  }
  throw Error::Usage("lengths: no distribution is called \"" + name + "\"", "list, histogram, lognormal or heavy-tail");
}

void Require(bool holds, const std::string& what) {
  if (!holds) throw Error::Usage("lengths: " + what);
}

}  // namespace

int64_t LengthDistribution::At(double z) const {
  int64_t length = 1;
  switch (kind) {
    case Kind::kList:
      length = ListAt(tokens, Below(z));
      break;
    case Kind::kHistogram:
      length = HistogramAt(*this, Below(z));
      break;
    case Kind::kLognormal:
      length = Whole(median * std::exp(sigma * z));
      break;
    case Kind::kHeavyTail:
      length = Whole(minimum * std::pow(Below(-z), -1 / alpha));
      break;
  }
  length = std::max<int64_t>(length, 1);
  return longest > 0 ? std::min(length, longest) : length;
}

int64_t LengthDistribution::Of(const record::Rollout& rollout) const {
  double z = Normal(rollout.seed, rollout.uid, kOfRollout);
  if (group_share > 0) z = std::sqrt(group_share) * Normal(rollout.seed, rollout.group_id, kOfGroup) + std::sqrt(1 - group_share) * z;
  return At(z);
}

void LengthDistribution::Scale(double factor) {
  if (factor == 1) return;
  const auto scale = [&](std::vector<int64_t>& values) {
    for (int64_t& value : values) value = std::llround(static_cast<double>(value) * factor);
  };
  scale(tokens);
  scale(edges);
  median *= factor;
  minimum *= factor;
  longest = std::llround(static_cast<double>(longest) * factor);
  Check();
}

void LengthDistribution::Check() const {
  switch (kind) {
    case Kind::kList:
      Require(!tokens.empty(), "tokens is empty");
      for (const int64_t length : tokens)
        Require(length >= 1 && length <= kMostTokens, "tokens has " + std::to_string(length) + ", expected at least 1");
      break;
    case Kind::kHistogram:
      Require(!counts.empty() && edges.size() == counts.size() + 1, "edges has " + std::to_string(edges.size()) + " values and counts " +
                                                                        std::to_string(counts.size()) + ", expected one more edge than counts");
      Require(edges.front() >= 0 && edges.back() <= kMostTokens && std::is_sorted(edges.begin(), edges.end(), std::less_equal<>()),
              "edges do not ascend from 0 or more");
      for (const double count : counts) Require(count >= 0 && std::isfinite(count), "counts has " + std::to_string(count) + ", expected 0 or more");
      Require(std::accumulate(counts.begin(), counts.end(), 0.0) > 0, "counts are all 0");
      break;
    case Kind::kLognormal:
      Require(median >= 1 && std::isfinite(median), "median_tokens is " + std::to_string(median) + ", expected at least 1");
      Require(sigma >= 0 && sigma <= 10, "sigma is " + std::to_string(sigma) + ", expected 0 to 10");
      break;
    case Kind::kHeavyTail:
      Require(minimum >= 1 && std::isfinite(minimum), "min_tokens is " + std::to_string(minimum) + ", expected at least 1");
      Require(alpha > 0 && alpha <= 1000, "alpha is " + std::to_string(alpha) + ", expected more than 0, at most 1000");
      break;
  }
  Require(longest >= 0, "longest_tokens is " + std::to_string(longest) + ", expected 0 or more");
  Require(group_share >= 0 && group_share <= 1, "group_share is " + std::to_string(group_share) + ", expected 0 to 1");
}

LengthDistribution LengthsFromJson(const Json& json) {
  JsonFields fields(json, "lengths");
  LengthDistribution lengths;
  lengths.kind = KindNamed(fields.Text("distribution"));
  switch (lengths.kind) {
    case Kind::kList:
      lengths.tokens = fields.Integers("tokens");
      break;
    case Kind::kHistogram:
      lengths.edges = fields.Integers("edges");
      lengths.counts = fields.Numbers("counts");
      break;
    case Kind::kLognormal:
      lengths.median = fields.Number("median_tokens");
      lengths.sigma = fields.Number("sigma");
      break;
    case Kind::kHeavyTail:
      lengths.minimum = fields.Number("min_tokens");
      lengths.alpha = fields.Number("alpha");
      break;
  }
  lengths.longest = fields.Integer("longest_tokens", 0);
  lengths.group_share = fields.Number("group_share", 0);
  fields.RefuseOthers();
  lengths.Check();
  return lengths;
}

Json ToJson(const LengthDistribution& lengths) {
  Json json;
  for (const auto& [kind, name] : kNames) {
    if (kind == lengths.kind) json["distribution"] = name;
  }
  switch (lengths.kind) {
    case Kind::kList:
      json["tokens"] = lengths.tokens;
      break;
    case Kind::kHistogram:
      json["edges"] = lengths.edges;
      json["counts"] = lengths.counts;
      break;
    case Kind::kLognormal:
      json["median_tokens"] = lengths.median;
      json["sigma"] = lengths.sigma;
      break;
    case Kind::kHeavyTail:
      json["min_tokens"] = lengths.minimum;
      json["alpha"] = lengths.alpha;
      break;
  }
  if (lengths.longest > 0) json["longest_tokens"] = lengths.longest;
  if (lengths.group_share > 0) json["group_share"] = lengths.group_share;
  return json;
}

LengthDistribution ParseLengths(const std::string& text) {
  const Error wrong = Error::Usage("\"" + text + "\" is no distribution of lengths",
                                   "for example lognormal:2500,0.9 (median, sigma), heavy-tail:1200,1.3 (minimum, alpha) or list:64,128,1024");
  const size_t colon = text.find(':');
  if (colon == std::string::npos) throw wrong;
  const std::string name = text.substr(0, colon);
  Json numbers;
  try {
    numbers = Json::parse("[" + text.substr(colon + 1) + "]");
  } catch (const Json::exception&) {
    throw wrong;
  }
  const bool pair = numbers.size() == 2;
  if (name == "list") return LengthsFromJson({{"distribution", name}, {"tokens", numbers}});
  if (name == "lognormal" && pair) return LengthsFromJson({{"distribution", name}, {"median_tokens", numbers[0]}, {"sigma", numbers[1]}});
  if (name == "heavy-tail" && pair) return LengthsFromJson({{"distribution", name}, {"min_tokens", numbers[0]}, {"alpha", numbers[1]}});
  throw wrong;
}

}  // namespace april::rollout
