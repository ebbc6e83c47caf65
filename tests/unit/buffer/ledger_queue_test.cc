#include "buffer/ledger_queue.h"

#include <catch2/catch.hpp>

#include "buffer/prompt_queue.h"

namespace april {
namespace {

using buffer::LedgerQueue;
using buffer::PromptQueue;

TEST_CASE("the audit's queue is the buffer's, from the front and from anywhere") {
  LedgerQueue ours;
  PromptQueue theirs;
  int64_t prompts = 0;
  const auto add = [&](int64_t count, int64_t epochs, std::optional<uint64_t> shuffle) {
    std::vector<std::string> ids;
    for (int64_t i = 0; i < count; ++i) ids.push_back("p" + std::to_string(prompts++));
    for (const std::string& id : ids) theirs.AddPrompt(1, id, {});
    theirs.AddPlan(1, count, epochs, shuffle);
    ours.Add(ids, epochs, shuffle);
  };
  add(5, 3, 17);
  add(1, 2, std::nullopt);
  add(4, 1'000'000'000, 18);  // of which no list is made
  for (const int64_t place : {0, 1, 4, 5, 14, 15, 16, 17, 18, 25, 3, 1'000'000'001}) {
    const PromptQueue::Group group = theirs.At(place);
    CHECK(ours.At(place) == std::pair(group.prompt, group.epoch));
  }
  CHECK(ours.prompt_id(5) == "p5");
  CHECK(ours.At(17 + int64_t{4'000'000'000} - 1));
  CHECK_FALSE(ours.At(17 + int64_t{4'000'000'000}));
  CHECK_FALSE(ours.At(-1));
}

}  // namespace
}  // namespace april
