// Not a test: writes the claim stream that tests/cli/grpo-step trains on, for the model in tests/data/tiny-model.
//   APRIL_CLAIMS=claims.stream unit_grpo '[.claims]'
#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>

#include "fixtures.h"
#include "text/tokenizer.h"

using namespace april;
using namespace april::grpo;

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
