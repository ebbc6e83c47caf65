// Speed of the forward and of the training pass of a real model, and where the time goes; one JSON line a figure.
//   usage: bench_model MODEL [THREADS [PART OF A FIGURE'S NAME]]
// A figure's time is the best of several runs, once by the wall clock and once by CPU time (which neighbours on the machine disturb less). `floor` is
// the roofline's time: per kind of operation the larger of bytes over the read rate and operations over the best matrix rate, both measured here, at
// the start.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/rng.h"
#include "kernels/memory.h"
#include "model/forward.h"
#include "model/training.h"

namespace april::model {
namespace {

using kernels::Kernels;

double CpuSeconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// ---- a kernel set that counts its own CPU time by function ----

const Kernels* g_base;
std::mutex g_mutex;
std::map<std::string, double> g_seconds;

class Count {
 public:
  explicit Count(const char* name) : name_(name) { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start_); }
  ~Count() {
    timespec end{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    const double seconds = static_cast<double>(end.tv_sec - start_.tv_sec) + 1e-9 * static_cast<double>(end.tv_nsec - start_.tv_nsec);
    const std::lock_guard lock(g_mutex);
    g_seconds[name_] += seconds;
  }

 private:
  const char* name_;
  timespec start_{};
};

Kernels Counted(const Kernels& base) {
  g_base = &base;
  Kernels k = base;
#define APRIL_COUNT(name, Args) \
  k.name = [](const Args& a) {  \
    const Count count(#name);   \
    return g_base->name(a);     \
  }
  APRIL_COUNT(linear, kernels::LinearArgs);
  APRIL_COUNT(pack_gradient_rows, kernels::PackRowsArgs);
  APRIL_COUNT(pack_rows, kernels::PackRowsArgs);
  APRIL_COUNT(weight_gradient, kernels::WeightGradientArgs);
  APRIL_COUNT(embed, kernels::EmbedArgs);
  APRIL_COUNT(rms_norm, kernels::RmsNormArgs);
  APRIL_COUNT(rms_norm_backward, kernels::RmsNormBackwardArgs);
  APRIL_COUNT(rope, kernels::RopeArgs);
  APRIL_COUNT(rope_backward, kernels::RopeBackwardArgs);
  APRIL_COUNT(silu, kernels::SiluArgs);
  APRIL_COUNT(silu_backward, kernels::SiluBackwardArgs);
  APRIL_COUNT(convert, kernels::ConvertArgs);
  APRIL_COUNT(store_kv, kernels::StoreKvArgs);
  APRIL_COUNT(attention, kernels::AttentionArgs);
  APRIL_COUNT(attention_delta, kernels::AttentionDeltaArgs);
  APRIL_COUNT(attention_backward, kernels::AttentionBackwardArgs);
  APRIL_COUNT(softmax_gradient, kernels::SoftmaxGradientArgs);
#undef APRIL_COUNT
  return k;
}

// ---- the machine's limits ----

struct Limits {
  double read_bytes = 0, matrix_flops = 0;  ///< a second, all threads together; by CPU time
};

Limits Measure(const Kernels& kernels, kernels::ThreadPool& pool) {
  constexpr int64_t kWords = int64_t{32} << 20, kN = 1024, kK = 576, kRows = 256;
  kernels::Memory words(kWords * 8), x(static_cast<size_t>(kRows * kK * kernels.element_bytes)), w(kernels.packed_bytes(kN, kK)),
      out(static_cast<size_t>(kRows * kN * 4 * pool.num_threads()));
  std::memset(words.data(), 1, words.size());
  Limits limits;
  for (int round = 0; round < 8; ++round) {
    double start = CpuSeconds();
    pool.Run([&](kernels::ThreadPool::Worker& worker) {
      uint64_t sum[8] = {};
      const int64_t begin = kWords * worker.index() / worker.num_threads() / 8 * 8,
                    end = kWords * (worker.index() + 1) / worker.num_threads() / 8 * 8;
      for (int64_t i = begin; i < end; i += 8) {
        for (int64_t j = 0; j < 8; ++j) sum[j] += words.as<uint64_t>()[i + j];
      }
      out.as<uint64_t>()[worker.index() * 8] = sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
    });
    limits.read_bytes = std::max(limits.read_bytes, kWords * 8.0 * pool.num_threads() / (CpuSeconds() - start));
    start = CpuSeconds();
    constexpr int kRepeats = 20;
    pool.Run([&](kernels::ThreadPool::Worker& worker) {
      for (int i = 0; i < kRepeats; ++i) {
        kernels.linear(
            {x.data(), kK, kRows, w.data(), kN, kK, 0, kN / kernels.column_block, out.as<float>() + worker.index() * kRows * kN, kN, false});
      }
    });
    limits.matrix_flops =
        std::max(limits.matrix_flops, 2.0 * kRows * kN * kK * kRepeats * pool.num_threads() * pool.num_threads() / (CpuSeconds() - start));
  }
  return limits;
}

// ---- figures ----

class Bench {
 public:
  Bench(const std::string& path, int threads, const std::string& filter)
      : filter_(filter),
        plain_(kernels::ChooseKernels("auto", kernels::Precision::kAuto)),
        counted_(Counted(plain_)),
        pool_(threads),
        files_(weights::ModelFiles::Open(path)),
        config_(Config::FromJson(files_->config())),
        limits_(Measure(plain_, pool_)) {
    for (const ParameterSpec& spec : Parameters(config_)) {
      int64_t count = 1;
      for (const int64_t size : spec.shape) count *= size;
      if (spec.shape.size() == 2) matrix_weights_ += count;
    }
    if (!config_.tied_embeddings) matrix_weights_ -= config_.vocab * config_.hidden;  // looked up, not multiplied
    std::printf("{\"figure\":\"limits\",\"kernels\":\"%s\",\"threads\":%d,\"read_gb_per_s\":%.1f,\"matrix_gflops\":%.0f}\n", plain_.name,
                pool_.num_threads(), limits_.read_bytes * 1e-9, limits_.matrix_flops * 1e-9);
  }

  void Decode(int64_t batch, int64_t context) {
    const std::string name = "decode batch " + std::to_string(batch) + " context " + std::to_string(context);
    if (!Wanted(name)) return;
    Each([&](const Kernels& kernels, const Policy& policy, bool profile) {
      KvCache cache(config_, kernels, batch * KvCache::BlocksFor(context + 1));
      Fill(&cache);
      Forward forward(config_, kernels, pool_);
      std::vector<Sequence> sequences(static_cast<size_t>(batch));
      std::vector<Row> rows;
      for (Sequence& sequence : sequences) {
        cache.Reserve(&sequence, context + 1);
        rows.push_back({static_cast<uint32_t>(rows.size()), static_cast<int32_t>(context), &sequence, true});
      }
      std::vector<float> logits(static_cast<size_t>(batch * config_.vocab)), sums(static_cast<size_t>(batch));
      const int64_t num_chunks = NumChunks(config_.vocab);
      std::vector<kernels::ChunkSums> chunks(static_cast<size_t>(batch * num_chunks));
      const double flops = 2.0 * static_cast<double>(matrix_weights_ * batch);
      const double weights = Floor(static_cast<double>(matrix_weights_) * static_cast<double>(kernels.element_bytes), flops);
      const double kv_bytes =
          static_cast<double>(KvCache::BytesPerBlock(config_, kernels)) * static_cast<double>(KvCache::BlocksFor(context) * batch);
      const double attention = Floor(kv_bytes, 4.0 * static_cast<double>(batch * context * config_.layers * config_.heads * config_.head_dim));
      Report(name, static_cast<double>(batch), weights + attention, profile, [&] {
        forward.Run(policy, cache, rows, logits.data(), chunks.data());
        for (int64_t i = 0; i < batch; ++i)
          sums[static_cast<size_t>(i)] =
              LogSumExp(kernels, std::span(chunks).subspan(static_cast<size_t>(i * num_chunks), static_cast<size_t>(num_chunks)));
      });
    });
  }

  void Prefill(int64_t length) {
    const std::string name = "prefill " + std::to_string(length);
    if (!Wanted(name)) return;
    Each([&](const Kernels& kernels, const Policy& policy, bool profile) {
      KvCache cache(config_, kernels, KvCache::BlocksFor(length));
      Forward forward(config_, kernels, pool_);
      Sequence sequence;
      cache.Reserve(&sequence, length);
      std::vector<Row> rows;
      for (int64_t i = 0; i < length; ++i) rows.push_back({Token(i), static_cast<int32_t>(i), &sequence, i + 1 == length});
      std::vector<float> logits(static_cast<size_t>(config_.vocab));
      const double body = 2.0 * static_cast<double>((matrix_weights_ - config_.vocab * config_.hidden) * length);
      const double attention = 2.0 * static_cast<double>(length * length * config_.layers * config_.heads * config_.head_dim);
      Report(name, static_cast<double>(length), (body + attention) / limits_.matrix_flops, profile,
             [&] { forward.Run(policy, cache, rows, logits.data()); });
    });
  }

  /// Groups of `members` responses; the floor counts what is computed: prompts once, logits of response rows only.
  void Train(int64_t groups, int64_t prompt, int64_t members, int64_t response) {
    const std::string name = "train " + std::to_string(groups) + " groups, prompt " + std::to_string(prompt) + ", " + std::to_string(members) +
                             " responses of " + std::to_string(response);
    if (!Wanted(name)) return;
    std::vector<std::vector<uint32_t>> tokens;
    for (int64_t g = 0; g < groups * (members + 1); ++g) {
      tokens.emplace_back();
      for (int64_t i = 0; i < (g % (members + 1) == 0 ? prompt : response); ++i) tokens.back().push_back(Token(g * 1000 + i));
    }
    std::vector<TrainingGroup> work;
    for (size_t g = 0; g < tokens.size(); ++g) {
      if (g % static_cast<size_t>(members + 1) == 0) {
        work.push_back({tokens[g], {}});
      } else {
        work.back().responses.emplace_back(tokens[g]);
      }
    }
    const int64_t targets = groups * members * response, rows = groups * (prompt + members * (response - 1)), head = config_.vocab * config_.hidden;
    const double forward = 2.0 * static_cast<double>((matrix_weights_ - head) * rows + head * targets);
    const int64_t pairs = groups * (prompt * prompt / 2 + members * (response * prompt + response * response / 2));
    const double attention = 4.0 * static_cast<double>(pairs * config_.layers * config_.heads * config_.head_dim);
    std::vector<float> logprobs(static_cast<size_t>(targets)), gradients_of(static_cast<size_t>(targets), 0.1f);
    Gradients gradients(config_);
    gradients.Zero(pool_);
    Each([&](const Kernels& kernels, const Policy& policy, bool profile) {
      TrainingPass pass(config_, kernels, pool_);
      Report(name + ", forward", static_cast<double>(targets), (forward + attention) / limits_.matrix_flops, profile,
             [&] { pass.Forward(policy, work, 1, logprobs, {}, true); });
      Report(name + ", forward and backward", static_cast<double>(targets),
             (3 * forward + 3.5 * attention + 2.0 * static_cast<double>(head * targets)) / limits_.matrix_flops, profile, [&] {
               pass.Forward(policy, work, 1, logprobs, {}, true);
               pass.Backward(policy, gradients_of, {}, &gradients);
             });
    });
  }

 private:
  bool Wanted(const std::string& name) const { return name.find(filter_) != std::string::npos; }
  uint32_t Token(int64_t i) const { return static_cast<uint32_t>(Mix64(static_cast<uint64_t>(i)) % static_cast<uint64_t>(config_.vocab)); }
  double Floor(double bytes, double flops) const { return std::max(bytes / limits_.read_bytes, flops / limits_.matrix_flops); }

  void Fill(KvCache* cache) const {
    for (int64_t layer = 0; layer < config_.layers; ++layer) {
      std::memset(cache->KeyBase(layer), 0x3c, static_cast<size_t>(cache->num_blocks() * cache->block_stride_bytes()));
    }
  }

  /// Once for the time, once for the profile.
  template <typename Body>
  void Each(const Body& body) {
    for (const Kernels* kernels : {&plain_, static_cast<const Kernels*>(&counted_)}) {
      std::shared_ptr<const Policy>& policy = policies_[kernels];
      if (!policy) policy = Load(*kernels);
      body(*kernels, *policy, kernels == &counted_);
    }
  }

  std::shared_ptr<const Policy> Load(const Kernels& kernels) {
    std::vector<std::vector<char>> data;
    std::vector<weights::TensorView> views;
    const weights::DType type = kernels.element_bytes == 2 ? weights::DType::kBf16 : weights::DType::kF32;
    for (const ParameterSpec& spec : Parameters(config_)) {
      int64_t bytes = kernels.element_bytes;
      for (const int64_t size : spec.shape) bytes *= size;
      data.emplace_back(static_cast<size_t>(bytes));
      files_->Read(spec.name, spec.shape, type, data.back().data());
    }
    size_t next = 0;
    for (const ParameterSpec& spec : Parameters(config_)) {
      views.push_back({spec.name, type, spec.shape, data[next].data(), data[next].size()});
      ++next;
    }
    return Policy::FromTensors(config_, views, kernels, pool_, true);
  }

  template <typename Call>
  void Report(const std::string& name, double tokens, double floor, bool profile, const Call& call) {
    call();
    g_seconds.clear();
    double wall = 1e9, cpu = 1e9, total = 0;
    const double begin = SystemClock().MonotonicSeconds();
    int runs = 0;
    do {
      const double wall_start = SystemClock().MonotonicSeconds(), cpu_start = CpuSeconds();
      call();
      wall = std::min(wall, SystemClock().MonotonicSeconds() - wall_start);
      cpu = std::min(cpu, CpuSeconds() - cpu_start);
      total += CpuSeconds() - cpu_start;
      ++runs;
    } while (runs < 2 || SystemClock().MonotonicSeconds() - begin < 2);
    if (profile) {
      std::printf("{\"figure\":\"%s\",\"profile_share\":{", name.c_str());
      double known = 0;
      for (const auto& [kind, seconds] : g_seconds) {
        std::printf("\"%s\":%.3f,", kind.c_str(), seconds / total);
        known += seconds;
      }
      std::printf("\"rest\":%.3f}}\n", 1 - known / total);
    } else {
      std::printf("{\"figure\":\"%s\",\"tokens_per_s\":%.1f,\"tokens_per_cpu_s\":%.1f,\"roofline_share\":%.3f,\"roofline_share_by_cpu_time\":%.3f}\n",
                  name.c_str(), tokens / wall, tokens / cpu, floor / wall, floor * pool_.num_threads() / cpu);
    }
    std::fflush(stdout);
  }

  const std::string filter_;
  const Kernels& plain_;
  const Kernels counted_;
  kernels::ThreadPool pool_;
  std::unique_ptr<weights::ModelFiles> files_;
  const Config config_;
  Limits limits_;
  int64_t matrix_weights_ = 0;
  std::map<const Kernels*, std::shared_ptr<const Policy>> policies_;
};

}  // namespace
}  // namespace april::model

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_model MODEL [THREADS [PART OF A FIGURE'S NAME]]\n");
    return 2;
  }
  april::model::Bench bench(argv[1], argc > 2 ? std::atoi(argv[2]) : 0, argc > 3 ? argv[3] : "");
  for (const int64_t context : {64, 512}) {
    for (const int64_t batch : {1, 8, 32, 64}) bench.Decode(batch, context);
  }
  for (const int64_t length : {512, 2048}) bench.Prefill(length);
  bench.Train(2, 64, 8, 128);
  bench.Train(16, 64, 8, 16);
  bench.Train(1, 64, 4, 512);
}
