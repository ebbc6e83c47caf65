// Attention forward and backward: accuracy, equality of all sets, independence from batch, block order and what lies behind the mask.
#include <catch2/catch.hpp>

#include <algorithm>
#include <numeric>

#include "kernel_support.h"

namespace april::kernels::test {
namespace {

struct Shape {
  int64_t positions, heads, kv_heads, head_dim;
  int64_t q_width() const { return heads * head_dim; }
  int64_t kv_width() const { return kv_heads * head_dim; }
};

constexpr Shape kShapes[] = {{75, 9, 3, 64}, {40, 4, 4, 16}, {70, 14, 2, 80}, {33, 4, 1, 128}};

struct Sequence {
  Sequence(const Kernels& set, Shape s, uint64_t seed)
      : kernels(&set),
        shape(s),
        q(set, RandomFloats(s.positions * s.q_width(), seed, 2.0)),
        k(set, RandomFloats(s.positions * s.kv_width(), seed + 1, 1.5)),
        v(set, RandomFloats(s.positions * s.kv_width(), seed + 2)) {}
  const Kernels* kernels;
  Shape shape;
  Elements q, k, v;
  float scale() const { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.head_dim))); }
};

struct Cache {
  Cache(const Kernels& set, Shape s, std::vector<int32_t> order)
      : stride(static_cast<int64_t>(set.kv_block_bytes(s.kv_heads, s.head_dim))),
        blocks(std::move(order)),
        keys(static_cast<size_t>(stride * 64)),
        values(static_cast<size_t>(stride * 64)) {}
  int64_t stride;
  std::vector<int32_t> blocks;
  Memory keys, values;
};

std::vector<int32_t> Ascending(int64_t count) {
  std::vector<int32_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

struct Result {
  Elements out;
  std::vector<float> lse;
};

/// Rows [0, positions) in steps of `chunk`, each stored and then attended.
Result RunAttention(const Sequence& s, Cache& cache, int64_t chunk, bool store_all_first = false) {
  const Shape& h = s.shape;
  Result result{Elements(*s.kernels, h.positions * h.q_width()), std::vector<float>(static_cast<size_t>(h.positions * h.heads))};
  auto store = [&](int64_t first, int64_t rows) {
    s.kernels->store_kv({s.k.at(first * h.kv_width()), h.kv_width(), s.v.at(first * h.kv_width()), h.kv_width(), rows, first, h.kv_heads, h.head_dim,
                         cache.keys.data(), cache.values.data(), cache.stride, cache.blocks.data()});
  };
  if (store_all_first) store(0, h.positions);
  for (int64_t first = 0; first < h.positions; first += chunk) {
    const int64_t rows = std::min(chunk, h.positions - first);
    if (!store_all_first) store(first, rows);
    s.kernels->attention({s.q.at(first * h.q_width()), h.q_width(), rows, first, h.heads, h.kv_heads, h.head_dim, 0, h.kv_heads, cache.keys.data(),
                          cache.values.data(), cache.stride, cache.blocks.data(), s.scale(), result.out.at(first * h.q_width()), h.q_width(),
                          result.lse.data() + first * h.heads, h.heads});
  }
  return result;
}

/// Softmax attention in double, as the formula says.
void Reference(const Sequence& s, std::vector<double>* out, std::vector<double>* lse) {
  const Shape& h = s.shape;
  std::vector<float> q = s.q.Floats(), k = s.k.Floats(), v = s.v.Floats();
  out->assign(static_cast<size_t>(h.positions * h.q_width()), 0);
  lse->assign(static_cast<size_t>(h.positions * h.heads), 0);
  for (int64_t r = 0; r < h.positions; ++r) {
    for (int64_t head = 0; head < h.heads; ++head) {
      const int64_t kv = head / (h.heads / h.kv_heads);
      std::vector<double> score;
      double sum = 0;
      for (int64_t p = 0; p <= r; ++p) {
        double dot = 0;
        for (int64_t d = 0; d < h.head_dim; ++d) {
          dot += static_cast<double>(q[static_cast<size_t>(r * h.q_width() + head * h.head_dim + d)]) *
                 static_cast<double>(k[static_cast<size_t>(p * h.kv_width() + kv * h.head_dim + d)]);
        }
        score.push_back(std::exp(dot * static_cast<double>(s.scale())));
        sum += score.back();
      }
      for (int64_t p = 0; p <= r; ++p) {
        for (int64_t d = 0; d < h.head_dim; ++d) {
          (*out)[static_cast<size_t>(r * h.q_width() + head * h.head_dim + d)] +=
              score[static_cast<size_t>(p)] / sum * static_cast<double>(v[static_cast<size_t>(p * h.kv_width() + kv * h.head_dim + d)]);
        }
      }
      (*lse)[static_cast<size_t>(r * h.heads + head)] = std::log(sum);
    }
  }
}

}  // namespace

TEST_CASE("attention is softmax attention") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    for (const Shape& shape : kShapes) {
      INFO(kernels->name << " head size " << shape.head_dim);
      Sequence s(*kernels, shape, 1);
      Cache cache(*kernels, shape, Ascending(8));
      Result result = RunAttention(s, cache, shape.positions);
      std::vector<double> out, lse;
      Reference(s, &out, &lse);
      REQUIRE(WorstError(result.out.Floats(), out) < ElementTolerance(*kernels) + 1e-5);
      REQUIRE(WorstError(result.lse, lse) < 1e-5);
    }
  }
}

TEST_CASE("attention: prefill, chunks and decode give the same bits, whatever the blocks' order and whatever lies behind the mask") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    for (const Shape& shape : kShapes) {
      INFO(kernels->name << " head size " << shape.head_dim);
      Sequence s(*kernels, shape, 2);
      Cache whole(*kernels, shape, Ascending(8)), chunked(*kernels, shape, {5, 2, 7, 0, 1}), single(*kernels, shape, {3, 9, 1, 40, 4}),
          stale(*kernels, shape, {8, 6, 4, 2});
      Result expected = RunAttention(s, whole, shape.positions);
      // A block that another sequence used before: large finite values everywhere.
      Elements junk(*kernels, std::vector<float>(static_cast<size_t>(shape.kv_width()), -1e30f));
      for (int64_t p = 0; p < 4 * kKvBlock; ++p) {
        kernels->store_kv({junk.data(), shape.kv_width(), junk.data(), shape.kv_width(), 1, p, shape.kv_heads, shape.head_dim, stale.keys.data(),
                           stale.values.data(), stale.stride, stale.blocks.data()});
      }
      Result by_chunk = RunAttention(s, chunked, 7), by_row = RunAttention(s, single, 1), after_junk = RunAttention(s, stale, 1),
             late = RunAttention(s, whole, 5, true);
      for (const Result* other : {&by_chunk, &by_row, &after_junk, &late}) {
        REQUIRE(other->out.SameBits(expected.out));
        REQUIRE(SameBits(other->lse, expected.lse));
      }
    }
  }
}

TEST_CASE("attention: every set gives the portable set's bits") {
  FlushDenormals flush;
  for (const Kernels* kernels : AvailableKernels()) {
    const Kernels& portable = PortableLike(*kernels);
    for (const Shape& shape : kShapes) {
      INFO(kernels->name << " head size " << shape.head_dim);
      Sequence fast(*kernels, shape, 3), slow(portable, shape, 3);
      Cache fast_cache(*kernels, shape, Ascending(8)), slow_cache(portable, shape, Ascending(8));
      Result a = RunAttention(fast, fast_cache, shape.positions), b = RunAttention(slow, slow_cache, shape.positions);
      REQUIRE(a.out.SameBits(b.out));
      REQUIRE(SameBits(a.lse, b.lse));
    }
  }
}

namespace {

struct BackwardResult {
  std::vector<float> dq, dk, dv;
};

/// A group: rows [0, prompt) shared, then one span a member. dk and dv are summed over the prompt's and all members' calls; `reversed`: the last
/// member is computed first.
BackwardResult RunBackward(const Sequence& s, const std::vector<RowSpan>& members, int64_t prompt, const Elements& dout, const Elements& out,
                           const std::vector<float>& lse, bool reversed) {
  const Shape& h = s.shape;
  BackwardResult result;
  result.dq.resize(static_cast<size_t>(h.positions * h.q_width()));
  const auto num_members = static_cast<int64_t>(members.size());
  result.dk.resize(static_cast<size_t>((h.positions + num_members * prompt) * h.kv_width()));
  result.dv.resize(result.dk.size());
  std::vector<float> delta(lse.size());
  s.kernels->attention_delta({out.data(), dout.data(), h.q_width(), h.positions, h.heads, h.head_dim, delta.data(), h.heads});
  for (int64_t kv = 0; kv < h.kv_heads; ++kv) {
    Memory scratch(s.kernels->attention_backward_bytes(h.positions, h.positions, h.head_dim));
    auto call = [&](const std::vector<RowSpan>& spans, int64_t shift) {
      s.kernels->attention_backward({s.q.data(),
                                     h.q_width(),
                                     s.k.data(),
                                     h.kv_width(),
                                     s.v.data(),
                                     h.kv_width(),
                                     dout.data(),
                                     h.q_width(),
                                     lse.data(),
                                     delta.data(),
                                     h.heads,
                                     spans.data(),
                                     static_cast<int64_t>(spans.size()),
                                     h.heads,
                                     h.kv_heads,
                                     h.head_dim,
                                     kv,
                                     s.scale(),
                                     result.dq.data(),
                                     h.q_width(),
                                     result.dk.data(),
                                     result.dv.data(),
                                     h.kv_width(),
                                     shift,
                                     scratch.data()});
    };
    if (prompt > 0) call({{0, prompt}}, 0);
    for (size_t i = 0; i < members.size(); ++i) {
      const size_t m = reversed ? members.size() - 1 - i : i;
      const int64_t shift = h.positions + static_cast<int64_t>(m) * prompt;
      prompt > 0 ? call({{0, prompt}, members[m]}, shift) : call({members[m]}, shift);
    }
  }
  for (int64_t m = 0; m < num_members; ++m) {
    for (std::vector<float>* gradient : {&result.dk, &result.dv})
      s.kernels->add(gradient->data() + (h.positions + m * prompt) * h.kv_width(), gradient->data(), prompt * h.kv_width());
  }
  for (std::vector<float>* gradient : {&result.dk, &result.dv}) gradient->resize(static_cast<size_t>(h.positions * h.kv_width()));
  return result;
}

/// Attention over a group and its gradient in double: row r sees `seen[r]`.
void ReferenceBackward(const Sequence& s, const std::vector<std::vector<int64_t>>& seen, const std::vector<float>& dout, std::vector<double>* out,
                       std::vector<double>* lse, std::vector<double>* dq, std::vector<double>* dk, std::vector<double>* dv) {
  const Shape& h = s.shape;
  std::vector<float> q = s.q.Floats(), k = s.k.Floats(), v = s.v.Floats();
  out->assign(q.size(), 0), dq->assign(q.size(), 0), dk->assign(k.size(), 0), dv->assign(k.size(), 0);
  lse->assign(static_cast<size_t>(h.positions * h.heads), 0);
  for (int64_t r = 0; r < h.positions; ++r) {
    const auto& keys = seen[static_cast<size_t>(r)];
    for (int64_t head = 0; head < h.heads; ++head) {
      const size_t qa = static_cast<size_t>(r * h.q_width() + head * h.head_dim);
      auto ka = [&](int64_t p) { return static_cast<size_t>(p * h.kv_width() + head / (h.heads / h.kv_heads) * h.head_dim); };
      const size_t dim = static_cast<size_t>(h.head_dim);
      std::vector<double> p(keys.size()), dp(keys.size());
      double sum = 0, delta = 0;
      for (size_t j = 0; j < keys.size(); ++j) {
        double dot = 0;
        for (size_t d = 0; d < dim; ++d) {
          dot += static_cast<double>(q[qa + d]) * static_cast<double>(k[ka(keys[j]) + d]);
          dp[j] += static_cast<double>(dout[qa + d]) * static_cast<double>(v[ka(keys[j]) + d]);
        }
        p[j] = std::exp(dot * static_cast<double>(s.scale()));
        sum += p[j];
      }
      (*lse)[static_cast<size_t>(r * h.heads + head)] = std::log(sum);
      for (size_t j = 0; j < keys.size(); ++j) {
        p[j] /= sum;
        delta += p[j] * dp[j];
      }
      for (size_t j = 0; j < keys.size(); ++j) {
        const double ds = p[j] * (dp[j] - delta) * static_cast<double>(s.scale());
        for (size_t d = 0; d < dim; ++d) {
          (*out)[qa + d] += p[j] * static_cast<double>(v[ka(keys[j]) + d]);
          (*dv)[ka(keys[j]) + d] += p[j] * static_cast<double>(dout[qa + d]);
          (*dq)[qa + d] += ds * static_cast<double>(k[ka(keys[j]) + d]);
          (*dk)[ka(keys[j]) + d] += ds * static_cast<double>(q[qa + d]);
        }
      }
    }
  }
}

double RelativeNorm(const std::vector<float>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace

TEST_CASE("attention backward: a group with a shared prompt, against double, and the same bits in every set and order of members") {
  FlushDenormals flush;
  const int64_t prompt = 37;
  const std::vector<RowSpan> members = {{37, 70}, {107, 1}, {108, 42}};
  std::vector<std::vector<int64_t>> seen(150);
  for (int64_t r = 0; r < 150; ++r) {
    for (int64_t p = 0; p < std::min(prompt, r + 1); ++p) seen[static_cast<size_t>(r)].push_back(p);
  }
  for (const RowSpan& m : members) {
    for (int64_t r = m.begin; r < m.begin + m.count; ++r) {
      for (int64_t p = m.begin; p <= r; ++p) seen[static_cast<size_t>(r)].push_back(p);
    }
  }
  for (const Kernels* portable : AvailableKernels()) {
    if (portable != &PortableLike(*portable)) continue;
    for (Shape shape : kShapes) {
      shape.positions = 150;
      std::vector<double> out, lse, dq, dk, dv;
      const std::vector<float> random = RandomFloats(150 * shape.q_width(), 7);
      ReferenceBackward(Sequence(*portable, shape, 4), seen, Elements(*portable, random).Floats(), &out, &lse, &dq, &dk, &dv);
      auto run = [&](const Kernels& set, bool reversed) {
        Elements rounded(set, std::vector<float>(out.begin(), out.end())), dout(set, random);
        return RunBackward(Sequence(set, shape, 4), members, prompt, dout, rounded, std::vector<float>(lse.begin(), lse.end()), reversed);
      };
      const BackwardResult expected = run(*portable, false);
      const double tolerance = portable->element_bytes == 2 ? 5e-3 : 1e-5;
      REQUIRE(RelativeNorm(expected.dq, dq) < tolerance);
      REQUIRE(RelativeNorm(expected.dk, dk) < tolerance);
      REQUIRE(RelativeNorm(expected.dv, dv) < tolerance);
      for (const Kernels* kernels : AvailableKernels()) {
        if (&PortableLike(*kernels) != portable) continue;
        INFO(kernels->name << " head size " << shape.head_dim);
        const BackwardResult result = run(*kernels, true);
        REQUIRE(SameBits(result.dq, expected.dq));
        REQUIRE(SameBits(result.dk, expected.dk));
        REQUIRE(SameBits(result.dv, expected.dv));
      }
    }
  }
}

}  // namespace april::kernels::test
