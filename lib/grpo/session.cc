#include "grpo/session.h"

#include <algorithm>
#include <filesystem>
#include <future>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "grpo/orders.h"
#include "grpo/replay.h"
#include "grpo/sharding.h"
#include "kernels/kernels.h"
#include "kernels/peak.h"
#include "model/kernel_proof.h"
#include "text/export.h"
#include "text/tokenizer.h"
#include "weights/model_files.h"

namespace april::grpo {
namespace {

constexpr size_t kRememberedSteps = 16;  // step records that a checkpoint repeats at least, in case their commits were lost

kernels::Precision ParsePrecision(const std::string& name) {
  return name == "bf16" ? kernels::Precision::kBf16 : name == "f32" ? kernels::Precision::kF32 : kernels::Precision::kAuto;
}

/// Operations a second.
double PeakOf(const SessionOptions& options, kernels::ThreadPool& pool) {
  return options.matrix_peak > 0 ? options.matrix_peak * 1e9 : kernels::MeasureMatrixPeak(pool);
}

std::string AbsolutePath(const std::string& path) { return std::filesystem::absolute(path).lexically_normal().string(); }

bool IsDirectory(const std::string& path) { return SystemFiles().Exists(JoinPath(path, ".")); }

/// Copies what belongs beside published weights (configuration, tokenizer) into `directory`, so that it outlives the checkpoint or model it came
/// from.
std::vector<std::string> CopySidecars(const std::vector<std::string>& paths, const std::string& directory) {
  std::vector<std::string> copies;
  for (const std::string& path : paths) {
    const std::string copy = JoinPath(directory, path.substr(path.find_last_of('/') + 1));
    if (copy != path) ReplaceFile(SystemFiles(), copy, ReadFile(SystemFiles(), path), /*durable=*/false);
    copies.push_back(copy);
  }
  return copies;
}

/// Configuration and tokenizer of a model in whatever form; the configuration says bf16, as the published weights are.
std::vector<std::string> ModelSidecars(const weights::ModelFiles& model, const std::string& directory) {
  std::vector<std::string> paths = text::TokenizerFilesOf(model.path(), directory);
  Json config = model.config();
  config[config.contains("dtype") ? "dtype" : "torch_dtype"] = "bfloat16";  // transformers 5 and older ones
  paths.push_back(JoinPath(directory, "config.json"));
  ReplaceFile(SystemFiles(), paths.back(), config.dump(2) + "\n", /*durable=*/false);
  return paths;
}

std::optional<uint64_t> TokenizerDigest(const std::string& path) {
  if (IsDirectory(path) && !SystemFiles().Exists(JoinPath(path, "tokenizer.json"))) {
    log::Warn(path + " has no tokenizer.json: whether claims were made with the model's tokenizer is not checked");
    return std::nullopt;
  }
  return text::Tokenizer::Load(path)->digest();
}

stream::Map ToMap(const Json& json) {
  stream::Map map;
  for (const auto& [key, value] : json.items()) {
    if (value.is_number_integer()) stream::Set(map, key, value.get<int64_t>());
    if (value.is_number_float()) stream::Set(map, key, value.get<double>());
  }
  return map;
}

/// The step's numbers, for its record, for --metrics and for a terminal.
void Tell(const UpdateResult& result, bool replay, StepReport* report) {
  const Json numbers = result.metrics.ToJson();
  report->step.metrics = ToMap(numbers);
  report->metrics = {{"step", report->step.step},
                     {"version", report->step.version},
                     {"advanced", result.advanced},
                     {"replay", replay},
                     {"rollouts_trained", report->num_trained},
                     {"rollouts_skipped", report->num_skipped},
                     {"rollouts_excluded", report->num_excluded}};
  report->metrics.update(numbers);
  report->line = result.metrics.Line();
}

/// Before anything is read or written.
Method CheckedMethod(const SessionOptions& options) {
  const Method method = ParseMethod(options.method);
  ParseSchedule(options.optimizer);
  for (const std::string& doubt : Doubts(options.method)) log::Warn(doubt);
  return method;
}

}  // namespace

void SessionOptions::Register(OptionsVisitor& options) {
  options.Section("Weights");
  options.Text("from", &from, "DIR", "checkpoints: goes on from the newest whole one, and writes new ones there");
  options.Text("model", &model, "PATH",
               "where to start when there is no checkpoint: a Hugging Face directory or a .gguf file; also the reference policy of --kl");
  options.Text("publish", &publish, "DIR", "version store: the weights of every step, in bf16, for generators");
  options.Integer("keep-versions", &keep_versions, 2, kNoUpperLimit, "published versions to keep");
  options.Integer("checkpoint-every", &checkpoint_every, 1, kNoUpperLimit, "steps between full checkpoints; one is written at the end, too");
  options.Integer("keep", &keep, 1, kNoUpperLimit, "whole checkpoints to keep");
  options.Integer(
      "replay", &replay, -1, kNoUpperLimit,
      "compute this recorded step again, from the newest checkpoint at or before it and the claims of `partial-buffer claim --replay`, compare "
      "every bit with what is recorded, and change nothing; -1 = off");
  method.Register(options);
  optimizer.Register(options);
  adapter.Register(options);
  options.Section("Machine");
  options.Integer("micro-batch-tokens", &micro_batch_tokens, 1, kNoUpperLimit,
                  "tokens that go through the network at once, in whole groups; changes memory, never the result");
  options.Bytes("activation-memory", &activation_bytes,
                "what the backward pass may keep of the forward pass; the rest is computed again, to the same bits");
  options.Text("kernels", &kernels, "NAME", "kernel set; must be the generator's for on-policy ratios of exactly 1");
  options.Choice("precision", &precision, {"auto", "bf16", "f32"}, "of the products: auto = bf16 where the machine multiplies it by itself");
  options.Real("matrix-peak", &matrix_peak, 0, 1e9,
               "what this machine can do at most, in 10^9 operations of bf16 matrix products a second, for the metrics' peak_share; 0 = measured at "
               "start");
}

const kernels::Kernels& KernelsOf(const SessionOptions& options) {
  return kernels::ChooseKernels(options.kernels, ParsePrecision(options.precision));
}

struct Session::Parts {
  Parts(const SessionOptions& session_options, int num_threads, std::shared_ptr<ranks::Ranks> all_ranks)
      : options(session_options),
        method(CheckedMethod(options)),
        ranks(std::move(all_ranks)),
        kernels(KernelsOf(options)),
        pool(num_threads),
        checkpoints(SystemFiles(), options.from, options.keep),
        versions(options.publish) {}

  void Load();
  void Lock();
  void LoadCheckpoint();
  std::shared_ptr<const model::Policy> LoadReferencePolicy(const std::optional<std::string>& kept);
  uint64_t Publish(bool supersede);
  void PublishStep(const Claim& claim);
  void CheckOrder(const Claim& claim) const;
  UpdateResult Apply(const Claim& claim, StepReport* report);
  bool replays() const { return options.replay >= 0; }
  void WriteCheckpoint(PhaseSeconds* seconds);
  double NowS() const { return SystemClock().MonotonicSeconds() - begin_s; }

  SessionOptions options;
  Method method;
  std::shared_ptr<ranks::Ranks> ranks;
  const kernels::Kernels& kernels;
  kernels::ThreadPool pool;
  CheckpointStore checkpoints;
  weights::VersionStore versions;
  std::unique_ptr<FileLock> lock;  ///< on the checkpoints' directory
  std::unique_ptr<State> state;
  std::unique_ptr<Trainer> trainer;
  std::vector<std::string> sidecars;
  CheckpointInfo info;
  std::optional<std::string> newest_checkpoint;
  int64_t checkpoint_step = -1;  ///< `step` of the newest checkpoint
  record::Header header;
  std::string origin;
  double begin_s = SystemClock().MonotonicSeconds(), free_s = 0;  ///< since when the session is there; when, on its clock, the last step was done
  bool doubtful = false;                                          ///< an update began and did not come to its end: the state must not be saved
  bool torn = false;                                              ///< a checkpoint did not come to its end: the other ranks wait for its rest
};

/// Two trainers would overwrite each other's checkpoints.
void Session::Parts::Lock() {
  if (options.model.empty() && !SystemFiles().Exists(options.from)) return;  // there is nothing to begin with, and nothing is made
  SystemFiles().MakeDirectory(options.from);
  lock = SystemFiles().Lock(JoinPath(options.from, "LOCK"), 0);
  if (!lock) throw Error::Runtime("another grpo-step writes its checkpoints into " + options.from, "wait for its end, or use another --from");
}

void Session::Parts::Load() {
  if (!replays()) Lock();
  newest_checkpoint = replays() ? checkpoints.FindAtOrBefore(options.replay) : checkpoints.FindNewest();
  if (!newest_checkpoint && options.model.empty()) {
    throw Error::Usage("there is no whole checkpoint " + (replays() ? "at or before step " + std::to_string(options.replay) + " " : "") + "in " +
                           options.from + ", and no --model to start from",
                       "add --model PATH");
  }
  const std::string path = newest_checkpoint ? checkpoints.PathOf(*newest_checkpoint) : options.model;
  const auto model = weights::ModelFiles::Open(path);
  const auto config = model::Config::FromJson(model->config());
  model::ProveKernels(config, kernels, pool, model::ProofDirectory());
  Share(*ranks, {{"config", model->config()}, {"checkpoint", newest_checkpoint.has_value()}});
  state = std::make_unique<State>(config, MakeAdapter(options.adapter, config), *ranks);
  const std::string sidecar_directory = JoinPath(options.from, "model-files");
  if (!replays()) SystemFiles().MakeDirectory(sidecar_directory);
  if (newest_checkpoint) {
    LoadCheckpoint();
    if (info.method != method.Text()) log::Info("the method is now " + method.Text() + "; until the checkpoint it was " + info.method);
    checkpoint_step = state->step;
    if (!replays()) sidecars = CopySidecars(checkpoints.Sidecars(*newest_checkpoint), sidecar_directory);
    origin = "checkpoint " + path;
  } else {
    LoadModel(model.get(), state.get(), options.seed, pool, *ranks);
    if (state->adapter().exists()) info.base = AdapterBase{AbsolutePath(path), DigestOf(*state)};  // B is zero: these are the base's weights
    if (!replays()) sidecars = CopySidecars(ModelSidecars(*model, sidecar_directory), sidecar_directory);
    info.tokenizer = TokenizerDigest(path);
    origin = "model " + path;
  }
  state->ShareRounded(*ranks);
  Share(*ranks, {{"step", state->step}, {"version", state->version}, {"optimizer_steps", state->optimizer_steps}});
  info.method = method.Text();
  std::shared_ptr<const model::Policy> reference;
  std::optional<std::string> reset_reference;
  if (method.UsesReference()) {
    if (newest_checkpoint) reset_reference = checkpoints.ReferenceModel(*newest_checkpoint);
    reference = LoadReferencePolicy(reset_reference);
  }
  trainer = std::make_unique<Trainer>(
      TrainerOptions{method, options.optimizer, options.micro_batch_tokens, options.activation_bytes, PeakOf(options, pool)}, kernels, pool,
      state.get(), std::move(reference), *ranks);
  if (reset_reference) trainer->reference().Keep(*weights::ModelFiles::Open(*reset_reference), *state);
}

/// `kept`: what a checkpoint holds in the initial one's place.
std::shared_ptr<const model::Policy> Session::Parts::LoadReferencePolicy(const std::optional<std::string>& kept) {
  if (!kept && options.model.empty()) throw Error::Usage("--kl needs the initial weights as its reference policy", "add --model PATH");
  const auto files = weights::ModelFiles::Open(kept.value_or(options.model));
  if (!kept) {
    const uint64_t seen = DigestOf(*files, *state);
    if (info.reference_weights.value_or(seen) != seen) {
      throw Error::Incompatible("the reference policy of " + origin + " has weights " + HexU64(*info.reference_weights) + ", and " + options.model +
                                    " has weights " + HexU64(seen),
                                "with --kl, --model must be the model that the run began with; to measure from another one, use another --from");
    }
    info.reference_weights = seen;
  }
  return LoadReference(files.get(), state->config(), kernels, pool, *ranks);
}

void Session::Parts::LoadCheckpoint() {
  auto base = checkpoints.CheckAdapter(*newest_checkpoint, state->adapter());
  if (base) {
    if (!options.model.empty()) base->path = AbsolutePath(options.model);
    const std::string name = "checkpoint " + checkpoints.PathOf(*newest_checkpoint);
    if (!SystemFiles().Exists(base->path)) {
      throw Error::Runtime(name + " holds an adapter's factors, and the model that they belong to is not at " + base->path,
                           "add --model PATH, where that model is now");
    }
    state->LoadBase(*weights::ModelFiles::Open(base->path));
    if (const uint64_t seen = DigestOf(*state); seen != base->weights) {
      throw Error::Incompatible(name + " holds factors for weights " + HexU64(base->weights) + ", and " + base->path + " has weights " + HexU64(seen),
                                "--model must be the model that the run began with");
    }
  }
  info = checkpoints.Read(*newest_checkpoint, state.get(), pool, *ranks);
  info.base = base;
}

/// With `supersede`, weights of the same number and later ones belong to a course that was left, and give way.
uint64_t Session::Parts::Publish(bool supersede) {
  weights::PublishOptions publishing;
  publishing.keep = options.keep_versions;
  publishing.supersede = supersede;
  return versions.Publish(state->version, state->RoundedViews(), sidecars, publishing).digest;
}

void Session::Parts::PublishStep(const Claim& claim) {
  constexpr const char* kHint =
      "a replay needs the same build, kernel set, number of ranks and options as the first run; to train these groups anew instead, abandon the "
      "claim first";
  const std::string name = "replaying claim " + claim.id + " of step " + std::to_string(claim.step);
  try {
    info.weights = Publish(/*supersede=*/!claim.replay);
  } catch (const Error& error) {
    if (!claim.replay || error.kind() != ErrorKind::kIncompatible) throw;
    throw Error::Data(name + " gave other weights than the first run: " + error.message(), kHint);
  }
  if (claim.trained_weights && *claim.trained_weights != info.weights) {
    throw Error::Data(name + " gave weights " + HexU64(info.weights) + " for version " + std::to_string(state->version) + ", and " +
                          HexU64(*claim.trained_weights) + " were recorded",
                      kHint);
  }
}

void Session::Parts::CheckOrder(const Claim& claim) const {
  if (claim.step == state->step) return;
  const std::string name = "claim " + claim.id + " is of step " + std::to_string(claim.step);
  if (claim.step < state->step) {
    throw Error::Data(name + ", and " + origin + " goes on with step " + std::to_string(state->step) + " without having trained that claim",
                      "the buffer and the checkpoints are of different courses: use the checkpoints that belong to the buffer");
  }
  throw Error::Data(name + ", and the weights are those before step " + std::to_string(state->step) + ": the claims between are missing",
                    "run `partial-buffer claim --checkpoints " + options.from + "`, or take the buffer back to a checkpoint that is there");
}

void Session::Parts::WriteCheckpoint(PhaseSeconds* seconds) {
  const int64_t begin = SystemClock().MonotonicNs();
  info.reference = trainer->reference().tensors();
  if (!info.reference.empty()) info.reference_weights.reset();  // the initial one is needed no more
  torn = ranks->size() > 1;
  GiveOrder(*ranks, Order::Kind::kCheckpoint);
  newest_checkpoint = checkpoints.Write(*state, info, sidecars, *ranks);
  torn = false;
  checkpoint_step = state->step;
  if (info.last_steps.size() > kRememberedSteps) info.last_steps.erase(info.last_steps.begin(), info.last_steps.end() - kRememberedSteps);
  seconds->checkpoint += static_cast<double>(SystemClock().MonotonicNs() - begin) * 1e-9;
}

Session::Session(const SessionOptions& options, int num_threads, std::shared_ptr<ranks::Ranks> ranks)
    : parts_(std::make_unique<Parts>(options, num_threads, std::move(ranks))) {
  parts_->Load();
  const uint64_t weights = parts_->replays() ? DigestOf(*parts_->state) : parts_->Publish(/*supersede=*/false);
  if (parts_->newest_checkpoint && weights != parts_->info.weights) {
    throw Error::Data(parts_->origin + " holds weights " + HexU64(weights) + ", and was published as " + HexU64(parts_->info.weights));
  }
  parts_->info.weights = weights;
  parts_->free_s = parts_->NowS();
}
Session::~Session() = default;

void Session::CheckHeader(const record::Header& header) {
  Parts& parts = *parts_;
  if (header.purpose != "train") throw Error::Incompatible("the stream's purpose is '" + header.purpose + "', expected 'train'");
  if (header.tokenizer && parts.info.tokenizer && *header.tokenizer != *parts.info.tokenizer) {
    throw Error::Incompatible(
        "the claims were made with tokenizer " + HexU64(*header.tokenizer) + ", the model's is " + HexU64(*parts.info.tokenizer),
        "train the model that the buffer was initialised with");
  }
  if (parts.newest_checkpoint && !parts.info.run.empty() && header.run != parts.info.run) {
    throw Error::Incompatible("the claims are of run '" + header.run + "', the checkpoints of run '" + parts.info.run + "'",
                              "use another --from for another run");
  }
  parts.info.run = header.run;
  parts.header = header;
}

/// The update itself, and what became of each rollout.
UpdateResult Session::Parts::Apply(const Claim& claim, StepReport* report) {
  const std::string name = "step " + std::to_string(claim.step);
  Batch batch;
  try {
    batch = MakeBatch(claim, method, {state->config().vocab, state->config().max_positions, state->version, info.weights, kernels.name});
  } catch (const Error& error) {
    throw error.Within("claim " + claim.id + " of " + name);
  }
  report->num_trained = batch.num_trained;
  report->num_skipped = batch.num_skipped;
  report->num_excluded = batch.num_excluded;
  for (const auto& [uid, outcome] : batch.outcomes) {
    constexpr std::string_view kExcluded = "excluded:";
    if (outcome.starts_with(kExcluded)) ++report->excluded[outcome.substr(kExcluded.size())];
  }
  doubtful = true;
  GiveOrder(*ranks, Order::Kind::kTrain, &claim, info.weights);
  UpdateResult result = trainer->Update(batch);
  if (result.failure) {
    const std::string what = name + " is not applied: " + *result.failure;
    if (replays()) throw Error::Runtime(what);
    const std::string path = JoinPath(options.from, "failed-claim-" + claim.id + ".stream");
    try {
      WriteClaim(claim, header, path);
    } catch (const Error& error) {  // the step's failure is the one to report
      throw Error::Runtime(what + "; the claim could not be written to " + path + ": " + error.message(),
                           "the weights on disk are those before this step, and the claim is still in the buffer");
    }
    throw Error::Runtime(what + "; the claim is in " + path, "the weights on disk are those before this step. `rollout-cat --json " + path +
                                                                 "` shows the claim; `partial-buffer abandon -s DIR " + claim.id +
                                                                 "` gives its groups back, so that the step can be claimed anew");
  }
  ++state->step;
  ++state->version;
  report->step = {claim.id, claim.step, state->version, 0, result.advanced, std::nullopt, batch.outcomes, {}, {}};
  return result;
}

std::optional<std::string> Session::Replay(const Claim& claim, StepReport* report) {
  Parts& parts = *parts_;
  parts.CheckOrder(claim);
  const UpdateResult result = parts.Apply(claim, report);
  auto compared = CompareWithRecords(claim, *parts.state, parts.versions, parts.checkpoints);
  report->step.weights = parts.info.weights = DigestOf(*parts.state);
  Tell(result, true, report);
  return compared;
}

StepReport Session::Train(const Claim& claim) {
  Parts& parts = *parts_;
  StepReport report;
  const auto remembered =
      std::find_if(parts.info.last_steps.begin(), parts.info.last_steps.end(), [&](const auto& step) { return step.claim == claim.id; });
  if (remembered != parts.info.last_steps.end()) {
    report.step = *remembered;
    if (!report.step.checkpoint && report.step.step < parts.checkpoint_step) report.step.checkpoint = parts.newest_checkpoint;
    report.repeated = true;
    return report;
  }
  parts.CheckOrder(claim);
  const double wait_s = parts.NowS() - parts.free_s;
  UpdateResult result = parts.Apply(claim, &report);
  result.metrics.seconds.wait = wait_s;
  const int64_t begin = SystemClock().MonotonicNs();
  auto publishing = std::async(std::launch::async, [&] { parts.PublishStep(claim); });
  parts.trainer->Prepare();  // beside it: publishing is one thread's work
  publishing.get();
  result.metrics.seconds.publish += static_cast<double>(SystemClock().MonotonicNs() - begin) * 1e-9;
  result.metrics.seconds.clock = parts.free_s = parts.NowS();
  parts.doubtful = false;
  report.step.weights = parts.info.weights;
  parts.info.last_steps.push_back(report.step);
  Tell(result, claim.replay, &report);
  return report;
}

bool Session::Settle(StepReport* report) {
  Parts& parts = *parts_;
  if (report->repeated || parts.state->step % parts.options.checkpoint_every != 0) return false;
  PhaseSeconds seconds;
  parts.WriteCheckpoint(&seconds);
  report->step.checkpoint = parts.newest_checkpoint;
  report->metrics["checkpoint_s"] = seconds.checkpoint;
  stream::Set(report->step.metrics, "checkpoint_s", seconds.checkpoint);
  parts.free_s = parts.NowS();
  return true;
}

std::optional<record::Step> Session::Finish() {
  Parts& parts = *parts_;
  if (parts.doubtful || parts.torn || parts.info.last_steps.empty() || parts.state->step == parts.checkpoint_step) return std::nullopt;
  record::Step last = parts.info.last_steps.back();
  PhaseSeconds seconds;
  parts.WriteCheckpoint(&seconds);
  last.checkpoint = parts.newest_checkpoint;
  return last;
}

void Session::Dismiss(bool stopped) {
  GiveOrder(*parts_->ranks, Order::Kind::kEnd, nullptr, 0, stopped);
  parts_->ranks->Finish();
}

int64_t Session::step() const { return parts_->state->step; }
const std::string& Session::origin() const { return parts_->origin; }

}  // namespace april::grpo
