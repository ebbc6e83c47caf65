#include "rollout/generator.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/signals.h"

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

}  // namespace

void GeneratorOptions::Register(OptionsVisitor& options) {
  options.Section("Model");
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
    : options_(options), pool_(static_cast<int>(threads)), policies_(OpenSource(options, pool_, timeout_ms)) {
  policies_->ReadModel([this](const std::string& path) {
    tokenizer_ = text::Tokenizer::Load(path);
    model_path_ = path;
  });
}

ScheduleOptions Generator::Complete(ScheduleOptions options) const {
  options.stop_requested = StopRequested;
  options.stop_tokens = tokenizer_->stop_ids();
  // Ids between the tokenizer's vocabulary and the model's, which may be padded, have no text.
  options.token_bytes = [tokenizer = tokenizer_](uint32_t token) {
    return token < tokenizer->vocab_size() ? tokenizer->TokenBytes(token) : std::string_view();
  };
  return options;
}

void Generator::CheckTokenizer(std::optional<uint64_t> digest, const std::string& stream) const {
  if (!digest || *digest == tokenizer_->digest()) return;
  throw Error::Incompatible(
      "tokenizer " + HexU64(*digest) + " made the token ids of " + stream + ", but " + model_path_ + " has tokenizer " + HexU64(tokenizer_->digest()),
      "generate with the model that the prompts were added for");
}

Engine& Generator::Start(int64_t default_in_flight, int64_t expected_positions) {
  LocalEngineOptions engine;
  engine.num_slots = options_.in_flight > 0 ? options_.in_flight : std::max<int64_t>(1, default_in_flight);
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
