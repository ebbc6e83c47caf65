// A trainer's life on a tiny model: learning, exactness, resuming, and what stops it.
#include "grpo/session.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "base/bytes.h"
#include "base/error.h"
#include "fixtures.h"
#include "kernels/kernels.h"
#include "model/training.h"
#include "weights/manifest.h"
#include "weights/safetensors.h"

using namespace april;
using namespace april::grpo;

namespace {

struct SessionRig {
  SessionRig() { WriteTinyModel(scratch / "model"); }
  SessionOptions Options(const std::string& name = "run") const {
    SessionOptions options;
    options.from = scratch / (name + "/checkpoints");
    options.publish = scratch / (name + "/weights");
    options.model = scratch / "model";
    options.checkpoint_every = 2;
    options.optimizer.lr = 1e-2;
    options.precision = "f32";
    return options;
  }
  /// The published weights' bytes.
  std::string Weights(const std::string& name, int64_t version) const {
    return ReadFile(SystemFiles(), Version(name, version) + "/model.safetensors");
  }
  uint64_t Digest(const std::string& name, int64_t version) const {
    const std::string directory = Version(name, version);
    return weights::ParseManifest(ReadFile(SystemFiles(), directory + "/manifest.json"), directory).digest;
  }
  std::string Version(const std::string& name, int64_t version) const {
    char directory[32];
    std::snprintf(directory, sizeof directory, "/weights/v%08lld", static_cast<long long>(version));
    return scratch / (name + directory);
  }
  ScratchDirectory scratch;
};

/// Trains claims of steps [session.step(), end); returns the reports.
std::vector<StepReport> TrainUntil(Session& session, int64_t end) {
  session.CheckHeader(TestHeader());
  std::vector<StepReport> reports;
  for (int64_t step = session.step(); step < end; ++step) {
    reports.push_back(session.Train(MakeMixedClaim(step)));
    CHECK(!reports.back().step.checkpoint);
    const bool named = session.Settle(&reports.back());
    CHECK(named == reports.back().step.checkpoint.has_value());
    const double seconds = stream::Find(reports.back().step.metrics, "checkpoint_s")->AsDouble();
    CHECK((seconds > 0) == named);
    CHECK(reports.back().metrics["checkpoint_s"] == seconds);
  }
  return reports;
}

/// Log-probabilities of each rollout's response under the published weights, by the network itself.
void RecordLogprobs(const std::string& model, Claim* claim, const std::string& kernel_name) {
  const uint64_t digest = weights::ParseManifest(ReadFile(SystemFiles(), JoinPath(model, "manifest.json")), model).digest;
  const auto files = weights::ModelFiles::Open(model);
  const auto config = model::Config::FromJson(files->config());
  const kernels::Kernels& kernels = kernels::ChooseKernels("auto", kernels::Precision::kF32);
  kernels::ThreadPool pool(1);
  const auto policy = model::Policy::Load(*files, kernels, pool);
  model::TrainingPass pass(config, kernels, pool);
  for (ClaimGroup& group : claim->groups) {
    for (record::Rollout& rollout : group.rollouts) {
      const model::TrainingGroup input{rollout.prompt_tokens, {rollout.tokens}};
      pass.Forward(*policy, {&input, 1}, 1.0, rollout.logprobs, {}, false);
      rollout.weight_versions[0].weights = digest;
      rollout.segments[0].engine = "local";
      rollout.segments[0].kernels = kernel_name.empty() ? kernels.name : kernel_name;
    }
  }
}

}  // namespace

TEST_CASE("a session starts from a model, publishes version 0, then one version a claim") {
  SessionRig rig;
  Session session(rig.Options(), 1);
  CHECK(session.step() == 0);
  CHECK(!rig.Weights("run", 0).empty());
  const auto reports = TrainUntil(session, 3);
  CHECK(reports[0].step.version == 1);
  CHECK(reports[0].step.advanced);
  CHECK(!reports[0].step.checkpoint);
  CHECK(reports[1].step.checkpoint == "step-00000002");
  CHECK(reports[2].num_trained == 6);
  CHECK(reports[2].num_skipped == 3);
  CHECK(reports[2].step.outcomes.size() == 9);
  CHECK(rig.Weights("run", 3) != rig.Weights("run", 2));
  const auto last = session.Finish();
  REQUIRE(last);
  CHECK(last->checkpoint == "step-00000003");
  CHECK(last->claim == "claim2");
  REQUIRE(stream::Find(last->metrics, "loss") != nullptr);  // the record that is given again is whole
  CHECK(reports[2].metrics["loss"] == stream::Find(last->metrics, "loss")->AsDouble());
  CHECK(stream::Find(last->metrics, "checkpoint_s")->AsDouble() > 0);
  for (const Json& step : Json::parse(ReadFile(SystemFiles(), rig.scratch / "run/checkpoints/step-00000003/steps.json"))) {
    CHECK(!step.contains("metrics"));
    const auto& report = reports.at(step.at("step").get<size_t>());
    CHECK(step.at("optimizer_digest") == report.metrics["optimizer_digest"]);
    CHECK(step.at("optimizer_digest") == HexU64(stream::Find(report.step.metrics, "optimizer_digest")->AsUint()));
  }
  CHECK(!session.Finish());
}

TEST_CASE("a divergence with a coefficient of 0 is measured, and leaves the weights of none, bit for bit") {
  SessionRig rig;
  SessionOptions measured = rig.Options("measured");
  measured.method.kl = "k3";
  Session with(measured, 1), without(rig.Options("without"), 1);
  const auto reports = TrainUntil(with, 3);
  TrainUntil(without, 3);
  CHECK(reports[2].metrics["kl_reference_nats"].get<double>() > 0);
  CHECK(reports[2].num_skipped == 3);
  CHECK(rig.Weights("measured", 3) == rig.Weights("without", 3));
}

TEST_CASE("a checkpoint tells the optimiser's numbers, and behind a schedule's end nothing moves") {
  SessionRig rig;
  SessionOptions options = rig.Options();
  options.optimizer.lr_schedule = "cosine";
  options.optimizer.total_steps = 2;
  options.optimizer.warmup_steps = 1;
  Session session(options, 1);
  TrainUntil(session, 3);
  CHECK(rig.Weights("run", 3) == rig.Weights("run", 2));
  CHECK(rig.Weights("run", 2) != rig.Weights("run", 1));
  const Json manifest = Json::parse(ReadFile(SystemFiles(), rig.scratch / "run/checkpoints/step-00000002/manifest.json"));
  CHECK(manifest["optimizer"] == "lr=0.01 schedule=cosine total-steps=2 floor=0 warmup-steps=1 betas=0.9,0.999 epsilon=1e-08 max-grad-norm=1");
}

TEST_CASE("micro-batch size and threads never change a bit", "[heavy]") {
  for (const kernels::Kernels* kernels : kernels::AvailableKernels()) {
    SessionRig rig;
    std::vector<std::string> weights;
    for (const int64_t budget : {1, 40, 100000}) {
      for (const int threads : {1, 2}) {
        const std::string name = "run-" + std::to_string(budget) + "-" + std::to_string(threads);
        SessionOptions options = rig.Options(name);
        options.kernels = kernels->name;
        options.precision = "auto";
        options.micro_batch_tokens = budget;
        options.activation_bytes = budget == 1 ? 0 : options.activation_bytes;
        Session session(options, threads);
        TrainUntil(session, 2);
        weights.push_back(rig.Weights(name, 2));
      }
    }
    INFO(kernels->name);
    for (const std::string& bytes : weights) CHECK(bytes == weights[0]);
    CHECK(weights[0] != rig.Weights("run-1-1", 0));
  }
}

TEST_CASE("groups without a gradient, skipped or trained, leave the same weights and moments, bit for bit") {
  for (const kernels::Kernels* kernels : kernels::AvailableKernels()) {
    SessionRig rig;
    for (const char* choice : {"skip", "train"}) {
      SessionOptions options = rig.Options(choice);
      options.kernels = kernels->name;
      options.precision = "auto";
      options.method.zero_advantage = choice;
      options.method.mask_truncated = true;
      options.micro_batch_tokens = 40;
      Session session(options, 1);
      session.CheckHeader(TestHeader());
      for (int64_t step = 0; step < 2; ++step) {
        Claim claim = MakeMixedClaim(step);
        if (step == 1) {
          for (auto& rollout : claim.groups[2].rollouts) rollout.finish = record::Finish::kLength;
        }
        StepReport report = session.Train(claim);
        CHECK(report.num_skipped == (choice[0] == 't' ? 0 : step == 0 ? 3 : 6));
        session.Settle(&report);
      }
    }
    INFO(kernels->name);
    CHECK(rig.Weights("skip", 2) == rig.Weights("train", 2));
    const auto optimizer = [&](const std::string& name) {
      return ReadFile(SystemFiles(), rig.scratch / (name + "/checkpoints/step-00000002/optimizer.safetensors"));
    };
    CHECK(optimizer("skip") == optimizer("train"));
  }
}

TEST_CASE("identity settings: what is off changes no bit") {
  SessionRig rig;
  const auto weights = [&](const std::string& name, const std::function<void(MethodOptions*)>& change, bool on_policy = false) {
    SessionOptions options = rig.Options(name);
    change(&options.method);
    Session session(options, 1);
    session.CheckHeader(TestHeader());
    for (int64_t step = 0; step < 3; ++step) {
      Claim claim = MakeMixedClaim(step);
      if (on_policy) {
        const uint64_t digest = rig.Digest(name, step);
        for (auto& group : claim.groups) {
          for (auto& rollout : group.rollouts)
            rollout.weight_versions[0] = {static_cast<uint64_t>(step), digest, 0, rollout.weight_versions[0].end, {}};
        }
      }
      session.Train(claim);
    }
    return rig.Weights(name, 3);
  };
  const std::string plain = weights("plain", [](MethodOptions*) {});
  CHECK(plain == weights("spread", [](MethodOptions* o) { o->adv_std = "unbiased"; }));
  CHECK(weights("undivided", [](MethodOptions* o) { o->adv_std = "none"; }) == weights("drgrpo", [](MethodOptions* o) { o->advantage = "drgrpo"; }));
  CHECK(plain == weights("dual", [](MethodOptions* o) { o->loss = "dual"; }));               // ratio 1: no loss clips
  CHECK(plain == weights("cispo", [](MethodOptions* o) { o->loss = "cispo"; }));             // and all have the same gradient
  CHECK(plain == weights("truncated", [](MethodOptions* o) { o->mask_truncated = true; }));  // no response is
  CHECK(plain == weights("zero", [](MethodOptions* o) { o->zero_advantage = "train"; }));
  CHECK(plain != weights("mask", [](MethodOptions* o) { o->token_filter = "off-policy-mask"; }));
  CHECK(weights(
            "fresh", [](MethodOptions*) {}, true) ==
        weights(
            "fresh-mask", [](MethodOptions* o) { o->token_filter = "off-policy-mask"; }, true));
  CHECK(weights("gspo", [](MethodOptions* o) { o->loss = "gspo", o->is_correction = "none"; }) ==
        weights("none", [](MethodOptions* o) { o->is_correction = "none"; }));
}

TEST_CASE("killed and resumed, the weights are those of the uninterrupted run, bit for bit") {
  SessionRig rig;
  SessionOptions whole = rig.Options("whole"), cut = rig.Options("cut");
  for (SessionOptions* options : {&whole, &cut}) {
    options->method.kl = "k3", options->method.kl_coef = 0.01, options->method.optimizer_steps = 2;
    options->optimizer.warmup_steps = 12, options->optimizer.max_grad_norm = 0.01, options->optimizer.weight_decay = 0.1;
  }
  {
    Session session(whole, 1);
    TrainUntil(session, 5);
  }
  {
    Session session(cut, 1);
    TrainUntil(session, 3);  // dies here: the newest checkpoint is of step 2
  }
  Session session(cut, 2);
  CHECK(session.step() == 2);
  session.CheckHeader(TestHeader());
  session.Train(MakeMixedClaim(2, /*replay=*/true));
  TrainUntil(session, 5);
  for (int64_t version = 3; version <= 5; ++version) CHECK(rig.Weights("cut", version) == rig.Weights("whole", version));
}

TEST_CASE("the reference becomes the policy of the step that --ref-reset names, and stays it through checkpoints and resumes") {
  for (const kernels::Kernels* kernels : kernels::AvailableKernels()) {
    SessionRig rig;
    const auto options = [&](const std::string& name, const std::string& reset) {
      SessionOptions result = rig.Options(name);
      result.kernels = kernels->name;
      result.precision = "auto";
      result.method.kl = "k3";
      result.method.kl_coef = 0.5;
      result.method.ref_reset = reset;
      result.checkpoint_every = 1;
      result.keep = 1;
      return result;
    };
    const auto divergences = [](const std::vector<StepReport>& reports) {
      std::vector<bool> apart;
      for (size_t step = 0; step < reports.size(); ++step) apart.push_back(reports[step].metrics["kl_reference_nats"].get<double>() != 0);
      return apart;
    };
    INFO(kernels->name);
    {
      Session session(options("whole", "every:2"), 1);
      CHECK(divergences(TrainUntil(session, 6)) == std::vector<bool>{false, true, false, true, false, true});
    }
    for (int64_t end = 1; end <= 6; ++end) {  // stopped and resumed before every step; --model is needed no more behind a reset
      SessionOptions cut = options("cut", "every:2");
      if (end > 3) cut.model.clear();
      Session session(cut, 1);
      TrainUntil(session, end);
    }
    CHECK(rig.Weights("cut", 6) == rig.Weights("whole", 6));
    Session once(options("once", "@3"), 1), never(options("never", "never"), 1);
    CHECK(divergences(TrainUntil(once, 6)) == std::vector<bool>{false, true, true, false, true, true});
    CHECK(divergences(TrainUntil(never, 6)) == std::vector<bool>{false, true, true, true, true, true});
    CHECK(rig.Weights("once", 3) == rig.Weights("never", 3));
    CHECK(rig.Weights("once", 6) != rig.Weights("never", 6));
  }
}

TEST_CASE("a claim that the checkpoint contains is answered with its record and trains nothing") {
  SessionRig rig;
  std::vector<StepReport> reports;
  {
    Session session(rig.Options(), 1);
    reports = TrainUntil(session, 2);
  }
  Session session(rig.Options(), 1);
  session.CheckHeader(TestHeader());
  const StepReport again = session.Train(MakeMixedClaim(1, /*replay=*/true));
  CHECK(again.repeated);
  CHECK(again.step.claim == reports[1].step.claim);
  CHECK(again.step.weights == reports[1].step.weights);
  CHECK(again.step.outcomes == reports[1].step.outcomes);
  CHECK(again.step.checkpoint == "step-00000002");
  CHECK(session.step() == 2);
}

TEST_CASE("a claim out of order is refused") {
  SessionRig rig;
  Session session(rig.Options(), 1);
  TrainUntil(session, 1);
  CHECK_THROWS_WITH(session.Train(MakeMixedClaim(2)), Catch::Contains("claims between are missing"));
  Claim other = MakeMixedClaim(0);
  other.id = "another";
  CHECK_THROWS_WITH(session.Train(other), Catch::Contains("without having trained that claim"));
}

TEST_CASE("a damaged newest checkpoint is set aside, and whoever gave claims that follow it is told to give others") {
  SessionRig rig;
  const SessionOptions options = rig.Options();
  {
    Session session(options, 1);
    TrainUntil(session, 4);
  }
  const std::string damaged = options.from + "/step-00000004/steps.json";
  std::filesystem::resize_file(damaged, std::filesystem::file_size(damaged) - 1);
  const auto hint = [&] {
    Session session(options, 1);
    session.CheckHeader(TestHeader());
    CHECK(session.step() == 2);
    return HintOf([&] { session.Train(MakeMixedClaim(4)); });
  };
  CHECK_THAT(hint(), Catch::Contains("run the same commands again") && Catch::Contains("the steps after step-00000002"));
  CHECK_THAT(hint(), Catch::StartsWith("run `partial-buffer claim --checkpoints"));  // that one was told before
}

TEST_CASE("a replay that gives other weights than recorded is an error, and is not saved") {
  SessionRig rig;
  SessionOptions options = rig.Options();
  {
    Session session(options, 1);
    TrainUntil(session, 3);
  }
  options.optimizer.lr = 2e-2;
  Session session(options, 1);
  session.CheckHeader(TestHeader());
  const std::string before = rig.Weights("run", 3);
  SECTION("the published version is still there") {
    CHECK_THROWS_WITH(session.Train(MakeMixedClaim(2, /*replay=*/true)), Catch::Contains("gave other weights than the first run"));
    CHECK(rig.Weights("run", 3) == before);
  }
  SECTION("the hint is a way that is open") {
    const std::string hint = HintOf([&] { session.Train(MakeMixedClaim(2, /*replay=*/true)); });
    CHECK_THAT(hint, Catch::Contains("until the next checkpoint") && Catch::EndsWith("--to " + options.from + "/step-00000002`"));
  }
  SECTION("the digest is in the claim") {
    std::filesystem::remove_all(rig.scratch / "run/weights/v00000003");
    Claim claim = MakeMixedClaim(2, /*replay=*/true);
    claim.trained_weights = 1;
    CHECK_THROWS_WITH(session.Train(claim), Catch::Contains("were recorded"));
  }
  CHECK(!session.Finish());
}

TEST_CASE("a new course over an old one replaces the versions that it left") {
  SessionRig rig;
  SessionOptions options = rig.Options();
  {
    Session session(options, 1);
    TrainUntil(session, 3);
  }
  options.optimizer.lr = 2e-2;
  Session session(options, 1);
  const std::string before = rig.Weights("run", 3);
  TrainUntil(session, 3);  // not a replay
  CHECK(rig.Weights("run", 3) != before);
}

TEST_CASE("a claim without any gradient moves nothing but the version") {
  SessionRig rig;
  Session session(rig.Options(), 1);
  session.CheckHeader(TestHeader());
  Claim claim = MakeMixedClaim(0);
  for (ClaimGroup& group : claim.groups) {
    for (auto& rollout : group.rollouts) rollout.reward->value = 0.25;
  }
  const StepReport report = session.Train(claim);
  CHECK(!report.step.advanced);
  CHECK(report.step.version == 1);
  CHECK(report.num_skipped == 9);
  CHECK(rig.Weights("run", 1) == rig.Weights("run", 0));
  // Neither the schedule nor AdamW's step count moved: the next claim is trained as if it were the first.
  Session other(rig.Options("other"), 1);
  other.CheckHeader(TestHeader());
  Claim first = MakeMixedClaim(1);
  for (ClaimGroup& group : first.groups) {
    for (auto& rollout : group.rollouts) rollout.weight_versions[0].version = 0;
  }
  session.Train(first);
  first.step = 0;
  other.Train(first);
  CHECK(rig.Weights("run", 2) == rig.Weights("other", 1));
}

TEST_CASE("a loss that is not a number applies nothing, and saves the claim") {
  SessionRig rig;
  const std::string model = WriteTinyModel(rig.scratch / "nan-model", [](const std::string& name, std::vector<float>* values) {
    if (name == "model.norm.weight") (*values)[3] = std::nanf("");
  });
  SessionOptions options = rig.Options();
  options.model = model;
  Session session(options, 1);
  session.CheckHeader(TestHeader());
  SECTION("and when that cannot be done, says so behind what happened") {
    SystemFiles().MakeDirectory(options.from + "/failed-claim-claim0.stream");
    CHECK_THROWS_WITH(session.Train(MakeMixedClaim(0)), Catch::Contains("not a finite number; the claim could not be written to"));
    return;
  }
  CHECK_THROWS_WITH(session.Train(MakeMixedClaim(0)), Catch::Contains("step 0 is not applied") && Catch::Contains("not a finite number"));
  CHECK(!session.Finish());
  ClaimReader reader(options.from + "/failed-claim-claim0.stream", {});
  const auto saved = reader.Next();
  REQUIRE(saved);
  CHECK(saved->NumRollouts() == 9);
}

TEST_CASE("a gradient that is not a number applies nothing either, and steps that no checkpoint has yet are trained again") {
  SessionRig rig;
  const int64_t optimizer_steps = GENERATE(1, 2);  // with two, it is the second that fails, when the first has moved the weights
  SessionOptions options = rig.Options(), whole = rig.Options("whole");
  for (SessionOptions* each : {&options, &whole}) each->method.old = "behaviour", each->method.optimizer_steps = optimizer_steps;
  {
    Session session(options, 1);
    session.CheckHeader(TestHeader());
    session.Train(MakeMixedClaim(0));
    Claim spoilt = MakeMixedClaim(1);
    record::Rollout& worse = spoilt.groups[2].rollouts[0];  // its ratio is a number in f64, and none in f32
    std::fill(worse.logprobs.begin(), worse.logprobs.end(), -100.0f);
    CHECK_THROWS_WITH(session.Train(spoilt), Catch::Contains("step 1 is not applied: the gradient's norm is not a finite number"));
    CHECK(!session.Finish());
    CHECK(SystemFiles().Exists(options.from + "/failed-claim-claim1.stream"));
  }
  Session again(options, 1), undisturbed(whole, 1);
  CHECK(again.step() == 0);
  TrainUntil(again, 2);
  TrainUntil(undisturbed, 2);
  CHECK(rig.Weights("run", 2) == rig.Weights("whole", 2));
}

TEST_CASE("on policy, recorded and recomputed log-probabilities are equal and the correction changes no bit") {
  SessionRig rig;
  Claim claim = MakeMixedClaim(0);
  {
    Session session(rig.Options("start"), 1);  // publishes the rounded weights that a generator would use
  }
  RecordLogprobs(rig.scratch / "start/weights/v00000000", &claim, "");
  SessionOptions with = rig.Options("with"), without = rig.Options("without");
  without.method.is_correction = "none";
  Session a(with, 1), b(without, 1);
  a.CheckHeader(TestHeader());
  b.CheckHeader(TestHeader());
  const StepReport report = a.Train(claim);
  b.Train(claim);
  CHECK(report.metrics["on_policy_tokens"] == report.metrics["trained_tokens"]);
  CHECK(report.metrics["on_policy_differing_tokens"] == 0);
  CHECK(report.metrics["on_policy_largest_difference_nats"] == 0.0);
  CHECK(report.metrics["correction_weight_mean"] == 1.0);
  CHECK(report.metrics["kl_behaviour_k1_nats"] == 0.0);
  CHECK(rig.Weights("with", 1) == rig.Weights("without", 1));
}

TEST_CASE("on policy, later optimiser steps of a claim are compared by the policy at its start") {
  SessionRig rig;
  Claim claim = MakeMixedClaim(0);
  { Session session(rig.Options("start"), 1); }
  RecordLogprobs(rig.scratch / "start/weights/v00000000", &claim, "");
  for (const std::string old : {"current", "behaviour"}) {
    SessionOptions options = rig.Options(old);
    options.method.old = old;
    options.method.optimizer_steps = 2;
    Session session(options, 1);
    session.CheckHeader(TestHeader());
    const StepReport report = session.Train(claim);
    CHECK(report.metrics["on_policy_tokens"] > 0);
    CHECK(report.metrics["on_policy_differing_tokens"] == 0);
    CHECK(report.metrics["behaviour_ratio_max"] > 1.0);  // the policy did move
  }
}

TEST_CASE("the policy learns which of two answers is rewarded") {
  SessionRig rig;
  Session session(rig.Options(), 1);
  session.CheckHeader(TestHeader());
  double first = 0, last = 0;
  for (int64_t step = 0; step < 12; ++step) {
    Claim claim = MakeClaim(step, {{MakeRollout(3, 0, 1, 1), MakeRollout(3, 1, 1, 0)}});
    claim.groups[0].rollouts[0].tokens = {10};
    claim.groups[0].rollouts[1].tokens = {20};
    char version[32];
    std::snprintf(version, sizeof version, "run/weights/v%08lld", static_cast<long long>(step));
    RecordLogprobs(rig.scratch / version, &claim, "");
    const double odds = static_cast<double>(claim.groups[0].rollouts[0].logprobs[0]) - static_cast<double>(claim.groups[0].rollouts[1].logprobs[0]);
    (step == 0 ? first : last) = odds;
    session.Train(claim);
  }
  CHECK(last > first + 3);
}

TEST_CASE("with several optimiser steps a claim, the clip holds where the policy has moved") {
  SessionRig rig;
  SessionOptions options = rig.Options();
  options.method.optimizer_steps = 2;
  options.optimizer.lr = 5e-2;
  options.method.clip_low = options.method.clip_high = "0.001";
  Session session(options, 1);
  session.CheckHeader(TestHeader());
  const StepReport report = session.Train(MakeMixedClaim(0));
  CHECK(report.metrics["clip_low_share"].get<double>() + report.metrics["clip_high_share"].get<double>() > 0);
}

TEST_CASE("with several optimiser steps and a policy that stands still, every ratio is 1") {
  SessionRig rig;
  SessionOptions options = rig.Options();
  options.method.optimizer_steps = 2;
  options.optimizer.lr = 0;
  options.method.clip_low = options.method.clip_high = "0";
  options.method.is_correction = "none";
  Session session(options, 1);
  session.CheckHeader(TestHeader());
  const StepReport report = session.Train(MakeMixedClaim(0));
  CHECK(report.metrics["clip_low_share"] == 0.0);
  CHECK(report.metrics["clip_high_share"] == 0.0);
}

TEST_CASE("a claim whose every token is clipped moves nothing but the version") {
  SessionRig rig;
  SessionOptions options = rig.Options();
  options.method.old = "behaviour";
  options.optimizer.weight_decay = 0.1;
  Session session(options, 1);
  session.CheckHeader(TestHeader());
  Claim claim = MakeMixedClaim(0);
  for (ClaimGroup& group : claim.groups) {
    for (auto& rollout : group.rollouts) {  // the ratio is far above 1 where the advantage is positive, far below where it is negative
      for (float& logprob : rollout.logprobs) logprob = rollout.reward->value > 0 ? -50.0f : -1e-3f;
    }
  }
  const StepReport report = session.Train(claim);
  CHECK(report.metrics["clip_low_share"].get<double>() + report.metrics["clip_high_share"].get<double>() == 1.0);
  CHECK(!report.step.advanced);
  CHECK(rig.Weights("run", 1) == rig.Weights("run", 0));
}

TEST_CASE("a session without checkpoint and model, or with another tokenizer or purpose, is refused") {
  SessionRig rig;
  SessionOptions options = rig.Options();
  options.model.clear();
  CHECK_THROWS_WITH(Session(options, 1), Catch::Contains("no --model"));
  Session session(rig.Options(), 1);
  record::Header header = TestHeader();
  header.purpose = "eval";
  CHECK_THROWS_AS(session.CheckHeader(header), Error);
}

TEST_CASE("the reference of --kl stays the model that it was, through resumes") {
  SessionRig rig;
  SessionOptions options = rig.Options();
  options.method.kl = "k3", options.method.kl_coef = 0.5;
  {
    Session session(options, 1);
    TrainUntil(session, 2);
  }
  options.model = WriteTinyModel(rig.scratch / "other", [](const std::string&, std::vector<float>* values) { (*values)[0] += 0.5f; });
  const std::string manifest = options.from + "/step-00000002/manifest.json";
  SECTION("another is refused") {
    CHECK_THROWS_WITH(Session(options, 1),
                      Catch::Contains("the reference policy of checkpoint ") && Catch::Contains(options.model + " has weights "));
    options.method = {};  // without --kl it does not matter
    Session session(options, 1);
    TrainUntil(session, 4);
    CHECK(Json::parse(ReadFile(SystemFiles(), options.from + "/step-00000004/manifest.json")).contains("reference_weights"));
  }
  SECTION("the same is accepted from elsewhere") {
    std::filesystem::copy(rig.scratch / "model", rig.scratch / "moved");
    options.model = rig.scratch / "moved";
    CHECK(Session(options, 1).step() == 2);
  }
  SECTION("a checkpoint that does not tell accepts any") {
    Json json = Json::parse(ReadFile(SystemFiles(), manifest));
    CHECK(json.erase("reference_weights") == 1);
    ReplaceFile(SystemFiles(), manifest, json.dump(), false);
    Session session(options, 1);
    TrainUntil(session, 4);
    CHECK(Json::parse(ReadFile(SystemFiles(), options.from + "/step-00000004/manifest.json")).contains("reference_weights"));
  }
  SECTION("behind a reset it is in the checkpoints, also in those of a session without --kl") {
    options.model = rig.scratch / "model";
    options.method.ref_reset = "@3";
    const auto reference = [&](const std::string& checkpoint) {
      return ReadFile(SystemFiles(), options.from + "/" + checkpoint + "/reference/model.safetensors");
    };
    {
      Session session(options, 1);
      TrainUntil(session, 4);
    }
    CHECK(!Json::parse(ReadFile(SystemFiles(), options.from + "/step-00000004/manifest.json")).contains("reference_weights"));
    SessionOptions plain = options;
    plain.method = {};
    {
      Session session(plain, 1);
      CHECK(!TrainUntil(session, 6).back().metrics.contains("kl_reference_nats"));
    }
    CHECK(reference("step-00000006") == reference("step-00000004"));
    options.model.clear();  // and so --kl goes on from it
    Session session(options, 1);
    TrainUntil(session, 8);
    CHECK(reference("step-00000008") == reference("step-00000006"));
  }
}

TEST_CASE("one trainer at a time writes into a directory of checkpoints") {
  SessionRig rig;
  SessionOptions options = rig.Options(), second = rig.Options("second");
  second.from = options.from;
  {
    Session session(options, 1);
    CHECK_THROWS_WITH(Session(second, 1), "another grpo-step writes its checkpoints into " + options.from);
    CHECK(!SystemFiles().Exists(second.publish));
    TrainUntil(session, 2);
    options.replay = 2;
    CHECK(Session(options, 1).step() == 2);  // a replay changes nothing
  }
  CHECK(Session(second, 1).step() == 2);
}
