// The trainer alone, on rollouts that were recorded: forward, losses, backward, AdamW and the packing of the new weights. One JSON line a figure.
//   usage: bench_update time MODEL ROLLOUTS GROUPS [UPDATES]           seconds an update, phases, share of the peak, and what on-policy exactness
//   says
//          bench_update prefix MODEL GROUPS PROMPT RESPONSE [UPDATES]  groups of 8 with the prompt computed once, and with a prompt for each rollout
//          bench_update bits MODEL ROLLOUTS                            new weights by micro-batch and number of threads
//          bench_update gradients MODEL ROLLOUTS GROUPS OUT once|each  writes every gradient, and what each log-probability's was
//          bench_update claims ROLLOUTS GROUPS STEPS OUT               writes a stream for grpo-step
// Every second rollout of a group is rewarded, so that all groups are trained. A first update, which finds no pages yet, is not counted.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "grpo/operations.h"
#include "grpo/trainer.h"
#include "kernels/peak.h"
#include "recorded.h"
#include "weights/safetensors.h"

namespace april::bench {
namespace {

using grpo::Batch;
using grpo::BatchGroup;
using Groups = std::vector<std::vector<record::Rollout>>;

/// A trainer at a model's weights.
class Machine {
 public:
  Machine(const std::string& model, int threads, int64_t micro_batch_tokens = 0)
      : kernels_(kernels::ChooseKernels("auto", kernels::Precision::kAuto)), pool_(threads) {
    const auto files = weights::ModelFiles::Open(model);
    state_ = std::make_unique<grpo::State>(model::Config::FromJson(files->config()));
    state_->LoadModel(*files, /*seed=*/1, pool_);
    grpo::TrainerOptions options;
    options.method = grpo::ParseMethod({});
    options.optimizer.lr = 1e-5;
    if (micro_batch_tokens > 0) options.micro_batch_tokens = micro_batch_tokens;
    trainer_ = std::make_unique<grpo::Trainer>(options, kernels_, pool_, state_.get(), nullptr, *ranks_);
  }

  Batch MakeBatch(const grpo::Claim& claim) const {
    const record::WeightSpan& sampled = claim.groups.front().rollouts.front().weight_versions.front();
    const model::Config& config = state_->config();
    return grpo::MakeBatch(claim, grpo::ParseMethod({}), {config.vocab, config.max_positions, sampled.version, sampled.weights, kernels_.name});
  }

  /// Until the new weights are packed.
  double Update(const Batch& batch, Json* metrics) {
    const double begin = SystemClock().MonotonicSeconds();
    const grpo::UpdateResult result = trainer_->Update(batch);
    const double updated = SystemClock().MonotonicSeconds();
    trainer_->Prepare();
    const double end = SystemClock().MonotonicSeconds();
    if (result.failure) throw Error::Runtime(*result.failure);
    *metrics = result.metrics.ToJson();
    (*metrics)["pack_s"] = end - updated;
    return end - begin;
  }

  const kernels::Kernels& kernels() const { return kernels_; }
  kernels::ThreadPool& pool() { return pool_; }
  grpo::State& state() { return *state_; }

 private:
  const kernels::Kernels& kernels_;
  kernels::ThreadPool pool_;
  std::unique_ptr<ranks::Ranks> ranks_ = ranks::Ranks::Alone();
  std::unique_ptr<grpo::State> state_;
  std::unique_ptr<grpo::Trainer> trainer_;
};

/// Every rollout with a prompt of its own.
Batch Apart(const Batch& batch) {
  Batch apart = batch;
  apart.groups.clear();
  for (const BatchGroup& group : batch.groups) {
    for (const grpo::TrainingSequence& sequence : group.sequences) {
      apart.groups.push_back(group);
      apart.groups.back().sequences = {sequence};
    }
  }
  return apart;
}

std::vector<model::TrainingGroup> Inputs(const Batch& batch) {
  std::vector<model::TrainingGroup> inputs;
  for (const BatchGroup& group : batch.groups) {
    inputs.push_back({group.sequences.front().rollout->prompt_tokens, {}});
    for (const grpo::TrainingSequence& sequence : group.sequences) inputs.back().responses.emplace_back(sequence.rollout->tokens);
  }
  return inputs;
}

void Print(const Json& line) {
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

/// The best rate of the product that forward and backward are made of, over shapes of a 135M model: operations a second of all threads.
double BestProduct(const kernels::Kernels& kernels, kernels::ThreadPool& pool) {
  constexpr int64_t kRows = 512;
  double best = 0;
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1536, 576}, {576, 1536}, {1024, 1024}}) {
    kernels::Memory x(static_cast<size_t>(kRows * k * kernels.element_bytes)), packed(kernels.packed_bytes(n, k)), out(kRows * n * 4);
    std::memset(x.data(), 0x3c, x.size());
    std::memset(packed.data(), 0x3c, packed.size());
    const int64_t blocks = n / kernels.column_block;
    const double begin = SystemClock().MonotonicSeconds();
    while (SystemClock().MonotonicSeconds() - begin < 0.4) {
      const double start = SystemClock().MonotonicSeconds();
      pool.Run([&](kernels::ThreadPool::Worker& worker) {
        const int64_t first = blocks * worker.index() / worker.num_threads(), last = blocks * (worker.index() + 1) / worker.num_threads();
        kernels.linear({x.data(), k, kRows, packed.data(), n, k, first, last, out.as<float>(), n, false});
      });
      best = std::max(best, 2.0 * static_cast<double>(kRows * n * k) / (SystemClock().MonotonicSeconds() - start));
    }
  }
  return best;
}

void Time(const std::string& model, const std::string& rollouts, size_t groups, int updates) {
  Machine machine(model, 0);
  const grpo::Claim claim = MakeClaim(0, ReadGroups(rollouts, groups));
  const Batch batch = machine.MakeBatch(claim);
  const double spin = kernels::MeasureMatrixPeak(machine.pool()), product = BestProduct(machine.kernels(), machine.pool());
  const double operations = 3 * grpo::ForwardOperations(machine.state().config(), Inputs(batch));
  Json metrics;
  machine.Update(batch, &metrics);
  Json line = {{"figure", "on_policy"}};
  for (const char* key : {"on_policy_tokens", "on_policy_differing_tokens", "on_policy_largest_difference_nats", "ratio_min", "ratio_max",
                          "behaviour_ratio_min", "behaviour_ratio_max"}) {
    line[key] = metrics[key];
  }
  Print(line);
  for (int i = 0; i < updates; ++i) {
    const double seconds = machine.Update(batch, &metrics);
    line = {{"figure", "update"},
            {"update_s", seconds},
            {"forward_tokens", metrics["forward_tokens"]},
            {"response_tokens", metrics["trained_tokens"]},
            {"matrix_gflop", operations * 1e-9},
            {"gflops", operations * 1e-9 / seconds},
            {"product_gflops", product * 1e-9},
            {"registers_gflops", spin * 1e-9}};
    for (const char* key : {"forward_s", "backward_s", "optimizer_s", "pack_s"}) line[key] = metrics[key];
    Print(line);
  }
}

void Prefix(const std::string& model, size_t groups, int64_t prompt, int64_t response, int updates) {
  Machine machine(model, 0);
  const grpo::Claim claim = MakeClaim(0, MakeGroups(groups, prompt, 8, response, machine.state().config().vocab));
  const Batch once = machine.MakeBatch(claim), each = Apart(once);
  Json metrics;
  for (int i = -1; i < updates; ++i) {
    const double shared = machine.Update(once, &metrics);
    const int64_t shared_tokens = metrics["forward_tokens"];
    const double apart = machine.Update(each, &metrics);
    if (i < 0) continue;
    Print({{"figure", "prefix"},
           {"once_s", shared},
           {"each_s", apart},
           {"once_tokens", shared_tokens},
           {"each_tokens", metrics["forward_tokens"]},
           {"response_tokens", metrics["trained_tokens"]}});
  }
}

/// Values of both states that differ in any bit: master weights, moments, rounded weights.
int64_t Differing(grpo::State& a, grpo::State& b) {
  int64_t count = 0;
  const auto compare = [&](auto x, auto y) {
    for (size_t i = 0; i < x.size(); ++i) count += std::memcmp(&x[i], &y[i], sizeof x[i]) != 0;
  };
  for (size_t p = 0; p < a.trainables().size(); ++p) {
    compare(a.Master(p), b.Master(p));
    compare(a.FirstMoment(p), b.FirstMoment(p));
    compare(a.SecondMoment(p), b.SecondMoment(p));
  }
  for (size_t p = 0; p < a.parameters().size(); ++p) compare(a.Rounded(p), b.Rounded(p));
  return count;
}

void Bits(const std::string& model, const std::string& rollouts) {
  const grpo::Claim claim = MakeClaim(0, ReadGroups(rollouts, 0));
  std::unique_ptr<Machine> first;
  for (const int threads : {1, 2}) {
    for (const int64_t micro_batch : {512, 2048, 16384}) {
      auto machine = std::make_unique<Machine>(model, threads, micro_batch);
      Json metrics;
      machine->Update(machine->MakeBatch(claim), &metrics);
      if (!first) {
        first = std::move(machine);
        continue;
      }
      Print({{"figure", "micro_batch_bits"},
             {"micro_batch_tokens", micro_batch},
             {"threads", threads},
             {"tokens", metrics["forward_tokens"]},
             {"differing_values", Differing(first->state(), machine->state())}});
    }
  }
}

void WriteGradients(const std::string& model, const std::string& rollouts, size_t groups, const std::string& out, bool each) {
  Machine machine(model, 0);
  const grpo::Claim claim = MakeClaim(0, ReadGroups(rollouts, groups));
  Batch batch = machine.MakeBatch(claim);
  const auto tokens = static_cast<float>(grpo::Totals(batch.groups).num_tokens);
  if (each) batch = Apart(batch);
  std::vector<float> slopes;
  for (const BatchGroup& group : batch.groups) {
    for (const grpo::TrainingSequence& sequence : group.sequences) {
      slopes.insert(slopes.end(), sequence.rollout->tokens.size(), static_cast<float>(-sequence.advantage) / tokens);
    }
  }
  const model::Config& config = machine.state().config();
  const auto policy = model::Policy::FromTensors(config, machine.state().RoundedViews(), machine.kernels(), machine.pool(), true);
  model::Gradients gradients(config);
  gradients.Zero(machine.pool());
  model::TrainingPass pass(config, machine.kernels(), machine.pool());
  std::vector<float> logprobs(slopes.size());
  const std::vector<model::TrainingGroup> inputs = Inputs(batch);
  pass.Forward(*policy, inputs, batch.groups.front().temperature, logprobs, {}, true);
  pass.Backward(*policy, slopes, {}, &gradients);
  std::vector<weights::TensorView> views;
  for (size_t p = 0; p < gradients.size(); ++p) {
    const model::ParameterSpec& spec = machine.state().parameters()[p];
    const std::span<float> values = gradients.Tensor(p);
    views.push_back({spec.name, weights::DType::kF32, spec.shape, values.data(), values.size_bytes()});
  }
  const auto layout = weights::LayOutSafetensors(views, {});
  std::ofstream file(out, std::ios::binary);
  file << layout.head;
  for (const size_t i : layout.order) file.write(static_cast<const char*>(views[i].data), static_cast<std::streamsize>(views[i].num_bytes));
  if (!file.flush()) throw Error::Runtime("cannot write " + out);
}

void WriteClaims(const std::string& rollouts, size_t groups, int64_t steps, const std::string& out) {
  record::Header header;
  const Groups recorded = ReadGroups(rollouts, groups, &header);
  header.purpose = "train";
  record::RecordWriter writer(out, header, {});
  for (int64_t step = 0; step < steps; ++step) {
    const grpo::Claim claim = MakeClaim(step, recorded);
    writer.Write(claim.control);
    for (const grpo::ClaimGroup& group : claim.groups) {
      writer.Write(group.group);
      for (const record::Rollout& rollout : group.rollouts) writer.Write(rollout);
    }
  }
  writer.Finish();
}

int Run(int argc, char** argv) {
  const auto text = [&](int i) { return i < argc ? std::string(argv[i]) : std::string(); };
  const auto number = [&](int i, int64_t otherwise) { return i < argc ? std::atoll(argv[i]) : otherwise; };
  const auto count = [&](int i) { return static_cast<size_t>(number(i, 0)); };
  const std::string what = text(1);
  if (what == "time" && argc >= 5) {
    Time(text(2), text(3), count(4), static_cast<int>(number(5, 2)));
  } else if (what == "prefix" && argc >= 6) {
    Prefix(text(2), count(3), number(4, 0), number(5, 0), static_cast<int>(number(6, 2)));
  } else if (what == "bits" && argc >= 4) {
    Bits(text(2), text(3));
  } else if (what == "gradients" && argc >= 7) {
    WriteGradients(text(2), text(3), count(4), text(5), text(6) == "each");
  } else if (what == "claims" && argc >= 6) {
    WriteClaims(text(2), count(3), number(4, 1), text(5));
  } else {
    std::fprintf(stderr, "usage: bench_update time|prefix|bits|gradients|claims …; see tests/bench/update.cc\n");
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace april::bench

int main(int argc, char** argv) {
  try {
    return april::bench::Run(argc, argv);
  } catch (const april::Error& error) {
    std::fprintf(stderr, "bench_update: %s\n", error.message().c_str());
    return 1;
  }
}
