// The forward's exactness: the same tokens give the same bits whatever else is computed.
#include "model/forward.h"

#include <cstring>
#include <utility>

#include "base/error.h"
#include "tiny_model.h"

namespace april::model {
namespace {

struct Machine {
  Machine(const Config& model_config, const kernels::Kernels& kernel_set, int threads = 2, int64_t blocks = 2000)
      : config(model_config), kernels(kernel_set), pool(threads), cache(config, kernels, blocks), forward(config, kernels, pool) {
    policy = TinyPolicy(config, TinyParameters(config, ElementType(kernels)), kernels, pool);
  }

  /// Appends `tokens` to the sequence in pieces of `piece` rows and returns their logits.
  std::vector<float> Extend(Sequence* sequence, std::span<const uint32_t> tokens, size_t piece) {
    std::vector<float> logits(tokens.size() * static_cast<size_t>(config.vocab));
    REQUIRE(cache.Reserve(sequence, sequence->length + static_cast<int64_t>(tokens.size())));
    for (size_t done = 0; done < tokens.size(); done += piece) {
      std::vector<Row> rows;
      const auto start = static_cast<int32_t>(sequence->length);
      for (size_t i = done; i < std::min(tokens.size(), done + piece); ++i) {
        rows.push_back({tokens[i], start + static_cast<int32_t>(i - done), sequence, true});
      }
      forward.Run(*policy, cache, rows, logits.data() + done * static_cast<size_t>(config.vocab));
    }
    return logits;
  }

  std::vector<float> Fresh(std::span<const uint32_t> tokens, size_t piece) {
    Sequence sequence;
    std::vector<float> logits = Extend(&sequence, tokens, piece);
    cache.Release(&sequence);
    return logits;
  }

  const Config config;
  const kernels::Kernels& kernels;
  kernels::ThreadPool pool;
  KvCache cache;
  Forward forward;
  std::shared_ptr<const Policy> policy;
};

bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

std::span<const float> LogitsOf(const std::vector<float>& logits, const Config& config, size_t row, size_t rows = 1) {
  const auto vocab = static_cast<size_t>(config.vocab);
  return {logits.data() + row * vocab, rows * vocab};
}

TEST_CASE("a policy in another's memory is as good as new, and memory that somebody holds stays as it is") {
  const Config config = TinyConfig("Qwen3ForCausalLM");
  for (const kernels::Kernels* kernels : kernels::AvailableKernels()) {
    INFO(kernels->name);
    Machine machine(config, *kernels);
    const std::vector<uint32_t> tokens = RandomTokens(config, 1, 20);
    const std::vector<float> first = machine.Fresh(tokens, 20);
    const std::shared_ptr<const Policy> held = machine.policy;
    const auto of_seed = [&](uint64_t seed, const std::shared_ptr<const Policy>& spare) {
      return TinyPolicy(config, TinyParameters(config, ElementType(*kernels), seed), *kernels, machine.pool, false, spare);
    };
    machine.policy = of_seed(2, held);
    const std::vector<float> second = machine.Fresh(tokens, 20);
    CHECK(!SameBits(first, second));
    machine.policy = of_seed(1, std::exchange(machine.policy, nullptr));
    CHECK(SameBits(machine.Fresh(tokens, 20), first));
    machine.policy = held;
    CHECK(SameBits(machine.Fresh(tokens, 20), first));
  }
}

TEST_CASE("the same tokens give the same bits") {
  const Config config = TinyConfig(GENERATE("LlamaForCausalLM", "Qwen3ForCausalLM"));
  for (const kernels::Kernels* kernels : kernels::AvailableKernels()) {
    INFO(config.architecture << ", " << kernels->name);
    Machine machine(config, *kernels);
    const std::vector<uint32_t> tokens = RandomTokens(config, 1, 75);
    const std::vector<float> whole = machine.Fresh(tokens, 1000);

    SECTION("in any pieces") {
      for (const size_t piece : {1, 5, 32, 33, 64}) CHECK(SameBits(whole, machine.Fresh(tokens, piece)));
    }
    SECTION("on one thread") {
      Machine alone(config, *kernels, 1);
      CHECK(SameBits(whole, alone.Fresh(tokens, 1000)));
      CHECK(SameBits(whole, alone.Fresh(tokens, 1)));
    }
    SECTION("beside 0, 6 or 63 other sequences, each at another position") {
      for (const size_t others : {0, 6, 63}) {
        std::vector<Sequence> sequences(others + 1);
        for (size_t s = 0; s <= others; ++s) {
          const std::vector<uint32_t> prompt =
              s == others / 2 ? std::vector(tokens.begin(), tokens.begin() + 40) : RandomTokens(config, 10 + s, 1 + s % 70);
          machine.Extend(&sequences[s], prompt, 1000);
          REQUIRE(machine.cache.Reserve(&sequences[s], 200));
        }
        std::vector<float> logits((others + 1) * static_cast<size_t>(config.vocab));
        for (size_t t = 40; t < tokens.size(); ++t) {
          std::vector<Row> rows;
          for (size_t s = 0; s <= others; ++s) {
            rows.push_back(
                {s == others / 2 ? tokens[t] : static_cast<uint32_t>(s + t), static_cast<int32_t>(sequences[s].length), &sequences[s], true});
          }
          machine.forward.Run(*machine.policy, machine.cache, rows, logits.data());
          REQUIRE(SameBits(LogitsOf(whole, config, t), LogitsOf(logits, config, others / 2)));
        }
        for (Sequence& sequence : sequences) machine.cache.Release(&sequence);
      }
    }
    SECTION("with a shared prompt, whole blocks or not") {
      for (const int64_t shared : {32, 45, 64}) {
        Sequence prompt, forked;
        machine.Extend(&prompt, std::span(tokens).first(static_cast<size_t>(shared)), 1000);
        REQUIRE(machine.cache.Fork(prompt, shared, &forked));
        machine.Extend(&prompt, RandomTokens(config, 3, 20), 1000);  // what another member goes on with
        const std::vector<float> rest = machine.Extend(&forked, std::span(tokens).subspan(static_cast<size_t>(shared)), 7);
        CHECK(SameBits(LogitsOf(whole, config, static_cast<size_t>(shared), tokens.size() - static_cast<size_t>(shared)), rest));
        machine.cache.Release(&prompt);
        machine.cache.Release(&forked);
      }
    }
    SECTION("in prefill mixed into decode, logits for some rows only") {
      Sequence decoding, prefilled;
      machine.Extend(&decoding, RandomTokens(config, 5, 30), 1000);
      REQUIRE(machine.cache.Reserve(&decoding, 31));
      REQUIRE(machine.cache.Reserve(&prefilled, 75));
      std::vector<Row> rows{{9, 30, &decoding, true}};
      for (size_t i = 0; i < tokens.size(); ++i) rows.push_back({tokens[i], static_cast<int32_t>(i), &prefilled, i == 50 || i == 74});
      std::vector<float> logits(3 * static_cast<size_t>(config.vocab));
      machine.forward.Run(*machine.policy, machine.cache, rows, logits.data());
      CHECK(SameBits(LogitsOf(whole, config, 50), LogitsOf(logits, config, 1)));
      CHECK(SameBits(LogitsOf(whole, config, 74), LogitsOf(logits, config, 2)));
    }
    SECTION("in more rows than one chunk, and in memory that held NaN before") {
      Sequence dirty;
      REQUIRE(machine.cache.Reserve(&dirty, machine.cache.num_blocks() * kernels::kKvBlock));
      for (int64_t layer = 0; layer < config.layers; ++layer) {
        std::memset(machine.cache.KeyBase(layer), 0xff, static_cast<size_t>(machine.cache.num_blocks() * machine.cache.block_stride_bytes()));
      }
      machine.cache.Release(&dirty);
      Sequence first, second;
      REQUIRE(machine.cache.Reserve(&first, 700));
      REQUIRE(machine.cache.Reserve(&second, 75));
      const std::vector<uint32_t> filler = RandomTokens(config, 6, 700);
      std::vector<Row> rows;
      for (size_t i = 0; i < filler.size(); ++i) rows.push_back({filler[i], static_cast<int32_t>(i), &first, false});
      for (size_t i = 0; i < tokens.size(); ++i) rows.push_back({tokens[i], static_cast<int32_t>(i), &second, true});
      std::vector<float> logits(tokens.size() * static_cast<size_t>(config.vocab));
      machine.forward.Run(*machine.policy, machine.cache, rows, logits.data());
      CHECK(SameBits(whole, logits));
      CHECK(first.length == 700);
    }
  }
}

TEST_CASE("blocks are shared, counted and refused when there are no more") {
  const Config config = TinyConfig();
  KvCache cache(config, *kernels::AvailableKernels().front(), 5);
  Sequence a, b, c;
  REQUIRE(cache.Reserve(&a, 70));
  CHECK(cache.num_free_blocks() == 2);
  REQUIRE(cache.Fork(a, 64, &b));
  CHECK(cache.num_free_blocks() == 2);
  CHECK(b.blocks == std::vector<int32_t>{a.blocks[0], a.blocks[1]});
  REQUIRE(cache.Fork(a, 33, &c));
  CHECK(cache.num_free_blocks() == 1);
  CHECK(c.blocks[1] != a.blocks[1]);
  CHECK_FALSE(cache.Reserve(&b, 64 + 33));
  CHECK(b.blocks.size() == 2);
  CHECK(cache.Reserve(&b, 96));
  Sequence d;
  CHECK_FALSE(cache.Fork(a, 33, &d));
  for (Sequence* sequence : {&a, &b, &c}) cache.Release(sequence);
  CHECK(cache.num_free_blocks() == 5);
}

TEST_CASE("rows that cannot be computed are refused") {
  const Config config = TinyConfig();
  Machine machine(config, *kernels::AvailableKernels().front(), 1, 10);
  Sequence sequence;
  REQUIRE(machine.cache.Reserve(&sequence, 32));
  std::vector<float> logits(static_cast<size_t>(config.vocab));
  const Row foreign{static_cast<uint32_t>(config.vocab), 0, &sequence, true}, far{1, 32, &sequence, true};
  CHECK_THROWS_AS(machine.forward.Run(*machine.policy, machine.cache, {&foreign, 1}, logits.data()), Error);
  CHECK_THROWS_AS(machine.forward.Run(*machine.policy, machine.cache, {&far, 1}, logits.data()), Error);
}

TEST_CASE("log-sum-exp is finite exactly when the logits are usable") {
  const kernels::Kernels& kernels = *kernels::AvailableKernels().front();
  std::vector<float> logits(1300, 0.5f);
  const auto log_sum_exp = [&](const std::vector<float>& row, double temperature) {
    std::vector<kernels::ChunkSums> chunks(static_cast<size_t>(NumChunks(1300)));
    SumChunks(kernels, row.data(), 1300, SoftmaxScale(temperature), chunks.data());
    return LogSumExp(kernels, chunks);
  };
  CHECK(log_sum_exp(logits, 2.0) == Approx(std::log(1300.0) + 0.25));
  CHECK(TokenLogprob(logits.data(), 7, 2.0, log_sum_exp(logits, 2.0)) == Approx(-std::log(1300.0)));
  for (const float bad : {NAN, INFINITY}) {
    for (const size_t at : {0, 15, 700, 1023, 1024, 1299}) {
      std::vector<float> broken = logits;
      broken[at] = bad;
      CHECK_FALSE(std::isfinite(log_sum_exp(broken, 1.0)));
    }
  }
}

}  // namespace
}  // namespace april::model
