// Responses as people read them.
#include <catch2/catch.hpp>
#include <cstdlib>

#include "buffer/readable.h"
#include "text/tokenizer.h"

using namespace april;

TEST_CASE("a response's text ends before the stop token that ended it, and before no other token") {
  const auto tokenizer = text::Tokenizer::Load(APRIL_SOURCE_DIR "/tests/data/tiny-model");
  const uint32_t stop = tokenizer->stop_ids().front();
  const std::string mark = tokenizer->Decode(std::vector<uint32_t>{stop}, false);
  REQUIRE(!mark.empty());
  record::Rollout rollout;
  rollout.tokens = tokenizer->Encode("forty two", false);
  rollout.tokens.push_back(stop);
  rollout.finish = record::Finish::kStop;
  CHECK(buffer::ResponseText(*tokenizer, rollout) == "forty two");
  CHECK(buffer::ShownTokens(*tokenizer, rollout).size() + 1 == rollout.tokens.size());
  rollout.finish = record::Finish::kLength;  // it did not end the response
  CHECK(buffer::ResponseText(*tokenizer, rollout) == "forty two" + mark);
  rollout.finish = record::Finish::kStop;
  rollout.sampling.stop_tokens = {stop + 1};  // the run has others
  CHECK(buffer::ResponseText(*tokenizer, rollout) == "forty two" + mark);
  rollout.sampling.stop_tokens.clear();
  rollout.tokens.push_back(stop);  // only the last one ended it
  CHECK(buffer::ResponseText(*tokenizer, rollout) == "forty two" + mark);
}
