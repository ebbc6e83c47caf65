#include "buffer/compaction.h"

#include <catch2/catch.hpp>
#include <filesystem>

#include "base/error.h"
#include "buffer/claiming.h"
#include "buffer_support.h"

namespace april {
namespace {

using namespace test;

/// A buffer with a rollout in every state, a trained and a claimed step, journaled progress, and a history that is longer than what it adds up to.
class Busy : public ScratchBuffer {
 public:
  Busy() : ScratchBuffer(SmallConfig(), 20) {
    for (uint64_t lease = 1; lease <= 6; ++lease) {
      for (const record::Rollout& rollout : Take(*store, 3, lease)) Put(*store, {Scored(Generate(rollout, 40, 1), 1)});
    }
    Train("checkpoint");
    Train(std::nullopt);
    store->Transact([&](buffer::Batch& batch) { buffer::MakeClaim(state(), batch, 2, std::nullopt); });
    held_ = Take(*store, 6, 7);
    const record::Rollout next = Generate(held_[0], 9, 2);
    Put(*store, {Delta(held_[0], next), Failed(held_[1]), Generate(held_[2], 5, 2), Complete(Generate(held_[3], 5, 2))});
    held_[0] = next;
  }

  /// Everything that a user can see of it.
  std::vector<std::string> Seen(buffer::Store& of) const {
    std::vector<std::string> seen = {std::to_string(of.state().next_step()) + " " + std::to_string(of.state().ready().size()) + " " +
                                     std::to_string(of.state().totals().trained_tokens) + " " + std::to_string(of.state().num_leased())};
    for (const auto& [admission, group] : of.state().groups()) {
      seen.emplace_back(buffer::Name(group.state));
      for (size_t i = 0; i < group.members.size(); ++i) {
        seen.emplace_back(buffer::Name(group.members[i].state));
        seen.push_back(record::EncodeRecord(of.ReadRollout(buffer::MakeKey(admission, i))));
      }
    }
    return seen;
  }
  buffer::CompactionResult Compact() { return buffer::Compact(SystemFiles(), clock, directory); }
  size_t NumFiles() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory + "/journal"), std::filesystem::directory_iterator()));
  }
  const std::vector<record::Rollout>& held() const { return held_; }

 private:
  void Train(const std::optional<std::string>& checkpoint) {
    store->Transact([&](buffer::Batch& batch) { buffer::MakeClaim(state(), batch, 2, std::nullopt); });
    record::Step step;
    step.step = state().next_step() - 1;
    step.claim = state().FindClaim(step.step)->id;
    step.version = static_cast<uint64_t>(step.step) + 1;
    step.checkpoint = checkpoint;
    store->Transact([&](buffer::Batch& batch) { buffer::CommitStep(state(), batch, step); });
  }
  std::vector<record::Rollout> held_;
};

TEST_CASE("a compacted buffer is the same and smaller") {
  Busy busy;
  const auto before = busy.Seen(*busy.store);
  const buffer::CompactionResult result = busy.Compact();
  CHECK(result.bytes_after < result.bytes_before / 2);
  busy.Reopen();
  CHECK(busy.Seen(*busy.store) == before);
  // What is under way goes on: under the old lease, and with the old claim.
  const buffer::PutCounts counts = Put(*busy.store, {Scored(Generate(busy.held()[0], 3, 3), 0.5)});
  CHECK(counts.accepted == 1);
  CHECK(buffer::FirstStepToEmit(busy.state(), std::nullopt) == 1);
  CHECK(buffer::ClaimRecords(*busy.store, *busy.state().FindClaim(1), 0, 1 << 20).size() == 8);
}

TEST_CASE("readers and writers go on while others compact") {
  Busy busy;
  buffer::Store reader(SystemFiles(), busy.clock, busy.directory), writer(SystemFiles(), busy.clock, busy.directory);
  const auto before = busy.Seen(reader);
  busy.Compact();
  CHECK(busy.Seen(reader) == before);
  Put(writer, {Scored(Generate(busy.held()[0], 3, 3), 0.5)});
  busy.Compact();
  busy.Compact();  // the files that the reader knows are gone from the directory
  CHECK(busy.Seen(reader) == before);
  reader.Refresh();
  busy.Reopen();
  CHECK(busy.Seen(reader) == busy.Seen(*busy.store));
  CHECK(busy.Seen(reader) != before);
}

TEST_CASE("replaced files stay for one compaction, and what a crash left goes with the next") {
  Busy busy;
  std::filesystem::copy(busy.directory + "/journal/00000001.zst", busy.directory + "/journal/00000777.zst");
  CHECK(busy.Compact().bytes_deleted > 0);
  CHECK(!std::filesystem::exists(busy.directory + "/journal/00000777.zst"));
  CHECK(std::filesystem::exists(busy.directory + "/journal/00000001.zst"));
  CHECK(busy.Compact().bytes_deleted > 0);
  CHECK(!std::filesystem::exists(busy.directory + "/journal/00000001.zst"));
  CHECK(busy.NumFiles() == 4);  // what the second replaced (the compacted segment, and the one begun then), what it wrote, and the one it began
}

TEST_CASE("what a compaction would lose, it refuses") {
  Busy busy;
  // A record whose tokens are not those that its entry counts.
  record::Rollout other = Generate(busy.held()[4], 8, 2);
  buffer::RolloutEntry entry;
  entry.uid = other.uid;
  entry.lease = other.lease;
  entry.state = buffer::RolloutState::kPartial;
  entry.tokens = 8;
  entry.chain = 1;
  busy.store->Transact([&](buffer::Batch& batch) { batch.Add(entry, record::EncodeRecord(other)); });
  const auto before = busy.Seen(*busy.store);
  CHECK_THROWS_AS(busy.Compact(), Error);
  busy.Reopen();
  CHECK(busy.Seen(*busy.store) == before);
  CHECK(busy.store->journal().manifest().compactions == 0);
}

}  // namespace
}  // namespace april
