#include "rollout/generator.h"

#include <poll.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/signals.h"
#include "model/config.h"
#include "model/kernel_proof.h"
#include "weights/model_files.h"
#include "weights/version_store.h"

namespace april::rollout {
namespace {

const kernels::Kernels& Choose(const GeneratorOptions& options) {
  const auto precision = options.precision == "bf16"  ? kernels::Precision::kBf16
                         : options.precision == "f32" ? kernels::Precision::kF32
                                                      : kernels::Precision::kAuto;
  return kernels::ChooseKernels(options.kernels, precision);
}

/// Nobody would ever publish a version there: waiting for one helps nobody.
void CheckIsStore(const std::string& weights) {
  if (weights.empty()) return;
  const bool is_model = SystemFiles().Exists(JoinPath(weights, "config.json"));
  const std::string model = is_model ? weights : LastWith(SystemFiles(), weights, "optimizer.safetensors");  // of checkpoints alone
  if (!model.empty())
    throw Error::Usage("--weights " + weights + (is_model ? " is a model" : " holds checkpoints") + ", not published versions",
                       "did you mean --model " + model + "?");
}

std::unique_ptr<PolicySource> OpenSource(const GeneratorOptions& options, kernels::ThreadPool& pool, int64_t timeout_ms) {
  if (options.model.empty() == options.weights.empty()) {
    throw Error::Usage(options.model.empty() ? "no model is named" : "--model and --weights are both given",
                       "--model DIR for fixed weights, or --weights DIR for versions that a trainer publishes");
  }
  CheckIsStore(options.weights);
  const kernels::Kernels& kernels = Choose(options);
  return options.model.empty() ? WatchVersions(options.weights, kernels, pool, timeout_ms) : FixedPolicy(options.model, kernels, pool);
}

constexpr std::string_view kSimPrefix = "sim:";

std::optional<SimProfile> OpenProfile(const GeneratorOptions& options) {
  if (options.engine == "local") return std::nullopt;
  if (!options.engine.starts_with(kSimPrefix) || options.engine.size() == kSimPrefix.size())
    throw Error::Usage("--engine " + options.engine + ": no such engine", "local, or sim:PROFILE for a simulation");
  return LoadSimProfile(options.engine.substr(kSimPrefix.size()));
}

void PauseReally(int64_t ms) {
  pollfd stop{StopFd(), POLLIN, 0};
  ::poll(&stop, 1, static_cast<int>(std::min<int64_t>(ms, 1000)));
}

/// The version that a store's LATEST names, looked at again every 20 ms of real time: a simulated step takes microseconds.
class PolicyWatch {
 public:
  PolicyWatch(const std::string& directory, int64_t timeout_ms) : store_(directory) {
    for (int64_t waited_ms = 0; !Look() && waited_ms < timeout_ms; waited_ms += 50) {
      if (StopRequested()) throw Error::Stopped("stopped while waiting for the first version in " + directory);
      PauseReally(50);
    }
    if (!newest_)
      throw Error::NotReady(directory + " has no published version", "publish one: weight-sync publish, or grpo-step --publish " + directory);
  }
  std::optional<PolicyId> operator()() {
    const int64_t now_ns = SystemClock().MonotonicNs();
    if (now_ns - looked_ns_ >= 20'000'000) Look();
    return newest_;
  }

 private:
  bool Look() {
    looked_ns_ = SystemClock().MonotonicNs();
    const std::optional<uint64_t> latest = store_.LatestVersion();
    if (latest && (!newest_ || newest_->version != *latest)) newest_ = {*latest, store_.Open(*latest).manifest.digest};
    return newest_.has_value();
  }

  weights::VersionStore store_;
  std::optional<PolicyId> newest_;
  int64_t looked_ns_ = 0;
};

/// Weights of any version cost a simulation nothing.
class WithWeights : public WorkSource {
 public:
  WithWeights(WorkSource& source, SimEngine& engine) : source_(source), engine_(engine) {}
  WorkAnswer Ask(int64_t want, const std::vector<uint64_t>& held, uint64_t policy_version) override {
    WorkAnswer answer = source_.Ask(want, held, policy_version);
    if (answer.min_version > engine_.policy().version) engine_.Publish({answer.min_version, 0});
    return answer;
  }

 private:
  WorkSource& source_;
  SimEngine& engine_;
};

}  // namespace

void GeneratorOptions::Register(OptionsVisitor& options) {
  options.Section("Model");
  options.Text(
      "engine", &engine, "local|sim:PROFILE",
      "local: the model in this process; sim:PROFILE: no model, but times and lengths of a profile (formats/profiles.md), on a virtual clock");
  options.Text("model", &model, "DIR|GGUF", "fixed weights: a Hugging Face directory or a .gguf file; recorded as policy version 0");
  options.Text("weights", &weights, "DIR", "published versions (grpo-step --publish): the newest is taken up between two decode steps");
  options.Choice(
      "kv", &kv, {"recompute", "keep"},
      "at new weights, the unfinished rollouts' keys and values are computed again (as if resumed) or kept (faster; recorded in segments)");
  options.Text("kernels", &kernels, "SET", "kernel set: auto, or one by name; the bits of log-probabilities hold per kernel set");
  options.Choice("precision", &precision, {"auto", "bf16", "f32"},
                 "of weights and activations; auto is bf16 where the machine multiplies it, else f32");
  options.Section("Batching");
  options.Integer("in-flight", &in_flight, 0, 65536, "rollouts generated at once; 0 = what the run asks for, or as many as were read, at most 64");
  options.Integer("prefill-rows", &prefill_rows, 1, 1 << 20, "most prompt tokens read in one step, beside the decoding rollouts");
  options.Bytes("memory", &memory_bytes, "for weights, keys and values, e.g. 4GiB; 0 = half of the free memory for keys and values");
}

Generator::Generator(const GeneratorOptions& options, int64_t threads, int64_t timeout_ms)
    : options_(options), pool_(options.engine == "local" ? static_cast<int>(threads) : 1), profile_(OpenProfile(options)), timeout_ms_(timeout_ms) {
  if (profile_) {
    if (options.model.empty()) return;
    tokenizer_ = text::Tokenizer::Load(options.model);  // for ids and stop tokens alone
    model_path_ = options.model;
    profile_->vocab_size = static_cast<uint32_t>(tokenizer_->vocab_size());
    if (!tokenizer_->stop_ids().empty()) profile_->stop_token = tokenizer_->stop_ids().front();
    return;
  }
  policies_ = OpenSource(options, pool_, timeout_ms);
  policies_->ReadModel([this](const std::string& path) {
    tokenizer_ = text::Tokenizer::Load(path);
    model_path_ = path;
  });
}

ScheduleOptions Generator::Complete(ScheduleOptions options) const {
  options.stop_requested = StopRequested;
  options.stop_tokens = stop_tokens();
  if (profile_) {
    options.token_bytes = [](uint32_t) { return std::string_view(); };  // made-up tokens end nothing
    return options;
  }
  // Ids between the tokenizer's vocabulary and the model's, which may be padded, have no text.
  options.token_bytes = [tokenizer = tokenizer_](uint32_t token) {
    return token < tokenizer->vocab_size() ? tokenizer->TokenBytes(token) : std::string_view();
  };
  return options;
}

void Generator::CheckTokenizer(std::optional<uint64_t> digest, const std::string& stream) const {
  if (!digest || !tokenizer_ || *digest == tokenizer_->digest()) return;
  throw Error::Incompatible(
      "tokenizer " + HexU64(*digest) + " made the token ids of " + stream + ", but " + model_path_ + " has tokenizer " + HexU64(tokenizer_->digest()),
      "generate with the model that the prompts were added for");
}

std::vector<uint32_t> Generator::stop_tokens() const { return profile_ ? std::vector<uint32_t>{profile_->stop_token} : tokenizer_->stop_ids(); }

WorkSource& Generator::Follow(WorkSource& source) {
  if (!profile_ || !options_.weights.empty()) return source;
  followed_ = std::make_unique<WithWeights>(source, static_cast<SimEngine&>(*engine_));
  return *followed_;
}

void Generator::StartSimulation(int64_t num_slots) {
  auto engine = std::make_unique<SimEngine>(*profile_, num_slots, options_.kv == "keep");
  engine->set_wait_hook(PauseReally);
  if (!options_.weights.empty()) {
    CheckIsStore(options_.weights);
    engine->set_policy_watch([watch = std::make_shared<PolicyWatch>(options_.weights, timeout_ms_)] { return (*watch)(); });
    engine->RefreshWeights();
  }
  engine_ = std::move(engine);
}

Engine& Generator::Start(int64_t default_in_flight, int64_t expected_positions) {
  const int64_t num_slots = options_.in_flight > 0 ? options_.in_flight : std::max<int64_t>(1, default_in_flight);
  if (profile_) {
    StartSimulation(num_slots);
    return *engine_;
  }
  policies_->ReadModel([this](const std::string& path) {
    const auto config = model::Config::FromJson(weights::ModelFiles::Open(path)->config());
    model::ProveKernels(config, Choose(options_), pool_, model::ProofDirectory());
  });
  LocalEngineOptions engine;
  engine.num_slots = num_slots;
  engine.prefill_rows = options_.prefill_rows;
  engine.memory_bytes = options_.memory_bytes;
  engine.expected_positions = expected_positions;
  engine.keep_kv = options_.kv == "keep";
  engine_ = MakeLocalEngine(engine, *policies_, pool_);
  if (tokenizer_->vocab_size() > engine_->vocab_size()) {
    throw Error::Incompatible("the tokenizer of " + model_path_ + " has " + std::to_string(tokenizer_->vocab_size()) +
                              " tokens, the model's vocabulary " + std::to_string(engine_->vocab_size()));
  }
  return *engine_;
}

}  // namespace april::rollout
