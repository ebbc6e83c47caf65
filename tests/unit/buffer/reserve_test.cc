#include <algorithm>
#include <catch2/catch.hpp>

#include "base/error.h"
#include "buffer/buffer_manifest.h"
#include "buffer/claiming.h"
#include "buffer/compaction.h"
#include "buffer/hub.h"
#include "buffer/map_fields.h"
#include "buffer_support.h"
#include "failing_files.h"

namespace april {
namespace {

using buffer::Room;
using buffer::Store;
using test::FailingFiles;
using test::ScratchBuffer;
using test::ScratchDir;

constexpr int64_t kReserveBytes = 100'000;

buffer::StoreOptions SmallReserve() {
  buffer::StoreOptions options;
  options.reserve_bytes = kReserveBytes;
  return options;
}

/// A buffer with prompts on a disk that can be full; no reserve is set aside yet.
struct FullDisk {
  FullDisk() {
    Store::Init(SystemFiles(), scratch_clock, directory, test::SmallConfig());
    SystemFiles().Remove(ReservePath());
    Store store(files, scratch_clock, directory, SmallReserve());
    test::AddPrompts(store, 12);
  }
  std::string ReservePath() const { return JoinPath(directory, "reserve"); }
  bool HasReserve() const { return SystemFiles().Exists(ReservePath()); }

  ScratchDir scratch;
  test::SetClock scratch_clock;
  std::string directory = scratch.Path("b");
  FailingFiles files;
};

void PutOne(Store& store, const record::Rollout& rollout) {
  buffer::PutCounts counts;
  std::set<uint64_t> leases;
  store.Transact([&](buffer::Batch& batch) { buffer::PutRecord(store, batch, record::EncodeRecord(rollout), &counts, &leases); });
  REQUIRE(counts.accepted == 1);
}

TEST_CASE("a new buffer has room in reserve, really set aside") {
  ScratchDir scratch;
  test::SetClock clock;
  Store::Init(SystemFiles(), clock, scratch.Path("b"), test::SmallConfig());
  CHECK(SystemFiles().OpenForRead(scratch.Path("b/reserve"))->Size() == buffer::StoreOptions().reserve_bytes);
  struct stat info = {};
  REQUIRE(::stat(scratch.Path("b/reserve").c_str(), &info) == 0);
  CHECK(static_cast<uint64_t>(info.st_blocks) * 512 >= buffer::StoreOptions().reserve_bytes);
}

TEST_CASE("on a full disk what comes back is kept in the reserve's place, and nothing more is given out until there is room again") {
  FullDisk disk;
  CHECK(disk.HasReserve());  // of the first writer that found room
  Store store(disk.files, disk.scratch_clock, disk.directory, SmallReserve());
  const auto rollouts = test::Take(store, 6, 5);
  disk.files.room = 10;
  CHECK_THROWS_WITH(test::Take(store, 1, 6), Catch::Contains("No space left"));
  CHECK(disk.HasReserve());  // a take must not use it up
  PutOne(store, test::Scored(test::Generate(rollouts[0], 3, 0), 1));
  CHECK_FALSE(disk.HasReserve());
  for (size_t i = 1; i < rollouts.size(); ++i) PutOne(store, test::Scored(test::Generate(rollouts[i], 3, 0), 1));
  std::string waits_for;
  store.Transact([&](buffer::Batch& batch) { waits_for = buffer::MakeClaim(store.state(), batch, 2, std::nullopt); });
  CHECK(waits_for.empty());
  record::Step step;
  step.claim = store.state().FindClaim(0)->id;
  step.version = 1;
  store.Transact([&](buffer::Batch& batch) { CHECK(buffer::CommitStep(store.state(), batch, step)); });

  Store other(disk.files, disk.scratch_clock, disk.directory, SmallReserve());
  CHECK(other.state().first_uncommitted_step() == 1);
  CHECK_THROWS_WITH(test::Take(other, 1, 7), Catch::Contains("nothing is given out or added while no room is in reserve"));
  CHECK_THROWS_WITH(test::Take(store, 1, 7), Catch::Contains("nothing is given out or added while no room is in reserve"));
  disk.files.room = 2 * kReserveBytes;
  CHECK(test::Take(other, 1, 8).size() == 1);
  CHECK(disk.HasReserve());
  CHECK(test::Take(store, 1, 9).size() == 1);
}

TEST_CASE("what the reserve has no room for either is refused, and nothing of it is left") {
  FullDisk disk;
  Store store(disk.files, disk.scratch_clock, disk.directory, SmallReserve());
  const auto rollouts = test::Take(store, 2, 5);
  const uint64_t size = store.journal().size_bytes();
  disk.files.room = 10;
  record::Rollout large = test::Scored(test::Generate(rollouts[0], 3, 0), 1);
  large.label = std::string();
  for (uint64_t i = 0; i < 4 * kReserveBytes; ++i) *large.label += static_cast<char>('a' + Mix64(i) % 26);
  buffer::PutCounts counts;
  std::set<uint64_t> leases;
  const std::string bytes = record::EncodeRecord(large);
  CHECK_THROWS_WITH(store.Transact([&](buffer::Batch& batch) { buffer::PutRecord(store, batch, bytes, &counts, &leases); }),
                    Catch::Contains("No space left"));
  store.Refresh();
  CHECK(store.journal().size_bytes() == size);
  CHECK(store.state().num_leased() == 2);
  PutOne(store, test::Scored(test::Generate(rollouts[1], 3, 0), 1));  // a smaller one finds room
}

TEST_CASE("a full segment is closed on a full disk, too") {
  FullDisk disk;
  buffer::StoreOptions options = SmallReserve();
  options.journal.segment_bytes = 1;
  Store store(disk.files, disk.scratch_clock, disk.directory, options);
  const auto rollouts = test::Take(store, 2, 5);
  for (const record::Rollout& rollout : rollouts) {
    disk.files.room = 0;
    PutOne(store, test::Scored(test::Generate(rollout, 3, 0), 1));
    disk.files.room = 2 * kReserveBytes;
    CHECK(store.MakeReserve());
  }
  Store again(disk.files, disk.scratch_clock, disk.directory, options);
  CHECK(again.state().num_leased() == 0);
  CHECK(again.journal().manifest().segments.size() >= 4);
}

TEST_CASE("a failed sync is never tried again, also when there is no room, and frees no reserve") {
  FullDisk disk;
  Store store(disk.files, disk.scratch_clock, disk.directory, SmallReserve());
  const auto rollouts = test::Take(store, 1, 5);
  disk.files.syncs_to_fail = 1;
  CHECK_THROWS_WITH(PutOne(store, test::Scored(test::Generate(rollouts[0], 3, 0), 1)), Catch::Contains("cannot sync"));
  CHECK(disk.files.syncs_to_fail == 0);
  CHECK(disk.HasReserve());
  CHECK_THROWS_WITH(store.CheckWritable(), Catch::Contains("cannot sync"));
}

TEST_CASE("a compaction that finds no room changes nothing and takes none away") {
  FullDisk disk;
  Store store(disk.files, disk.scratch_clock, disk.directory, SmallReserve());
  for (const record::Rollout& rollout : test::Take(store, 6, 5)) PutOne(store, test::Scored(test::Generate(rollout, 40, 0), 1));
  for (const int64_t room : {0, 500, 1500, 3000}) {
    disk.files.room = room;
    CHECK_THROWS_WITH(buffer::Compact(disk.files, disk.scratch_clock, disk.directory, {.lock_timeout_ms = 1000}), Catch::Contains("No space left"));
    const buffer::Manifest manifest = buffer::ReadManifest(SystemFiles(), disk.directory);
    CHECK(manifest.compactions == 0);
    for (const std::string& name : SystemFiles().List(JoinPath(disk.directory, "journal"))) {
      INFO(name << " with room for " << room);
      const bool named =
          std::any_of(manifest.segments.begin(), manifest.segments.end(), [&](const auto& segment) { return segment.name == "journal/" + name; });
      CHECK((named || SystemFiles().OpenForRead(JoinPath(disk.directory, "journal/" + name))->Size() == 0));
    }
    disk.files.room = 1 << 20;
    CHECK(Store(disk.files, disk.scratch_clock, disk.directory).state().ready().size() == 2);
  }
  buffer::Compact(disk.files, disk.scratch_clock, disk.directory, {.lock_timeout_ms = 1000});
  CHECK(Store(disk.files, disk.scratch_clock, disk.directory).state().ready().size() == 2);
}

std::string Ask(buffer::Hub& hub, uint64_t request, size_t expected_rollouts) {
  const stream::Map answer = hub.Answer({{"op", "lease"},
                                         {"session", uint64_t{1}},
                                         {"worker", "g"},
                                         {"role", "generate"},
                                         {"request", request},
                                         {"want", int64_t{1}},
                                         {"held", stream::Array{}},
                                         {"version", stream::Value()}});
  const buffer::MapFields fields(answer, "answer");
  CHECK(fields.Array("rollouts").size() == expected_rollouts);
  return fields.Text("demand");
}

TEST_CASE("generators of a hub pause while its disk is full") {
  FullDisk disk;
  Store store(disk.files, disk.scratch_clock, disk.directory, SmallReserve());
  store.BeginServing("zmq+ipc://hub");
  buffer::Hub hub(store, {});
  CHECK(Ask(hub, 1, 1) == "go");
  disk.files.room = 10;
  CHECK(Ask(hub, 2, 1) == "go");  // this one had to free the reserve
  CHECK_FALSE(disk.HasReserve());
  CHECK(Ask(hub, 3, 0) == "pause");
  disk.scratch_clock.now_ns += 2'000'000'000;
  hub.Tick();
  CHECK(Ask(hub, 4, 0) == "pause");
  CHECK(store.state().num_leased() == 2);
  disk.files.room = 2 * kReserveBytes;
  disk.scratch_clock.now_ns += 2'000'000'000;
  hub.Tick();
  CHECK(Ask(hub, 5, 1) == "go");
  CHECK(disk.HasReserve());
  // A put that had to free the reserve tells the same.
  disk.files.room = 10;
  PutOne(store, test::Scored(test::Generate(store.ReadRollout(*store.state().FindRollout(store.state().leases().at(1).last_uids.at(0))), 3, 0), 1));
  hub.Tick();
  CHECK(hub.CurrentDemand() == buffer::Demand::kPause);
  disk.scratch_clock.now_ns += 2'000'000'000;
  hub.Tick();
  CHECK(hub.CurrentDemand() == buffer::Demand::kPause);
  disk.files.room = 2 * kReserveBytes;
  disk.scratch_clock.now_ns += 2'000'000'000;
  hub.Tick();
  CHECK(hub.CurrentDemand() == buffer::Demand::kGo);
}

}  // namespace
}  // namespace april
