// Estimators against exact expectations: a policy over three tokens and at most three positions, whose every response can be listed.
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <map>

#include "base/rng.h"
#include "grpo/math.h"
#include "grpo/method.h"

using namespace april;
using namespace april::grpo;
using Doubles = std::vector<double>;

namespace {

constexpr int kVocab = 3, kStop = 0;

/// Softmax over the tokens after each prefix, from logits of its own; token 0 ends a response, and so does the third position.
struct TabularPolicy {
  explicit TabularPolicy(uint64_t seed, double spread = 1) : seed_(seed), spread_(spread) {}
  double Logit(const std::string& prefix, int token) const {
    const auto found = shifts_.find({prefix, token});
    uint64_t key = 1;
    for (const char c : prefix) key = key * 7 + static_cast<uint64_t>(c - '0') + 1;
    return spread_ * (2 * RandomUnit(seed_, RandomUse::kTest, key, static_cast<uint64_t>(token)) - 1) + (found == shifts_.end() ? 0 : found->second);
  }
  double Logprob(const std::string& prefix, int token) const {
    double sum = 0;
    for (int v = 0; v < kVocab; ++v) sum += std::exp(Logit(prefix, v));
    return Logit(prefix, token) - std::log(sum);
  }
  void Shift(const std::string& prefix, int token, double by) { shifts_[{prefix, token}] += by; }

 private:
  uint64_t seed_;
  double spread_;
  std::map<std::pair<std::string, int>, double> shifts_;
};

std::vector<std::string> AllResponses(size_t max_tokens, const std::string& prefix = "") {
  std::vector<std::string> responses;
  for (int token = 0; token < kVocab; ++token) {
    const std::string next = prefix + static_cast<char>('0' + token);
    if (token == kStop || next.size() == max_tokens) {
      responses.push_back(next);
    } else {
      for (std::string& response : AllResponses(max_tokens, next)) responses.push_back(std::move(response));
    }
  }
  return responses;
}

Doubles Logprobs(const TabularPolicy& policy, const std::string& response) {
  Doubles values;
  for (size_t t = 0; t < response.size(); ++t) values.push_back(policy.Logprob(response.substr(0, t), response[t] - '0'));
  return values;
}
double Probability(const TabularPolicy& policy, const std::string& response) {
  double sum = 0;
  for (const double logprob : Logprobs(policy, response)) sum += logprob;
  return std::exp(sum);
}
double Reward(const std::string& response) {
  double sum = 0;
  for (const char c : response) sum = 3 * sum + (c - '0') + 1;
  return std::sin(12.9898 * sum) + (response.back() == '0');
}

/// Gradient by the policy's logits: prefix and token to d/d logit.
using Gradient = std::map<std::pair<std::string, int>, double>;

/// d E[R] / d logits by central differences of the exact expectation.
Gradient Differences(const TabularPolicy& policy, const std::vector<std::string>& responses,
                     const std::function<double(const TabularPolicy&)>& value) {
  Gradient gradient;
  for (const std::string& response : responses) {
    for (size_t t = 0; t < response.size(); ++t) {
      for (int token = 0; token < kVocab; ++token) {
        const std::string prefix = response.substr(0, t);
        TabularPolicy plus = policy, minus = policy;
        plus.Shift(prefix, token, 1e-5);
        minus.Shift(prefix, token, -1e-5);
        gradient[{prefix, token}] = (value(plus) - value(minus)) / 2e-5;
      }
    }
  }
  return gradient;
}

struct Estimator {
  const char* advantage = "rloo";
  const char* spread = "none";
  LossRules rules;
  bool old_is_behaviour = false;
};

/// E of the loss's gradient over all groups that `behaviour` samples, times the fixed denominator: sum over a group's tokens / group size.
Gradient ExpectedGradient(const Estimator& estimator, const TabularPolicy& policy, const TabularPolicy& behaviour, const TabularPolicy& reference,
                          const std::vector<std::string>& responses, size_t group_size) {
  Gradient gradient;
  std::vector<size_t> members(group_size, 0);
  SequenceTerms terms;
  while (true) {
    double probability = 1;
    Doubles rewards;
    for (const size_t member : members) {
      probability *= Probability(behaviour, responses[member]);
      rewards.push_back(Reward(responses[member]));
    }
    const std::vector<Doubles> claim{rewards};
    const Doubles advantages =
        Advantages(FindRule(AdvantageRules(), "advantage", estimator.advantage), FindRule(SpreadRules(), "adv-std", estimator.spread), claim)[0];
    for (size_t i = 0; i < group_size; ++i) {
      const std::string& response = responses[members[i]];
      const Doubles current = Logprobs(policy, response), sampled = Logprobs(behaviour, response), fixed = Logprobs(reference, response);
      SequenceLoss(estimator.rules,
                   {current, estimator.old_is_behaviour ? sampled : current, sampled, fixed, {}, advantages[i], 1 / static_cast<double>(group_size)},
                   &terms);
      for (size_t t = 0; t < response.size(); ++t) {
        const std::string prefix = response.substr(0, t);
        for (int v = 0; v < kVocab; ++v)  // d l / d logit
          gradient[{prefix, v}] += probability * terms.gradients[t] * ((v == response[t] - '0') - std::exp(policy.Logprob(prefix, v)));
      }
    }
    size_t place = 0;
    while (place < group_size && ++members[place] == responses.size()) members[place++] = 0;
    if (place == group_size) return gradient;
  }
}

LossRules Rules(const char* loss, const char* correction, const char* kl = "off") {
  LossRules rules;
  rules.correction = ParseCorrection(correction);
  rules.policy = &FindRule(PolicyRules(), "loss", loss);
  rules.clip = {1, 1e6, 1e6};  // wide: what is estimated is the expectation without bounds
  rules.kl = &FindRule(KlRules(), "kl", kl);
  rules.kl_coef = 1;
  return rules;
}

/// Largest |gradient - factor * expected|.
double Distance(const Gradient& gradient, const Gradient& expected, double factor) {
  double distance = 0;
  for (const auto& [key, value] : expected) distance = std::max(distance, std::abs(gradient.at(key) - factor * value));
  return distance;
}

double ExpectedReward(const TabularPolicy& policy, const std::vector<std::string>& responses) {
  double sum = 0;
  for (const std::string& response : responses) sum += Probability(policy, response) * Reward(response);
  return sum;
}

}  // namespace

TEST_CASE("on policy, RLOO's gradient is the expected reward's, and Dr. GRPO's is that times (G-1)/G, under every loss") {
  const auto responses = AllResponses(3);
  CHECK(responses.size() == 15);
  const TabularPolicy policy(1);
  const Gradient exact = Differences(policy, responses, [&](const auto& p) { return ExpectedReward(p, responses); });
  for (const PolicyRule& rule : PolicyRules()) {
    INFO(rule.name);
    Estimator estimator{"rloo", "none", Rules(rule.name, "none"), false};
    CHECK(Distance(ExpectedGradient(estimator, policy, policy, policy, responses, 2), exact, -1) < 1e-9);
    CHECK(Distance(ExpectedGradient(estimator, policy, policy, policy, responses, 3), exact, -1) < 1e-9);
    estimator.advantage = "drgrpo";
    CHECK(Distance(ExpectedGradient(estimator, policy, policy, policy, responses, 3), exact, -2.0 / 3) < 1e-9);
  }
}

TEST_CASE("off policy, the product of ratios makes RLOO's expectation right, and nothing else does") {
  const auto responses = AllResponses(3);
  const TabularPolicy policy(1), behaviour(2);
  const Gradient exact = Differences(policy, responses, [&](const auto& p) { return ExpectedReward(p, responses); });
  const auto distance = [&](const char* correction, bool old_is_behaviour) {
    return Distance(ExpectedGradient({"rloo", "none", Rules("ppo", correction), old_is_behaviour}, policy, behaviour, policy, responses, 2), exact,
                    -1);
  };
  CHECK(distance("seq:1e9", false) < 1e-9);
  CHECK(distance("seq:1.2", false) > 1e-3);  // a bound trades the expectation for variance
  CHECK(distance("none", false) > 1e-2);
  CHECK(distance("tis:1e9", false) > 1e-3);  // a token's own ratio leaves out what its prefix and its future cost
  CHECK(distance("none", true) > 1e-3);
}

TEST_CASE("off policy and over one token, token ratios make the expectation right, as weight or as the loss's ratio") {
  const auto responses = AllResponses(1);
  const TabularPolicy policy(1), behaviour(2);
  const Gradient exact = Differences(policy, responses, [&](const auto& p) { return ExpectedReward(p, responses); });
  const auto distance = [&](const char* loss, const char* correction, bool old_is_behaviour) {
    return Distance(ExpectedGradient({"rloo", "none", Rules(loss, correction), old_is_behaviour}, policy, behaviour, policy, responses, 3), exact,
                    -1);
  };
  CHECK(distance("ppo", "tis:1e9", false) < 1e-9);
  CHECK(distance("ppo", "icepop:0,1e9", false) < 1e-9);
  for (const PolicyRule& rule : PolicyRules()) CHECK(distance(rule.name, "none", true) < 1e-9);
  CHECK(distance("ppo", "none", false) > 1e-2);
}

TEST_CASE("over one token, k2 moves along KL(current || reference), k3 along KL(reference || current), and k1 not at all") {
  const auto responses = AllResponses(1);
  const TabularPolicy policy(1), reference(3);
  const auto divergence = [&](const TabularPolicy& from, const TabularPolicy& to) {
    double sum = 0;
    for (const std::string& response : responses) sum += Probability(from, response) * (Logprobs(from, response)[0] - Logprobs(to, response)[0]);
    return sum;
  };
  const Gradient reverse = Differences(policy, responses, [&](const auto& p) { return divergence(p, reference); });
  const Gradient forward = Differences(policy, responses, [&](const auto& p) { return divergence(reference, p); });
  const auto gradient = [&](const char* kl) {
    Estimator estimator{"rloo", "none", Rules("ppo", "none", kl), false};
    const Gradient with = ExpectedGradient(estimator, policy, policy, reference, responses, 2);
    estimator.rules = Rules("ppo", "none");
    Gradient without = ExpectedGradient(estimator, policy, policy, reference, responses, 2);
    for (auto& [key, value] : without) value = with.at(key) - value;
    return without;
  };
  CHECK(Distance(gradient("k1"), reverse, 0) < 1e-12);
  CHECK(Distance(gradient("k2"), reverse, 1) < 1e-9);
  CHECK(Distance(gradient("k3"), forward, 1) < 1e-9);
  CHECK(Distance(gradient("k3"), reverse, 1) > 1e-3);
}
