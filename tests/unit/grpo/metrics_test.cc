// What --metrics says: every key documented, quantiles exact, parts that add up.
#include "grpo/metrics.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <map>
#include <set>

#include "fixtures.h"
#include "grpo/operations.h"
#include "grpo/quantile.h"
#include "grpo/session.h"
#include "kernels/peak.h"

using namespace april;
using namespace april::grpo;

namespace {

/// The keys of the table in formats/metrics.md, and when each is there.
std::map<std::string, std::string> DocumentedKeys() {
  std::ifstream file(std::string(APRIL_SOURCE_DIR) + "/formats/metrics.md");
  std::map<std::string, std::string> keys;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("| `")) continue;
    const size_t key_end = line.find('`', 3), there = line.find("| ", key_end) + 2;
    keys[line.substr(3, key_end - 3)] = line.substr(there, line.find(' ', there) - there);
  }
  return keys;
}

Json Trained(const ScratchDirectory& scratch, const std::string& name, const Claim& claim, const std::function<void(SessionOptions*)>& change = {}) {
  SessionOptions options;
  options.from = scratch / (name + "/checkpoints");
  options.publish = scratch / (name + "/weights");
  options.model = scratch / "model";
  options.precision = "f32";
  if (change) change(&options);
  Session session(options, 1);
  session.CheckHeader(TestHeader());
  return session.Train(claim).metrics;
}

double Number(const Json& metrics, const char* key) { return metrics.at(key).get<double>(); }

}  // namespace

TEST_CASE("formats/metrics.md lists exactly the keys that a step has") {
  ScratchDirectory scratch;
  WriteTinyModel(scratch / "model");
  Claim equal = MakeMixedClaim(0);
  for (ClaimGroup& group : equal.groups) {
    for (auto& rollout : group.rollouts) rollout.reward->value = 1;
  }
  Claim unjudged = equal;
  for (ClaimGroup& group : unjudged.groups) {
    for (auto& rollout : group.rollouts) rollout.reward->status = "error";
  }
  const auto with_kl = [](SessionOptions* options) { options->method.kl = "k3", options->method.kl_coef = 0.01, options->matrix_peak = 1; };
  const std::map<std::string, Json> seen = {{"everything", Trained(scratch, "kl", MakeMixedClaim(0), with_kl)},
                                            {"plain", Trained(scratch, "plain", MakeMixedClaim(0), [](auto* options) { options->matrix_peak = 1; })},
                                            {"no gradient", Trained(scratch, "equal", equal)},
                                            {"nothing judged", Trained(scratch, "unjudged", unjudged)}};
  const std::map<std::string, std::set<std::string>> there = {{"everything", {"always", "rollouts", "tokens", "kl", "moved", "untied", "peak"}},
                                                              {"plain", {"always", "rollouts", "tokens", "moved", "untied", "peak"}},
                                                              {"no gradient", {"always", "rollouts", "peak"}},
                                                              {"nothing judged", {"always", "peak"}}};
  const auto documented = DocumentedKeys();
  const bool tied = model::Config::FromJson(TinyConfig()).tied_embeddings;
  for (const auto& [name, metrics] : seen) {
    INFO(name);
    for (const auto& [key, value] : metrics.items()) {
      INFO(key);
      CHECK(documented.contains(key));
    }
    for (const auto& [key, condition] : documented) {
      if (condition == "peak" && !metrics.contains("matrix_peak_gflops")) continue;  // a processor that is not measured
      INFO(key);
      CHECK(metrics.contains(key) == (there.at(name).contains(condition) && !(tied && condition == "untied")));
    }
  }
}

TEST_CASE("quantiles are those of the sorted values") {
  for (size_t count = 1; count < 120; count += 7) {
    std::vector<double> values;
    for (size_t i = 0; i < count; ++i) values.push_back(static_cast<double>(RandomBits(1, RandomUse::kTest, count, i) % 50));
    std::vector<double> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    for (const double share : {0.0, 0.01, 0.5, 0.99, 1.0}) {
      size_t rank = 0;
      while (rank + 1 < count && static_cast<double>(rank + 1) < share * static_cast<double>(count)) ++rank;
      CHECK(Quantile(values, share) == sorted[rank]);
    }
  }
}

TEST_CASE("the modules' gradient norms add up to the whole one") {
  ScratchDirectory scratch;
  WriteTinyModel(scratch / "model");
  const Json metrics = Trained(scratch, "run", MakeMixedClaim(0));
  double squares = 0;
  for (const char* module : {"embedding", "attention", "mlp", "norms", "head"}) {
    const std::string key = std::string("grad_norm_") + module;
    if (!metrics.contains(key)) continue;
    CHECK(Number(metrics, key.c_str()) > 0);
    squares += std::pow(Number(metrics, key.c_str()), 2);
  }
  CHECK(std::sqrt(squares) == Approx(Number(metrics, "grad_norm")).epsilon(1e-12));
  CHECK(ModuleOf("model.layers.3.self_attn.q_norm.weight") == Module::kNorms);
  CHECK(ModuleOf("model.layers.3.self_attn.q_proj.bias") == Module::kAttention);
  CHECK(ModuleOf("model.layers.3.mlp.up_proj.weight") == Module::kMlp);
  CHECK(ModuleOf("model.embed_tokens.weight") == Module::kEmbedding);
  CHECK(ModuleOf("lm_head.weight") == Module::kHead);
}

TEST_CASE("entropies and ratios of a step") {
  ScratchDirectory scratch;
  WriteTinyModel(scratch / "model");
  const Json metrics = Trained(scratch, "run", MakeMixedClaim(0));
  CHECK(Number(metrics, "entropy_nats") > 0);
  CHECK(Number(metrics, "entropy_nats") <= std::log(TinyConfig().at("vocab_size").get<double>()));
  for (const char* key : {"ratio_min", "ratio_p01", "ratio_p50", "ratio_p99", "ratio_max"}) CHECK(Number(metrics, key) == 1);  // one step a claim
  CHECK(Number(metrics, "behaviour_ratio_min") < Number(metrics, "behaviour_ratio_p50"));
  CHECK(Number(metrics, "behaviour_ratio_p50") < Number(metrics, "behaviour_ratio_max"));
  CHECK(Number(metrics, "advantage_min") < 0);
  CHECK(Number(metrics, "advantage_max") > 0);
  CHECK(Number(metrics, "matrix_gflops") > 0);
}

TEST_CASE("loss and norms are means over the optimiser steps that had anything to train, at most one a group") {
  ScratchDirectory scratch;
  WriteTinyModel(scratch / "model");
  Claim equal = MakeMixedClaim(0);  // the middle one of three groups has equal rewards
  Claim alone = equal;
  alone.groups.erase(alone.groups.begin() + 1, alone.groups.end());
  const auto in_steps = [](int64_t steps) {
    return [steps](SessionOptions* options) { options->method.optimizer_steps = steps, options->optimizer.lr = 0; };
  };
  const Json three = Trained(scratch, "three", equal, in_steps(3)), many = Trained(scratch, "many", equal, in_steps(100));
  const Json one = Trained(scratch, "one", alone, in_steps(1)), split = Trained(scratch, "split", alone, in_steps(4));
  CHECK(three["optimizer_steps"] == 2);
  CHECK(split["optimizer_steps"] == 1);
  for (const char* key : {"loss", "grad_norm", "grad_norm_mlp"}) {
    CHECK(many[key] == three[key]);
    CHECK(split[key] == one[key]);
  }
  Claim last = equal;
  last.groups.erase(last.groups.begin(), last.groups.begin() + 2);
  const Json other = Trained(scratch, "other", last, in_steps(1));
  CHECK(Number(three, "grad_norm") == Approx((Number(one, "grad_norm") + Number(other, "grad_norm")) / 2).epsilon(1e-12));
}

TEST_CASE("shares by age, and effective sample sizes, by hand") {
  // Seven tokens: the first member's are of ages 2, 2, 1, 0, 0, 0, the second member's one of age 0.
  std::vector<record::Rollout> rollouts = {MakeRollout(1, 0, 6, 1, 5), MakeRollout(1, 1, 1, 0, 5)};
  rollouts[0].weight_versions = {{3, 22, 0, 2, {}}, {4, 33, 2, 3, {}}, {5, 55, 3, 6, {}}};
  rollouts[1].weight_versions = {{5, 55, 0, 1, {}}};
  rollouts[0].logprobs = {-2, -1, -1, -1, -1, -1};
  rollouts[1].logprobs = {-1};
  const Claim claim = MakeClaim(5, {rollouts});
  MethodOptions options;
  options.is_correction = "tis:2";
  const Method method = ParseMethod(options);
  const Batch batch = MakeBatch(claim, method, {64, 128, 5, 55, ""});
  Metrics metrics;
  metrics.AddBatch(batch);
  const std::vector<std::vector<double>> current = {{-1, -1, -1 + std::log(0.5), -1, -1, -1}, {-1}};  // ratios e, 1, 1/2, 1, 1, 1; 1
  for (size_t s = 0; s < 2; ++s) {
    const TrainingSequence& sequence = batch.groups[0].sequences[s];
    const std::vector<double> entropies(current[s].size(), 0.0);
    SequenceTerms terms;
    SequenceLoss(method.loss, {current[s], current[s], sequence.behaviour, {}, entropies, sequence.advantage, 1}, &terms);
    metrics.AddSequence(method, sequence, current[s], current[s], entropies, terms);
  }
  const Json json = metrics.ToJson();
  CHECK(Number(json, "stale_share") == Approx(3.0 / 7));
  CHECK(Number(json["token_share_by_age"], "0") == Approx(4.0 / 7));
  CHECK(Number(json["token_share_by_age"], "1") == Approx(1.0 / 7));
  CHECK(Number(json["token_share_by_age"], "2") == Approx(2.0 / 7));
  CHECK(Number(json, "correction_capped_share") == Approx(1.0 / 7));
  CHECK(Number(json["correction_capped_share_by_age"], "2") == Approx(1.0 / 2));
  CHECK(Number(json["correction_capped_share_by_age"], "0") == 0);
  CHECK(Number(json["correction_weight_mean_by_age"], "2") == Approx((2 + 1) / 2.0));
  CHECK(Number(json["correction_weight_mean_by_age"], "1") == Approx(0.5));
  CHECK(Number(json, "correction_weight_mean") == Approx((2 + 1 + 0.5 + 4) / 7));
  CHECK(Number(json, "effective_token_share") == Approx(7.5 * 7.5 / (7 * (4 + 1 + 0.25 + 4))));
  const double e = std::exp(1.0);
  CHECK(Number(json, "behaviour_effective_token_share") == Approx((e + 5.5) * (e + 5.5) / (7 * (e * e + 1 + 0.25 + 4))));
  CHECK(Number(json["clip_share_by_age"], "0") == 0);
  CHECK(Number(json, "masked_share") == 0);

  options.token_filter = "off-policy-mask";
  Metrics masked;
  masked.AddBatch(MakeBatch(claim, ParseMethod(options), {64, 128, 5, 55, ""}));
  CHECK(Number(masked.ToJson(), "masked_share") == Approx(3.0 / 7));
  CHECK(Number(masked.ToJson()["masked_share_by_age"], "2") == 1);
  CHECK(Number(masked.ToJson()["masked_share_by_age"], "0") == 0);
}

TEST_CASE("rewards, advantages, entropies, divergences, ratios and clips of a step, by hand") {
  // Four tokens sampled with log-probability -1: the first member's are of ages 2, 2, 0, the second's is of age 0. Their ratios are 1.5, 0.5, 1; 0.5.
  std::vector<record::Rollout> rollouts = {MakeRollout(1, 0, 3, 1, 5), MakeRollout(1, 1, 1, 0, 5)};
  rollouts[0].weight_versions = {{3, 22, 0, 2, {}}, {5, 55, 2, 3, {}}};
  rollouts[1].weight_versions = {{5, 55, 0, 1, {}}};
  rollouts[0].logprobs = {-1, -1, -1};
  rollouts[1].logprobs = {-1};
  MethodOptions options;
  options.old = "behaviour";
  options.clip_low = "0.2", options.clip_high = "0.28";
  options.kl = "k3", options.kl_coef = 0.1;
  const Claim claim = MakeClaim(5, {rollouts});
  const Method method = ParseMethod(options);
  const Batch batch = MakeBatch(claim, method, {64, 128, 5, 55, ""});
  Metrics metrics;
  metrics.AddBatch(batch);
  const double up = std::log(1.5), down = std::log(0.5);
  const std::vector<std::vector<double>> current = {{-1 + up, -1 + down, -1}, {-1 + down}}, entropies = {{1, 2, 3}, {4}};
  for (size_t s = 0; s < 2; ++s) {
    const TrainingSequence& sequence = batch.groups[0].sequences[s];
    const std::vector<double> reference(current[s].size(), -1.0);
    SequenceTerms terms;
    SequenceLoss(method.loss, {current[s], sequence.behaviour, sequence.behaviour, reference, entropies[s], sequence.advantage, 1}, &terms);
    metrics.AddSequence(method, sequence, current[s], sequence.behaviour, entropies[s], terms);
  }
  const Json json = metrics.ToJson();
  CHECK(Number(json, "reward_mean") == 0.5);
  CHECK(Number(json, "reward_std") == 0.5);
  const double advantage = 0.5 / (std::sqrt(0.5) + 1e-6);
  CHECK(Number(json, "advantage_std") == Approx(advantage));
  CHECK(Number(json, "advantage_min") == Approx(-advantage));
  CHECK(Number(json, "advantage_max") == Approx(advantage));
  CHECK(Number(json, "entropy_nats") == 2.5);
  CHECK(Number(json, "kl_behaviour_k1_nats") == Approx(-(up + 2 * down) / 4));
  CHECK(Number(json, "kl_behaviour_k3_nats") == Approx((1.5 - 1 - up + 2 * (0.5 - 1 - down)) / 4));
  CHECK(Number(json, "kl_reference_nats") == Approx((1 / 1.5 - 1 + up + 2 * (1 / 0.5 - 1 + down)) / 4));
  CHECK(Number(json, "ratio_min") == Approx(0.5));
  CHECK(Number(json, "ratio_max") == Approx(1.5));
  CHECK(Number(json, "behaviour_ratio_max") == Approx(1.5));
  CHECK(Number(json, "clip_high_share") == 0.25);  // 1.5, whose advantage is positive
  CHECK(Number(json, "clip_low_share") == 0.25);   // 0.5, where it is negative
  CHECK(Number(json["clip_share_by_age"], "2") == 0.5);
  CHECK(Number(json["clip_share_by_age"], "0") == 0.5);
  CHECK(Number(json["behaviour_effective_token_share_by_age"], "2") == Approx(2 * 2 / (2 * (2.25 + 0.25))));
  CHECK(Number(json["behaviour_effective_token_share_by_age"], "0") == Approx(1.5 * 1.5 / (2 * (1 + 0.25))));
}

TEST_CASE("a rollout went on when other weights sampled some of it, or when it was resumed; other tokens in between are no interruption") {
  const std::vector<record::WeightSpan> spans[] = {
      {{0, 7, 0, 6, {}}},                    // from end to end
      {{0, 7, 0, 2, {}}, {0, 7, 4, 6, {}}},  // around a tool's tokens
      {{0, 7, 0, 2, {}}, {1, 8, 2, 6, {}}},  // newer weights
      {{1, 7, 0, 2, {}}, {1, 8, 2, 6, {}}},  // other weights of the same number
      {{1, 8, 0, 6, {}}},                    // resumed
  };
  std::vector<record::Rollout> rollouts;
  for (const auto& weight_versions : spans) {
    rollouts.push_back(MakeRollout(1, static_cast<int64_t>(rollouts.size()), 6, static_cast<double>(rollouts.size())));
    rollouts.back().weight_versions = weight_versions;
  }
  rollouts.back().resumes = 1;
  const Claim claim = MakeClaim(1, {rollouts});
  Metrics metrics;
  metrics.AddBatch(MakeBatch(claim, ParseMethod({}), {64, 128, 1, 8, ""}));
  CHECK(metrics.ToJson().at("rollouts_continued") == 3);
}

TEST_CASE("operations are those of the products, one by one") {
  const auto config = model::Config::FromJson(TinyConfig());
  const std::vector<uint32_t> prompt(5), first(4), second(1), third;
  const std::vector<model::TrainingGroup> groups = {{prompt, {first, second, third}}, {second, {first}}};
  const auto product = [](int64_t rows, int64_t columns, int64_t inner) { return 2.0 * static_cast<double>(rows * columns * inner); };
  double expected = 0;
  for (const model::TrainingGroup& group : groups) {
    std::vector<int64_t> seen;  // keys that each row's queries see
    for (size_t i = 0; i < group.prompt.size(); ++i) seen.push_back(static_cast<int64_t>(i) + 1);
    for (const auto& response : group.responses) {
      for (size_t i = 0; i + 1 < response.size(); ++i) seen.push_back(static_cast<int64_t>(group.prompt.size() + i) + 1);
      for (size_t i = 0; i < response.size(); ++i) expected += product(1, config.vocab, config.hidden);
    }
    for (const int64_t keys : seen) {
      for (int64_t layer = 0; layer < config.layers; ++layer) {
        expected += product(1, (config.heads + 2 * config.kv_heads) * config.head_dim, config.hidden);
        expected += static_cast<double>(config.heads) * (product(1, keys, config.head_dim) + product(1, config.head_dim, keys));
        expected += product(1, config.hidden, config.heads * config.head_dim);
        expected += product(1, 2 * config.intermediate, config.hidden) + product(1, config.hidden, config.intermediate);
      }
    }
  }
  CHECK(ForwardOperations(config, groups) == expected);
}

TEST_CASE("a machine's peak is some billions of operations a second, or not known") {
  kernels::ThreadPool pool(1);
  const double peak = kernels::MeasureMatrixPeak(pool);
  CHECK((peak == 0 || peak > 1e9));
}
