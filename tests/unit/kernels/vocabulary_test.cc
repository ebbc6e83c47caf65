// Log-sum-exp, softmax gradient, arg-max, exp itself; the optimiser's passes.
#include <catch2/catch.hpp>

#include "kernel_support.h"

namespace april::kernels::test {

TEST_CASE("exp is accurate to two units in the last place, and clean at its ends") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    INFO(kernels->name);
    std::vector<float> x, y;
    for (double v = -87; v < 88.3; v += 0.00137) x.push_back(static_cast<float>(v));
    y.resize(x.size());
    kernels->softmax(x.data(), static_cast<int64_t>(x.size()), 1.0f, 0.0f, y.data());
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = std::exp(static_cast<double>(x[i]));
      const double unit = std::ldexp(1.0, std::ilogb(exact) - 23);
      worst = std::max(worst, std::abs(static_cast<double>(y[i]) - exact) / unit);
    }
    REQUIRE(worst < 2);
    std::vector<float> ends = {0.0f, -INFINITY, INFINITY, NAN, -1000.0f, 89.0f}, out(6);
    kernels->softmax(ends.data(), 6, 1.0f, 0.0f, out.data());
    REQUIRE(out[0] == 1.0f);
    REQUIRE(out[1] == 0.0f);
    REQUIRE(out[2] == INFINITY);
    REQUIRE(std::isnan(out[3]));
    REQUIRE(out[4] == 0.0f);
    REQUIRE(out[5] == INFINITY);
  }
}

struct Joined {
  float lse = 0, maximum = 0, entropy = 0;
  std::vector<double> weights;
  bool operator==(const Joined&) const = default;
};

Joined LogSumExp(const Kernels& kernels, const std::vector<float>& logits, float scale, bool entropy) {
  const auto vocab = static_cast<int64_t>(logits.size());
  std::vector<ChunkSums> chunks;
  for (int64_t first = 0; first < vocab; first += kVocabChunk)
    chunks.push_back(kernels.sum_chunk({logits.data() + first, std::min(kVocabChunk, vocab - first), scale, entropy}));
  Joined joined;
  joined.weights.resize(chunks.size());
  joined.lse = kernels.join_chunks(
      {chunks.data(), static_cast<int64_t>(chunks.size()), &joined.maximum, joined.weights.data(), entropy ? &joined.entropy : nullptr});
  return joined;
}

TEST_CASE("log-sum-exp, its chunks and the entropy") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    for (int64_t vocab : {5, 1024, 1025, 49152}) {
      INFO(kernels->name << " " << vocab);
      const float scale = 1.0f / 0.7f;
      std::vector<float> logits = RandomFloats(vocab, 1, 5.0);
      logits[3] = -INFINITY;
      double sum = 0, weighted = 0;
      std::vector<double> chunks(static_cast<size_t>((vocab + kVocabChunk - 1) / kVocabChunk));
      const Joined joined = LogSumExp(*kernels, logits, scale, true);
      const float lse = joined.lse, maximum = joined.maximum, entropy = joined.entropy;
      for (size_t i = 0; i < logits.size(); ++i) {
        const double y = static_cast<double>(logits[i]) * static_cast<double>(scale) - static_cast<double>(maximum), e = std::exp(y);
        sum += e;
        chunks[i / kVocabChunk] += e;
        if (e > 0) weighted += e * y;
      }
      REQUIRE(std::abs(static_cast<double>(lse) - static_cast<double>(maximum) - std::log(sum)) < 1e-5);
      REQUIRE(std::abs(static_cast<double>(entropy) - (std::log(sum) - weighted / sum)) < 1e-4);
      REQUIRE(WorstError(std::vector<float>(joined.weights.begin(), joined.weights.end()), chunks) < 1e-5);
      REQUIRE(LogSumExp(PortableLike(*kernels), logits, scale, true) == joined);
      REQUIRE(LogSumExp(*kernels, logits, scale, false).lse == lse);

      // The gradient of logprob and entropy with respect to the logits, by differences in double.
      const int64_t token = vocab / 2 + 1;
      Elements out(*kernels, vocab), other(*kernels, vocab);
      const SoftmaxGradientArgs args{logits.data(), vocab, scale, lse, token, 0.8f, entropy, 0.3f, out.data()};
      kernels->softmax_gradient(args);
      SoftmaxGradientArgs again = args;
      again.out = other.data();
      PortableLike(*kernels).softmax_gradient(again);
      REQUIRE(out.SameBits(other));
      // A slice without the token: the same numbers as in the whole row.
      again.token = -1;
      again.vocab = token;
      again.out = other.data();
      kernels->softmax_gradient(again);
      REQUIRE(std::memcmp(out.data(), other.data(), static_cast<size_t>(token * kernels->element_bytes)) == 0);
      std::vector<double> expected;
      for (int64_t i = 0; i < vocab; ++i) {
        const double log_p = static_cast<double>(logits[static_cast<size_t>(i)]) * static_cast<double>(scale) - static_cast<double>(lse),
                     p = std::exp(log_p);
        double d = static_cast<double>(0.8f) * ((i == token ? 1 : 0) - p);
        if (p > 0) d -= static_cast<double>(0.3f) * p * (log_p + static_cast<double>(entropy));
        expected.push_back(d * static_cast<double>(scale));
      }
      REQUIRE(WorstError(out.Floats(), expected) < ElementTolerance(*kernels));

      size_t best = 0;
      for (size_t i = 0; i < logits.size(); ++i) best = logits[i] > logits[best] ? i : best;
      REQUIRE(kernels->argmax(logits.data(), vocab) == static_cast<int64_t>(best));
    }
    std::vector<float> logits(3000, 1.0f);
    REQUIRE(kernels->argmax(logits.data(), 3000) == 0);
    logits[2000] = NAN;
    REQUIRE(std::isnan(LogSumExp(*kernels, logits, 1, false).lse));
    // A chunk of nothing but NaN has no maximum, and one of minus infinity no weight; a row of that has no softmax.
    for (size_t i = 1024; i < 2048; ++i) logits[i] = NAN;
    REQUIRE(std::isnan(LogSumExp(*kernels, logits, 1, true).lse));
    for (size_t i = 1024; i < 2048; ++i) logits[i] = -INFINITY;
    REQUIRE(std::abs(static_cast<double>(LogSumExp(*kernels, logits, 1, true).entropy) - std::log(3000 - 1024)) < 1e-5);
    REQUIRE(LogSumExp(*kernels, std::vector<float>(3000, -INFINITY), 1, false).lse == -INFINITY);
  }
}

TEST_CASE("AdamW follows its formula and rounds the weight it hands out") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    INFO(kernels->name);
    const int64_t n = 1000;
    std::vector<float> w = RandomFloats(n, 1), m(1000), v(1000), g = RandomFloats(n, 2);
    std::vector<double> wd(w.begin(), w.end()), md(1000), vd(1000);
    Elements out(*kernels, n);
    std::vector<float> wp = w, mp = m, vp = v;
    for (int step = 1; step <= 5; ++step) {
      const double b1 = 0.9, b2 = 0.95, lr = 1e-2, eps = 1e-8, decay = 0.1, scale = 0.5;
      AdamWArgs args{w.data(),
                     m.data(),
                     v.data(),
                     g.data(),
                     n,
                     0.5f,
                     1e-2f,
                     0.9f,
                     0.95f,
                     1e-8f,
                     0.1f,
                     static_cast<float>(1 - std::pow(b1, step)),
                     static_cast<float>(1 - std::pow(b2, step)),
                     out.data()};
      kernels->adamw(args);
      args.w = wp.data(), args.m = mp.data(), args.v = vp.data(), args.out = nullptr;
      PortableLike(*kernels).adamw(args);
      for (size_t i = 0; i < wd.size(); ++i) {
        const double gi = static_cast<double>(g[i]) * scale;
        md[i] = b1 * md[i] + (1 - b1) * gi;
        vd[i] = b2 * vd[i] + (1 - b2) * gi * gi;
        wd[i] *= 1 - lr * decay;
        wd[i] -= lr * (md[i] / (1 - std::pow(b1, step))) / (std::sqrt(vd[i] / (1 - std::pow(b2, step))) + eps);
      }
    }
    REQUIRE(WorstError(w, wd) < 1e-6);
    REQUIRE(SameBits(w, wp));
    REQUIRE(SameBits(m, mp));
    REQUIRE(SameBits(v, vp));
    REQUIRE(out.SameBits(Elements(*kernels, w)));
  }
}

TEST_CASE("sum of squares") {
  for (const Kernels* kernels : AvailableKernels()) {
    std::vector<float> x = RandomFloats(70001, 1);
    double expected = 0;
    for (float v : x) expected += static_cast<double>(v) * static_cast<double>(v);
    REQUIRE(kernels->sum_squares(x.data(), 70001) == Approx(expected).epsilon(1e-12));
    REQUIRE(kernels->sum_squares(x.data(), 70001) == PortableLike(*kernels).sum_squares(x.data(), 70001));
  }
}

}  // namespace april::kernels::test
