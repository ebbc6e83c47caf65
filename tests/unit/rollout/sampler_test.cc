#include "rollout/sampler.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/rng.h"
#include "kernels/thread_pool.h"

namespace april::rollout {
namespace {

/// The definition, slowly: probabilities in double, the kept set by sorting everything.
struct Reference {
  std::vector<double> full, kept;  // probabilities; kept is zero outside the truncated set and sums to one

  Reference(const std::vector<float>& logits, const record::Sampling& sampling) {
    const size_t n = logits.size();
    const double temperature = sampling.temperature > 0 ? sampling.temperature : 1;
    const double most = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float logit : logits) full.push_back(std::exp((logit - most) / temperature));
    for (const double p : full) sum += p;
    for (double& p : full) p /= sum;
    std::vector<size_t> rank(n);
    std::iota(rank.begin(), rank.end(), 0);
    std::sort(rank.begin(), rank.end(), [&](size_t a, size_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
    kept.assign(n, 0);
    const size_t k = sampling.top_k > 0 ? std::min<size_t>(sampling.top_k, n) : n;
    double set = 0, mass = 0;
    for (size_t i = 0; i < k; ++i) set += full[rank[i]];
    for (size_t i = 0; i < k; ++i) {
      const bool in_nucleus = sampling.top_p >= 1 || i == 0 || mass < sampling.top_p * set;
      mass += full[rank[i]];
      if (in_nucleus && full[rank[i]] >= sampling.min_p * full[rank[0]]) kept[rank[i]] = full[rank[i]];
    }
    const double total = std::accumulate(kept.begin(), kept.end(), 0.0);
    for (double& p : kept) p /= total;
  }
};

std::vector<float> RandomLogits(uint64_t seed, size_t n, double spread) {
  std::vector<float> logits(n);
  for (size_t i = 0; i < n; ++i) logits[i] = static_cast<float>(spread * (RandomUnit(seed, RandomUse::kTest, 1, i) * 2 - 1) * 4);
  return logits;
}

const kernels::Kernels& TestKernels() { return kernels::ChooseKernels("portable", kernels::Precision::kF32); }

TEST_CASE("Every kind of truncation draws from exactly the defined set, with the defined probabilities", "[heavy]") {
  const kernels::FlushDenormals flush;
  struct Case {
    double temperature;
    int64_t top_k;
    double top_p, min_p;
  };
  const std::vector<Case> cases = {{1, 0, 1, 0},     {0.7, 0, 1, 0},        {1.9, 0, 1, 0},      {1, 1, 1, 0},    {1, 5, 1, 0},     {1, 2000, 1, 0},
                                   {1, 0, 0.1, 0},   {1, 0, 0.9, 0},        {1, 0, 0.9999, 0},   {1, 0, 1, 0.1},  {1, 0, 1, 0.001}, {1, 20, 0.8, 0},
                                   {1, 3, 0.5, 0.2}, {0.3, 50, 0.95, 0.05}, {2, 100, 0.3, 0.01}, {1, 0, 1e-9, 0}, {1, 0, 1, 1}};
  for (const size_t n : {7u, 1024u, 2500u}) {
    Sampler sampler(TestKernels(), static_cast<int64_t>(n));
    for (const double spread : {0.05, 1.0, 3.0}) {
      const std::vector<float> logits = RandomLogits(n, n, spread);
      for (const Case& c : cases) {
        record::Sampling sampling;
        sampling.temperature = c.temperature;
        sampling.top_k = c.top_k;
        sampling.top_p = c.top_p;
        sampling.min_p = c.min_p;
        const Reference reference(logits, sampling);
        std::vector<double> cumulative(n);
        std::partial_sum(reference.kept.begin(), reference.kept.end(), cumulative.begin());
        constexpr int kDraws = 400;
        for (int i = 0; i <= kDraws; ++i) {
          const double unit = i == kDraws ? std::nextafter(1.0, 0.0) : static_cast<double>(i) / kDraws;
          const Choice choice = sampler.Choose(logits.data(), sampling, unit);
          INFO("n " << n << " spread " << spread << " T " << c.temperature << " k " << c.top_k << " p " << c.top_p << " m " << c.min_p << " u "
                    << unit);
          REQUIRE(choice.finite);
          REQUIRE(reference.kept[choice.token] > 0);
          // u lies within the token's interval of the cumulative distribution, up to the rounding of f32 sums.
          REQUIRE(cumulative[choice.token] >= unit - 1e-5);
          REQUIRE(cumulative[choice.token] - reference.kept[choice.token] <= unit + 1e-5);
          REQUIRE(choice.logprob == Approx(std::log(reference.full[choice.token])).margin(2e-5));
          REQUIRE(choice.sampled_logprob == Approx(std::log(reference.kept[choice.token])).margin(2e-5));
          if (!Truncates(sampling)) REQUIRE(choice.sampled_logprob == choice.logprob);
          REQUIRE(choice.sampled_logprob <= 0);
        }
      }
    }
  }
}

TEST_CASE("Ties rank by the lower id") {
  const kernels::FlushDenormals flush;
  const std::vector<float> logits = {0, 2, 1, 2, 2, 1};
  Sampler sampler(TestKernels(), 6);
  record::Sampling sampling;
  sampling.top_k = 2;
  CHECK(sampler.Choose(logits.data(), sampling, 0.1).token == 1);
  CHECK(sampler.Choose(logits.data(), sampling, 0.9).token == 3);
  sampling.top_k = 4;  // 1, 3, 4 and the first of the two that tie at 1
  CHECK(sampler.Choose(logits.data(), sampling, 0.29).token == 1);
  CHECK(sampler.Choose(logits.data(), sampling, 0.9999).token == 4);
  CHECK(sampler.Choose(logits.data(), sampling, 0.35).token == 2);
  sampling = {};
  sampling.temperature = 0;
  sampling.top_k = 4;
  sampling.top_p = 0.1;
  const Choice greedy = sampler.Choose(logits.data(), sampling, 0.999);
  CHECK(greedy.token == 1);
  CHECK(greedy.logprob == Approx(std::log(Reference(logits, {}).full[1])).margin(1e-6));
  CHECK_FALSE(Truncates(sampling));
}

TEST_CASE("Draw counts agree with the probabilities", "[heavy]") {
  const kernels::FlushDenormals flush;
  constexpr size_t kVocab = 1500;
  constexpr int kDraws = 20000;
  std::vector<float> logits = RandomLogits(3, kVocab, 0.4);
  for (size_t i = 0; i < 20; ++i) logits[i * 73] += 6;
  Sampler sampler(TestKernels(), kVocab);
  const Reference reference(logits, {});
  std::vector<int> counts(kVocab);
  for (int i = 0; i < kDraws; ++i) counts[sampler.Choose(logits.data(), {}, RandomUnit(11, RandomUse::kSampling, 5, i)).token]++;
  double chi_square = 0;
  int cells = 0;
  double rest_expected = 0, rest_seen = 0;
  for (size_t i = 0; i < kVocab; ++i) {
    const double expected = reference.full[i] * kDraws;
    if (expected < 8) {
      rest_expected += expected;
      rest_seen += counts[i];
      continue;
    }
    chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
    cells++;
  }
  chi_square += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
  INFO("chi-square " << chi_square << " over " << cells + 1 << " cells");
  CHECK(cells >= 20);
  CHECK(chi_square < cells + 4 * std::sqrt(2.0 * cells));
}

TEST_CASE("Impossible tokens are never drawn, and logits that are not finite choose nothing") {
  const kernels::FlushDenormals flush;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> logits(2048, -kInfinity);
  logits[1500] = 3;
  logits[1501] = 2;
  Sampler sampler(TestKernels(), 2048);
  for (const double unit : {0.0, 0.5, 0.999999999}) CHECK(sampler.Choose(logits.data(), {}, unit).token / 2 == 750);
  logits[7] = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(sampler.Choose(logits.data(), {}, 0.5).finite);
  logits[7] = kInfinity;
  CHECK_FALSE(sampler.Choose(logits.data(), {}, 0.5).finite);
  record::Sampling greedy;
  greedy.temperature = 0;
  CHECK_FALSE(sampler.Choose(logits.data(), greedy, 0.5).finite);
}

}  // namespace
}  // namespace april::rollout
