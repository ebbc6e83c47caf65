// When what a transaction appended is on disk, and what is appended together.
#include "buffer/durability.h"

#include <catch2/catch.hpp>

#include "base/error.h"
#include "buffer/claiming.h"
#include "buffer_support.h"
#include "failing_files.h"
#include "memory_files.h"

namespace april {
namespace {

using namespace test;
using buffer::Durability;
using buffer::Wait;

int64_t NumFrames(FileSystem& files, const std::string& directory) {
  int64_t frames = 0;
  buffer::Journal journal(files, directory);
  const bool read = journal.ReadNew([&](std::string_view, buffer::Position) { ++frames; });
  CHECK(read);
  return frames;
}

void PutWaiting(buffer::Store& store, const record::Rollout& rollout) {
  buffer::PutCounts counts;
  std::set<uint64_t> leases;
  store.Transact([&](buffer::Batch& batch) { PutRecord(store, batch, record::EncodeRecord(rollout), &counts, &leases); }, Wait::kAsLongAsAllowed);
  CHECK(counts.accepted == 1);
}

/// A buffer with eight prompts on files that lose power.
struct Unsafe {
  MemoryFiles files;
  SetClock clock;
  std::unique_ptr<buffer::Store> store;

  explicit Unsafe(const std::string& durability) {
    buffer::Store::Init(files, clock, "b", SmallConfig());
    Open(durability);
    AddPrompts(*store, 8);
  }
  void Open(const std::string& durability) {
    buffer::StoreOptions options;
    options.durability = Durability::Parse(durability);
    store = std::make_unique<buffer::Store>(files, clock, "b", options);
  }
  /// Power is lost: of what was not synced nothing survives.
  void Restart() {
    store.reset();
    files.RestartSynced();
    Open("sync");
  }
  void PutLater(const record::Rollout& rollout) { PutWaiting(*store, rollout); }
};

TEST_CASE("durability is one of three, or refused") {
  CHECK(Durability::Parse("sync").mode == Durability::Mode::kSync);
  CHECK(Durability::Parse("os").mode == Durability::Mode::kOs);
  CHECK(Durability::Parse("batch:10").batch_ms == 10);
  for (const char* text : {"", "batch", "batch:", "batch:0", "batch:-1", "batch:1s", "batch:99999999999999999999", "Sync"})
    CHECK_THROWS_AS(Durability::Parse(text), Error);
}

TEST_CASE("what may wait is lost with the power before its time, and not behind it") {
  for (const auto& [durability, waited_ms, kept] :
       {std::tuple("sync", 0, true), std::tuple("batch:10", 9, false), std::tuple("batch:10", 10, true), std::tuple("os", 1'000'000, false)}) {
    INFO(durability << " after " << waited_ms << " ms");
    Unsafe unsafe(durability);
    const record::Rollout rollout = Take(*unsafe.store, 1, 1).at(0);
    unsafe.PutLater(Generate(rollout, 5, 1));
    unsafe.clock.now_ns += int64_t{waited_ms} * 1'000'000;
    const auto left_ms = unsafe.store->SyncIfDue();
    CHECK(left_ms.has_value() == (durability == std::string("batch:10") && !kept));
    unsafe.Restart();
    CHECK(unsafe.store->state().rollout(0).tokens == (kept ? 5 : 0));
  }
}

TEST_CASE("a claim takes with it to the disk what was put before") {
  Unsafe unsafe("os");
  for (int group = 0; group < 2; ++group) {
    for (const record::Rollout& rollout : Take(*unsafe.store, 3, 1)) unsafe.PutLater(Scored(Generate(rollout, 5, 1), 1));
  }
  std::string waits_for;
  unsafe.store->Transact([&](buffer::Batch& batch) { waits_for = buffer::MakeClaim(unsafe.store->state(), batch, 2, std::nullopt); });
  CHECK(waits_for.empty());
  unsafe.Restart();
  CHECK(unsafe.store->state().num_groups(buffer::GroupState::kClaimed) == 2);
}

TEST_CASE("what is told again lasts, though the writer before was killed between its append and its sync") {
  for (const std::string told : {"put", "commit"}) {
    INFO(told);
    Unsafe unsafe("sync");
    std::vector<record::Rollout> taken = Take(*unsafe.store, 3, 1);
    for (record::Rollout& rollout : taken) rollout = Scored(Generate(rollout, 5, 1), 1);
    record::Step step;
    const auto tell = [&] {
      if (told == "put") return static_cast<int64_t>(Put(*unsafe.store, {taken[0]}).repeated);
      bool is_new = false;
      unsafe.store->Transact([&](buffer::Batch& batch) { is_new = buffer::CommitStep(unsafe.store->state(), batch, step); });
      return static_cast<int64_t>(!is_new);
    };
    if (told == "commit") {
      Put(*unsafe.store, {taken[0], taken[1], taken[2]});
      unsafe.store->Transact([&](buffer::Batch& batch) { buffer::MakeClaim(unsafe.store->state(), batch, 1, std::nullopt); });
      step.claim = unsafe.store->state().FindClaim(0)->id;
      step.version = 1;
    }
    unsafe.files.lose_power_at = unsafe.files.operations + 1;  // its append
    CHECK_THROWS_AS(tell(), PowerLost);
    unsafe.store.reset();
    unsafe.files.Kill();
    unsafe.Open("sync");
    CHECK(tell() == 1);  // it is there
    unsafe.Restart();
    CHECK(unsafe.store->state().rollout(0).state == buffer::RolloutState::kScored);
    CHECK(unsafe.store->state().first_uncommitted_step() == (told == "commit" ? 1 : 0));
  }
}

TEST_CASE("damage in the last transaction of a writer that ended is damage, not a torn tail") {
  for (const std::string durability : {"sync", "os"}) {
    INFO(durability);
    Unsafe unsafe(durability);
    const record::Rollout rollout = Take(*unsafe.store, 1, 1).at(0);
    const uint64_t begin = unsafe.store->journal().size_bytes();
    unsafe.PutLater(Generate(rollout, 5, 1));
    if (durability == "os") unsafe.store->Finish();
    unsafe.store.reset();
    uint64_t end = 0;  // of the transaction: where the mark begins
    const bool read = buffer::Journal(unsafe.files, "b").ReadNew([&](std::string_view, buffer::Position at) { end = at.frame; });
    REQUIRE(read);
    const std::string path = JoinPath("b", buffer::SegmentPath(1));
    const std::string whole = ReadFile(unsafe.files, path);
    REQUIRE(end > begin);
    for (uint64_t i = begin; i < whole.size(); i += 3) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ 4);
      unsafe.files.Create(path)->Append(changed);
      INFO("byte " << i << "; the mark begins at " << end);
      if (i < end) {
        CHECK_THROWS_AS(unsafe.Open("sync"), Error);
      } else {
        unsafe.Open("sync");  // the mark itself holds nothing
        CHECK(unsafe.store->state().rollout(0).tokens == 5);
      }
    }
  }
}

TEST_CASE("collected transactions are one frame, and nobody sees them before") {
  ScratchBuffer buffer;
  buffer::Store other(SystemFiles(), buffer.clock, buffer.directory);
  const int64_t frames = NumFrames(SystemFiles(), buffer.directory);
  buffer.store->Collect();
  const auto taken = Take(*buffer.store, 3, 1);
  Put(*buffer.store, {Generate(taken[0], 5, 1), Scored(Generate(taken[1], 5, 1), 1)});
  CHECK(buffer.store->ReadRollout(0).tokens.size() == 5);  // before it is in the journal
  other.Refresh();
  CHECK(other.state().groups().empty());
  CHECK(NumFrames(SystemFiles(), buffer.directory) == frames);
  buffer.store->Flush();
  other.Refresh();
  CHECK(other.state().rollout(0).state == buffer::RolloutState::kPartial);
  CHECK(NumFrames(SystemFiles(), buffer.directory) == frames + 1);
  buffer.store->Flush();
  CHECK(NumFrames(SystemFiles(), buffer.directory) == frames + 1);
}

TEST_CASE("a collected transaction that fails leaves the others") {
  ScratchBuffer buffer;
  buffer.store->Collect();
  const auto taken = Take(*buffer.store, 2, 1);
  const auto spoil = [&](buffer::Batch& batch) {
    batch.Add(buffer::ReleaseEntry{1, "ended", {taken[0].uid}});
    throw Error::Runtime("half way");
  };
  CHECK_THROWS_AS(buffer.store->Transact(spoil), Error);
  Put(*buffer.store, {Generate(taken[0], 5, 1)});
  buffer.store->Flush();
  CHECK(buffer.state().rollout(0).tokens == 5);
  CHECK(buffer.state().rollout(1).state == buffer::RolloutState::kLeased);
  buffer.Reopen();
  CHECK(buffer.state().rollout(0).tokens == 5);
  CHECK(buffer.state().rollout(1).state == buffer::RolloutState::kLeased);
}

TEST_CASE("what did not happen is in no index") {
  ScratchBuffer buffer;
  buffer::StoreOptions options;
  options.index_bytes = 0;  // with every transaction
  for (const bool collect : {false, true}) {
    buffer.Reopen(options);
    if (collect) buffer.store->Collect();
    const auto taken = Take(*buffer.store, 1, collect ? 2 : 1);
    const auto spoil = [&](buffer::Batch& batch) {
      batch.Add(buffer::ReleaseEntry{taken[0].lease->id, "ended", {taken[0].uid}});
      throw Error::Runtime("half way");
    };
    CHECK_THROWS_AS(buffer.store->Transact(spoil), Error);
    buffer.Reopen(options);
    CHECK(buffer.state().rollout(collect ? 1 : 0).state == buffer::RolloutState::kLeased);
  }
}

TEST_CASE("a store that collects is synced beside its work, and told of a failure before the next one") {
  ScratchBuffer buffer;
  FailingFiles files;
  buffer::Store store(files, buffer.clock, buffer.directory, {.durability = {buffer::Durability::Mode::kBatch, 10}});
  store.Collect();
  const auto taken = Take(store, 2, 1);
  store.Flush();
  const auto put = [&](const record::Rollout& rollout) {
    PutWaiting(store, rollout);
    store.Flush();
  };
  put(Generate(taken[0], 5, 1));
  CHECK(store.SyncIfDue() == 10);
  buffer.clock.now_ns += 10'000'000;
  files.syncs_to_fail = 1;
  CHECK(store.SyncIfDue() == 10);  // it has begun
  put(Generate(taken[1], 7, 1));   // meanwhile
  SECTION("by what is due next") {
    buffer.clock.now_ns += 10'000'000;
    CHECK_THROWS_WITH(store.SyncIfDue(), Catch::Contains("cannot sync"));
  }
  SECTION("by what may not wait") { CHECK_THROWS_WITH(store.Sync(), Catch::Contains("cannot sync")); }
  CHECK(files.syncs_to_fail == 0);
  CHECK_THROWS_WITH(store.CheckWritable(), Catch::Contains("could not be made durable"));
}

TEST_CASE("those who were collected before a flush that failed in the middle are told as well") {
  ScratchBuffer buffer;
  FailingFiles files;
  buffer::Store store(files, buffer.clock, buffer.directory);
  store.Collect();
  const auto taken = Take(store, 2, 1);
  store.Settle();
  Put(store, {Generate(taken[0], 5, 1)});
  const auto add = [&](bool fails, size_t bytes) {
    store.Transact([&](buffer::Batch& batch) {
      batch.Add(buffer::PromptEntry{77, "p", 3}, std::string(bytes, 'x'));
      if (fails) throw Error::Runtime("half way");
    });
  };
  SECTION("by a transaction that makes too much of it") {
    files.room = 10;
    CHECK_THROWS_AS(add(false, 17u << 20), Error);
  }
  SECTION("by a transaction that failed itself") {
    files.room = 10;
    CHECK_THROWS_AS(add(true, 10), Error);
  }
  SECTION("by a sync") {
    files.syncs_to_fail = 1;
    CHECK_THROWS_AS(add(false, 17u << 20), Error);
  }
  files.room = 1 << 30;
  CHECK_THROWS_AS(store.Settle(), Error);
}

TEST_CASE("an index is made of nothing that may not be on disk") {
  ScratchBuffer buffer;
  buffer::StoreOptions options;
  options.index_bytes = 0;
  options.durability = {buffer::Durability::Mode::kOs, 0};
  buffer.Reopen(options);
  buffer.store->Collect();
  const auto taken = Take(*buffer.store, 2, 1);
  buffer.store->Settle();
  std::remove((buffer.directory + "/index").c_str());
  PutWaiting(*buffer.store, Generate(taken[0], 5, 1));
  buffer.store->Settle();
  // As after kill -9: another process finds the frame, and has nothing to add.
  buffer.Reopen(options);
  buffer.store->Transact([](buffer::Batch&) {}, Wait::kAsLongAsAllowed);
  CHECK_FALSE(SystemFiles().Exists(buffer.directory + "/index"));
  Take(*buffer.store, 1, 2);
  CHECK(SystemFiles().Exists(buffer.directory + "/index"));
}

TEST_CASE("when the collected ones cannot be appended, none of them happened, and the next ones can") {
  ScratchBuffer buffer;
  FailingFiles files;
  buffer::Store store(files, buffer.clock, buffer.directory);
  store.Collect();
  const auto taken = Take(store, 2, 1);
  store.Flush();
  Put(store, {Generate(taken[0], 5, 1)});
  files.room = 10;
  CHECK_THROWS_AS(store.Flush(), Error);
  files.room = 1 << 30;
  Put(store, {Generate(taken[1], 7, 1)});
  store.Flush();
  CHECK(store.state().rollout(0).tokens == 0);
  CHECK(store.state().rollout(1).tokens == 7);
}

}  // namespace
}  // namespace april
