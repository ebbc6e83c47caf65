// Not a test: writes the claim stream that tests/cli/grpo-step trains on, for the model in tests/data/tiny-model.
//   APRIL_CLAIMS=claims.stream unit_grpo '[.claims]'
// APRIL_CLAIMS_SPOIL=WHAT spoils the second claim's first group: missing-member, foreign-member, twice, no-logprobs, long (a token
// that no vocabulary has), no-rewards (in the whole claim).
#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>

#include "fixtures.h"
#include "text/tokenizer.h"

using namespace april;
using namespace april::grpo;

namespace {

void Spoil(const std::string& what, Claim* claim) {
  ClaimGroup& group = claim->groups[0];
  if (what == "missing-member") group.rollouts.pop_back();
  if (what == "foreign-member") std::swap(group.rollouts[1], claim->groups[1].rollouts[1]);
  if (what == "twice") group.rollouts[2] = group.rollouts[1];
  if (what == "no-logprobs") group.rollouts[1].logprobs.clear();
  if (what == "long") group.rollouts[1].tokens[0] = 999;
  if (what == "no-rewards") {
    for (ClaimGroup& each : claim->groups) {
      for (auto& rollout : each.rollouts) rollout.reward->status = "timeout", rollout.reward->detail = "5 s were not enough";
    }
  }
}

}  // namespace

TEST_CASE("write the claims of four steps", "[.claims]") {
  const char* path = std::getenv("APRIL_CLAIMS");
  if (path == nullptr) return;
  record::Header header;
  header.run = "test";
  header.tokenizer = text::Tokenizer::Load(std::string(APRIL_SOURCE_DIR) + "/tests/data/tiny-model")->digest();
  stream::WriterOptions plain;
  plain.compress = false;
  record::RecordWriter writer(path, header, plain);
  for (int64_t step = 0; step < 4; ++step) {
    Claim claim = MakeMixedClaim(step);
    for (ClaimGroup& group : claim.groups) {
      if (step == 2) {  // no gradient in the whole claim
        for (auto& rollout : group.rollouts) rollout.reward->value = 1;
      }
    }
    if (step == 3) {
      claim.groups[0].rollouts[1].reward->status = "error";
      claim.groups[0].rollouts[1].reward->detail = "the grader died";
    }
    if (const char* what = std::getenv("APRIL_CLAIMS_SPOIL"); what != nullptr && step == 1) Spoil(what, &claim);
    writer.Write(claim.control);
    for (const ClaimGroup& group : claim.groups) {
      writer.Write(group.group);
      for (const auto& rollout : group.rollouts) writer.Write(rollout);
    }
  }
  const char* variable = std::getenv("APRIL_CLAIMS_STATUS");
  const std::string status = variable != nullptr ? variable : "ok";
  writer.Finish(status == "stopped" ? stream::EndStatus::kStopped : status == "error" ? stream::EndStatus::kError : stream::EndStatus::kOk);
}
