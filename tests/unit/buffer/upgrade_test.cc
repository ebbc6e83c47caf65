// A copy of a buffer in the newest format is a buffer of its own, whatever happens right after it was made.
#include "buffer/upgrade.h"

#include <catch2/catch.hpp>

#include "base/error.h"
#include "buffer/audit.h"
#include "buffer/repairing.h"
#include "buffer_support.h"
#include "memory_files.h"

namespace april {
namespace {

using namespace test;

const SetClock kTime;

/// Prompts, a rollout with tokens, one that is leased, and the rest.
void MakeSource(MemoryFiles& files) {
  buffer::Store::Init(files, kTime, "old", SmallConfig());
  buffer::Store store(files, kTime, "old");
  AddPrompts(store, 6, 2, 7);
  const std::vector<record::Rollout> taken = Take(store, 3, 11);
  Put(store, {Generate(taken[0], 3, 1), Scored(Generate(taken[1], 4, 1), 1)});
}

TEST_CASE("a copy outlives a loss of power right after it, in directories that were made for it") {
  MemoryFiles files;
  MakeSource(files);
  buffer::Upgrade(files, kTime, "old", "new/run/buffer");
  files.RestartSynced();
  buffer::Store source(files, kTime, "old"), copy(files, kTime, "new/run/buffer");
  REQUIRE(copy.state().groups().size() == source.state().groups().size());
  for (const auto& [admission, group] : source.state().groups()) {
    for (size_t i = 0; i < group.members.size(); ++i) {
      const uint64_t key = buffer::MakeKey(admission, i);
      CHECK(copy.ReadRollout(key) == source.ReadRollout(key));
      CHECK(copy.state().rollout(key).state == source.state().rollout(key).state);
    }
  }
  CHECK(buffer::Audit(files, "new/run/buffer").Clean());
}

TEST_CASE("damage anywhere in a fresh copy is told") {
  MemoryFiles files;
  MakeSource(files);
  buffer::Upgrade(files, kTime, "old", "new");
  const std::string path = "new/journal/" + files.List("new/journal").front(), whole = ReadFile(files, path);
  for (size_t i = 0; i < whole.size(); i += 7) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    files.Create(path)->Append(damaged);
    INFO("byte " << i);
    CHECK_FALSE(buffer::Audit(files, "new").Clean());
  }
}

TEST_CASE("a copy has its own copy of the run's first entry, for repair") {
  MemoryFiles files;
  MakeSource(files);
  buffer::Upgrade(files, kTime, "old", "new");
  for (const std::string& name : files.List("new/journal")) files.Remove("new/journal/" + name);
  CHECK_FALSE(buffer::Repair(files, kTime, "new", {}).actions.empty());
  CHECK(buffer::Store(files, kTime, "new").state().config() == SmallConfig());
}

}  // namespace
}  // namespace april
