#include "grpo/session.h"

#include <algorithm>
#include <filesystem>
#include <future>
#include <utility>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "grpo/checkpoint.h"
#include "grpo/memory_need.h"
#include "grpo/orders.h"
#include "grpo/recorded_step.h"
#include "grpo/sharding.h"
#include "grpo/sidecars.h"
#include "grpo/state_digest.h"
#include "grpo/trainer.h"
#include "kernels/kernels.h"
#include "kernels/peak.h"
#include "kernels/thread_pool.h"
#include "model/kernel_proof.h"
#include "weights/model_files.h"
#include "weights/version_store.h"

namespace april::grpo {
namespace {

constexpr size_t kRememberedSteps = 16;  // step records that a checkpoint repeats at least, in case their commits were lost

/// Operations a second.
double PeakOf(const SessionOptions& options, kernels::ThreadPool& pool) {
  return options.matrix_peak > 0 ? options.matrix_peak * 1e9 : kernels::MeasureMatrixPeak(pool);
}

std::string AbsolutePath(const std::string& path) { return std::filesystem::absolute(path).lexically_normal().string(); }

Method ChosenMethod(const SessionOptions& options) {
  const Method method = CheckedMethod(options);
  for (const std::string& doubt : Doubts(options.method)) log::Warn(doubt);
  return method;
}

}  // namespace

struct Session::Parts {
  Parts(const SessionOptions& session_options, int num_threads, std::shared_ptr<ranks::Ranks> all_ranks)
      : options(session_options),
        method(ChosenMethod(options)),
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
  std::string ReplayHint() const;
  void CheckOrder(const Claim& claim) const;
  std::string GapHint() const;
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
  MakeDirectoryDurably(SystemFiles(), options.from);                         // a checkpoint in it is told to the buffer as one that lasts
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
  Adapter adapter = MakeAdapter(options.adapter, config);
  RequireMemoryToTrain(config, adapter, method, kernels, *ranks);
  state = std::make_unique<State>(config, std::move(adapter), *ranks);
  const std::string sidecar_directory = JoinPath(options.from, "model-files");
  if (!replays()) SystemFiles().MakeDirectory(sidecar_directory);
  if (newest_checkpoint) {
    LoadCheckpoint();
    if (info.method != method.Text()) log::Info("the method is now " + method.Text() + "; until the checkpoint it was " + info.method);
    if (!info.optimizer.empty() && info.optimizer != Text(options.optimizer))
      log::Info("the optimiser is now " + Text(options.optimizer) + "; until the checkpoint it was " + info.optimizer);
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
  state->ShareBase(*ranks);
  state->RoundAndShare(*ranks, pool, /*is_rounded=*/true);
  Share(*ranks, {{"step", state->step}, {"version", state->version}, {"optimizer_steps", state->optimizer_steps}});
  info.method = method.Text();
  info.optimizer = Text(options.optimizer);
  std::optional<std::string> reset_reference;
  if (newest_checkpoint) reset_reference = checkpoints.ReferenceModel(*newest_checkpoint);
  std::shared_ptr<const model::Policy> reference;
  if (method.UsesReference()) reference = LoadReferencePolicy(reset_reference);
  trainer = std::make_unique<Trainer>(
      TrainerOptions{method, options.optimizer, options.micro_batch_tokens, options.activation_bytes, PeakOf(options, pool)}, kernels, pool,
      state.get(), std::move(reference), *ranks);
  // Also without --kl: a later session may have it again, and nothing else holds these weights.
  if (reset_reference) trainer->reference().Keep(*weights::ModelFiles::Open(*reset_reference), *state);
}

/// `kept`: what a checkpoint holds in the initial one's place.
std::shared_ptr<const model::Policy> Session::Parts::LoadReferencePolicy(const std::optional<std::string>& kept) {
  if (!kept && options.model.empty()) throw Error::Usage("--kl needs the initial weights as its reference policy", "add --model PATH");
  const auto files = weights::ModelFiles::Open(kept.value_or(options.model));
  if (!kept) {
    const uint64_t seen = DigestOf(*files, *state);
    if (info.reference_weights.value_or(seen) != seen) {
      throw Error::Incompatible(
          "the reference policy of " + origin + " has weights " + HexU64(*info.reference_weights) + ", and " + options.model + " has weights " +
              HexU64(seen),
          "with --kl, --model must be the model that the run began with; to measure from another one, begin a new run (another buffer, "
          "--from and --publish)");
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
  const std::string name = "replaying claim " + claim.id + " of step " + std::to_string(claim.step);
  try {
    info.weights = Publish(/*supersede=*/!claim.replay);
  } catch (const Error& error) {
    if (!claim.replay || error.kind() != ErrorKind::kIncompatible) throw;
    throw Error::Data(name + " gave other weights than the first run: " + error.message(), ReplayHint());
  }
  if (claim.trained_weights && *claim.trained_weights != info.weights) {
    throw Error::Data(name + " gave weights " + HexU64(info.weights) + " for version " + std::to_string(state->version) + ", and " +
                          HexU64(*claim.trained_weights) + " were recorded",
                      ReplayHint());
  }
}

std::string Session::Parts::ReplayHint() const {
  const std::string hint =
      "a replay needs the build, kernel set, number of ranks and options of the first run: go on with these until the next checkpoint, then change "
      "them";
  if (!newest_checkpoint) return hint;
  return hint + "; or undo these steps with `partial-buffer rewind -s DIR --to " + checkpoints.PathOf(*newest_checkpoint) + "`";
}

void Session::Parts::CheckOrder(const Claim& claim) const {
  if (claim.step == state->step) return;
  const std::string name = "claim " + claim.id + " is of step " + std::to_string(claim.step);
  if (claim.step < state->step) {
    throw Error::Data(name + ", and " + origin + " goes on with step " + std::to_string(state->step) + " without having trained that claim",
                      "the buffer and the checkpoints are of different courses: use the checkpoints that belong to the buffer");
  }
  throw Error::Data(name + ", and the weights are those before step " + std::to_string(state->step) + ": the claims between are missing", GapHint());
}

std::string Session::Parts::GapHint() const {
  if (!checkpoints.has_set_aside()) {
    return "run `partial-buffer claim --checkpoints " + options.from + "`, or take the buffer back to a checkpoint that is there";
  }
  return "run the same commands again: the damaged checkpoint is set aside now, and partial-buffer claim gives " +
         (newest_checkpoint ? "the steps after " + *newest_checkpoint : "all steps") + " again";
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
  if (!header.tokenizer && parts.info.tokenizer)
    log::WarnOnce("grpo.tokenizer", "the claims do not tell the digest of their tokenizer: whether it is the model's is not checked");
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
  report->CountOutcomes(claim, batch);
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
  report->step.weights = parts.info.weights = DigestOf(*parts.state);
  auto compared = CompareWithRecords(claim, *parts.state, parts.info.weights, result.optimizer_digest, parts.versions, parts.checkpoints);
  report->SetMetrics(result, /*replay=*/true);
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
  report.SetMetrics(result, claim.replay);
  if (result.advanced && result.metrics.lr == 0 && parts.options.optimizer.lr > 0) {
    log::WarnOnce("learning rate 0",
                  "step " + std::to_string(claim.step) + ": the learning rate is 0, and the weights stay as they are: --lr-schedule " +
                      parts.options.optimizer.lr_schedule + " was at its end after " + std::to_string(parts.options.optimizer.total_steps) +
                      " optimiser steps (give more --total-steps, or a --lr-floor)");
  }
  parts.info.last_steps.push_back(report.step);  // with its metrics: Finish gives it again
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
  stream::Set(last.metrics, "checkpoint_s", seconds.checkpoint);
  return last;
}

void Session::Dismiss(bool stopped) {
  GiveOrder(*parts_->ranks, Order::Kind::kEnd, nullptr, 0, stopped);
  parts_->ranks->Finish();
}

int64_t Session::step() const { return parts_->state->step; }
const std::string& Session::origin() const { return parts_->origin; }

}  // namespace april::grpo
