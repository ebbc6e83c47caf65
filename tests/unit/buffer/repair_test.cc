// A journal that is broken in every way that there is: verify finds it, repair makes it sound, nothing is deleted.
#include <catch2/catch.hpp>
#include <map>

#include "base/error.h"
#include "buffer/audit.h"
#include "buffer/claiming.h"
#include "buffer/compaction.h"
#include "buffer/index_file.h"
#include "buffer/repairing.h"
#include "buffer/verification.h"
#include "buffer_support.h"
#include "memory_files.h"

namespace april {
namespace {

using namespace test;
using buffer::Store;

using Contents = std::map<std::string, std::string>;  // path → bytes

constexpr char kDirectory[] = "b";
const SetClock kClock;

Contents ContentsOf(MemoryFiles& files, const std::string& directory) {
  Contents contents;
  for (const std::string& name : files.List(directory)) contents[JoinPath(directory, name)] = ReadFile(files, JoinPath(directory, name));
  return contents;
}

Contents AllOf(MemoryFiles& files) {
  Contents contents = ContentsOf(files, kDirectory);
  contents.merge(ContentsOf(files, "b/journal"));
  for (int folder = 1; files.Exists("b/lost+found/" + std::to_string(folder)); ++folder)
    contents.merge(ContentsOf(files, "b/lost+found/" + std::to_string(folder)));
  return contents;
}

std::unique_ptr<MemoryFiles> FilesOf(const Contents& contents) {
  auto files = std::make_unique<MemoryFiles>();
  files->MakeDirectory(kDirectory);
  files->MakeDirectory("b/journal");
  for (const auto& [path, bytes] : contents) files->Create(path)->Append(bytes);
  files->RestartWhole();
  return files;
}

buffer::VerifyReport Verify(MemoryFiles& files) {
  buffer::VerifyOptions options;
  options.patience_ms = 0;
  return buffer::Verify(files, kClock, kDirectory, options);
}

/// Prompts, leases, progress, puts of every kind, a step that is committed, and one that is claimed.
Contents MakeBuffer(const buffer::JournalLimits& limits = {}) {
  MemoryFiles files;
  Store::Init(files, kClock, kDirectory, SmallConfig());
  Store store(files, kClock, kDirectory, {.journal = limits});
  AddPrompts(store, 6);
  const std::vector<record::Rollout> taken = Take(store, 6, 11);
  const record::Rollout begun = Generate(taken[0], 3, 1);
  Put(store, {Delta(taken[0], begun), Generate(taken[1], 4, 1)});
  Put(store, {Failed(Generate(taken[2], 2, 1)), Scored(Generate(taken[3], 5, 1), 1), Scored(Generate(taken[4], 6, 1), 0)});
  Put(store, {Scored(Generate(begun, 2, 1), 0.5), Scored(Generate(taken[5], 1, 1), 1)});
  const record::Rollout again = Take(store, 1, 12).at(0);
  Put(store, {Scored(Generate(again, 5, 2), 1)});
  for (int64_t step = 0; step < 2; ++step) {
    store.Transact([&](buffer::Batch& batch) { REQUIRE(buffer::MakeClaim(store.state(), batch, 2, std::nullopt).empty()); });
    if (step == 1) break;
    store.Transact([&](buffer::Batch& batch) { batch.Add(buffer::CommitEntry{store.state().FindClaim(0)->id, 0, 1, 99, true, "c"}); });
    std::vector<record::Record> records;
    for (const record::Rollout& rollout : Take(store, 6, 13)) records.push_back(Scored(Generate(rollout, 7, 1), 1));
    Put(store, records);
  }
  files.RestartWhole();
  return AllOf(files);
}

/// Repairs, and requires that all is sound then and no byte of the old files is gone.
buffer::RepairReport RequireRepairs(MemoryFiles& files, const Contents& before) {
  const buffer::RepairReport planned = buffer::Repair(files, kClock, kDirectory, {.dry_run = true});
  CHECK(AllOf(files) == before);
  const buffer::RepairReport report = buffer::Repair(files, kClock, kDirectory, {});
  CHECK(planned.actions.size() == report.actions.size());
  CHECK(planned.followed == report.followed);
  CHECK(planned.lost.size() == report.lost.size());
  const buffer::AuditReport audit = buffer::Audit(files, kDirectory);
  INFO(buffer::FindingsText(audit.findings));
  REQUIRE(audit.Clean());
  const buffer::VerifyReport verified = Verify(files);
  INFO(buffer::FindingsText(verified.findings));
  REQUIRE(verified.findings.empty());
  const Contents after = AllOf(files);
  for (const auto& [path, bytes] : before) {
    if (path == "b/manifest.json" || path.find(".lock") != std::string::npos) continue;
    const std::string name = path.substr(path.rfind('/') + 1);
    const auto kept = after.find(path);
    const std::string prefix = kept == after.end() ? "" : kept->second.substr(0, bytes.size());
    if (prefix == bytes) continue;
    bool found = false;
    for (const auto& [other, moved] : after) {
      if (other.find("lost+found") == std::string::npos || other.find(name) == std::string::npos) continue;
      for (size_t cut = 0; cut <= prefix.size() && !found; ++cut) found = prefix.substr(0, cut) + moved == bytes;
    }
    INFO(path);
    REQUIRE(found);
  }
  return report;
}

TEST_CASE("each byte of a journal that changes is found, and can be repaired", "[slow][heavy]") {
  const Contents whole = MakeBuffer();
  const std::string path = "b/journal/00000001.zst";
  REQUIRE(Verify(*FilesOf(whole)).findings.empty());
  for (size_t i = 0; i < whole.at(path).size(); ++i) {
    INFO("byte " << i << " of " << whole.at(path).size());
    Contents broken = whole;
    broken[path][i] = static_cast<char>(broken[path][i] ^ (1 << i % 8));
    const auto files = FilesOf(broken);
    const buffer::VerifyReport verified = Verify(*files);
    REQUIRE(verified.findings.count > 0);
    REQUIRE(verified.findings.kept[0].where.find("journal/00000001.zst") == 0);
    REQUIRE_FALSE(verified.findings.kept[0].remedy.empty());
    if (i % 3 == 0) RequireRepairs(*files, AllOf(*files));
  }
}

TEST_CASE("each byte of a manifest that changes is found, and the journal's files make a new one: nothing is lost", "[slow][heavy]") {
  buffer::JournalLimits limits;
  limits.segment_bytes = 600;
  const Contents whole = MakeBuffer(limits);
  const buffer::Accounts accounts = buffer::Audit(*FilesOf(whole), kDirectory).accounts;
  for (size_t i = 0; i + 1 < whole.at("b/manifest.json").size(); ++i) {
    INFO("byte " << i);
    Contents broken = whole;
    broken["b/manifest.json"][i] ^= 1;
    const auto files = FilesOf(broken);
    try {
      REQUIRE(Verify(*files).findings.count > 0);
      const buffer::RepairReport report = RequireRepairs(*files, AllOf(*files));
      REQUIRE(report.lost.empty());
      const buffer::Accounts after = buffer::Audit(*files, kDirectory).accounts;
      REQUIRE(after.trained == accounts.trained);
      REQUIRE(after.held == accounts.held);
    } catch (const Error& error) {
      REQUIRE(error.kind() == ErrorKind::kIncompatible);  // a min_reader that is higher is believed
    }
  }
  Contents missing = whole;
  missing.erase("b/manifest.json");
  const auto files = FilesOf(missing);
  RequireRepairs(*files, AllOf(*files));
}

TEST_CASE("a journal that is cut at any byte is repaired, and what was moved aside is the rest of it", "[heavy]") {
  const Contents whole = MakeBuffer();
  const std::string path = "b/journal/00000001.zst";
  for (size_t size = 0; size < whole.at(path).size(); size += 7) {
    INFO("size " << size);
    Contents broken = whole;
    broken[path].resize(size);
    const auto files = FilesOf(broken);
    RequireRepairs(*files, AllOf(*files));
  }
}

TEST_CASE("of several segments any may be missing or damaged, and files that nothing names are moved") {
  buffer::JournalLimits limits;
  limits.segment_bytes = 600;
  Contents whole = MakeBuffer(limits);
  whole["b/journal/00000077.zst"] = "left by a crash";
  int segments = 0;
  for (const auto& [path, bytes] : Contents(whole)) {
    if (path.find("b/journal/000000") != 0 || bytes.empty()) continue;
    ++segments;
    INFO(path);
    Contents missing = whole;
    missing.erase(path);
    auto files = FilesOf(missing);
    if (path != "b/journal/00000077.zst") {
      const buffer::VerifyReport verified = Verify(*files);
      REQUIRE(verified.findings.count == 1);
      CHECK(verified.findings.kept[0].what.find("missing") == 0);
    }
    RequireRepairs(*files, AllOf(*files));
    CHECK_FALSE(files->Exists("b/journal/00000077.zst"));
    Contents damaged = whole;
    damaged[path][bytes.size() / 2] ^= 1;
    files = FilesOf(damaged);
    RequireRepairs(*files, AllOf(*files));
  }
  CHECK(segments > 3);
}

TEST_CASE("what stands behind damage and does not need what is lost is journaled again") {
  MemoryFiles files;
  Store::Init(files, kClock, kDirectory, SmallConfig());
  Store store(files, kClock, kDirectory);
  AddPrompts(store, 4);
  const std::vector<record::Rollout> taken = Take(store, 6, 11);
  const auto size = [&] { return ReadFile(files, "b/journal/00000001.zst").size(); };
  const size_t begin = size();
  Put(store, {Scored(Generate(taken[0], 5, 1), 1)});
  const size_t end = size();
  std::vector<record::Record> others;
  for (size_t i = 1; i < taken.size(); ++i) others.push_back(Scored(Generate(taken[i], 5, 1), 1));
  Put(store, others);
  store.Transact([&](buffer::Batch& batch) { REQUIRE(buffer::MakeClaim(store.state(), batch, 2, std::nullopt).empty()); });
  files.RestartWhole();
  Contents broken = AllOf(files);
  broken["b/journal/00000001.zst"][(begin + end) / 2] ^= 1;
  const auto repaired = FilesOf(broken);
  const buffer::RepairReport report = RequireRepairs(*repaired, AllOf(*repaired));
  CHECK(report.followed == 5);
  REQUIRE(report.lost.size() == 2);  // the bytes, and the claim that names what was in them
  CHECK(report.lost[1].find("claim") != std::string::npos);
  CHECK(report.lost[1].find("one of its groups is not ready") != std::string::npos);
  CHECK(ReadFile(*repaired, "b/" + report.folder + "/report.txt").find("one of its groups is not ready") != std::string::npos);
  const Store again(*repaired, kClock, kDirectory);
  CHECK(again.state().num_leased() == 1);
  CHECK(again.state().ready().size() == 1);
}

TEST_CASE("damage in what a compaction wrote loses nothing while the files that it replaced are there") {
  auto files = FilesOf(MakeBuffer());
  const buffer::Accounts accounts = buffer::Audit(*files, kDirectory).accounts;
  buffer::Compact(*files, kClock, kDirectory);
  {
    Store store(*files, kClock, kDirectory);
    Take(store, 3, 21);
  }
  Contents broken = AllOf(*files);
  const std::string compacted = JoinPath(kDirectory, buffer::ReadManifest(*files, kDirectory).segments.front().name);
  broken.at(compacted)[broken.at(compacted).size() / 2] ^= 1;
  files = FilesOf(broken);
  CHECK(Verify(*files).findings.count == 1);
  const buffer::RepairReport report = RequireRepairs(*files, AllOf(*files));
  CHECK(report.lost.empty());
  const Store store(*files, kClock, kDirectory);
  CHECK(store.state().num_leased() == 3);
  CHECK(buffer::Audit(*files, kDirectory).accounts.trained == accounts.trained);
}

TEST_CASE("a repair that is killed at any moment can be run again, and still nothing is deleted") {
  buffer::JournalLimits limits;
  limits.segment_bytes = 600;
  Contents broken = MakeBuffer(limits);
  broken["b/journal/00000001.zst"][400] ^= 1;
  for (int64_t after = 1;; ++after) {
    INFO("power is lost after operation " << after);
    auto files = FilesOf(broken);
    files->lose_power_at = files->operations + after;
    bool done = false;
    try {
      buffer::Repair(*files, kClock, kDirectory, {});
      done = true;
    } catch (const PowerLost&) {
    }
    files->Restart(static_cast<uint64_t>(after));
    const Contents between = AllOf(*files);
    buffer::Repair(*files, kClock, kDirectory, {});
    REQUIRE(buffer::Audit(*files, kDirectory).Clean());
    std::string all;
    for (const auto& [path, bytes] : AllOf(*files)) all += bytes;
    for (const auto& [path, bytes] : broken) {
      if (path.find("journal/") == std::string::npos || bytes.size() < 72) continue;
      INFO(path);
      REQUIRE(all.find(bytes.substr(bytes.size() - 40)) != std::string::npos);  // its last frame, wherever it is now
    }
    if (done) break;
  }
}

TEST_CASE("an index that says otherwise than the journal is found, and moved aside") {
  const auto files = FilesOf(MakeBuffer());
  buffer::StoreOptions options;
  options.index_bytes = 0;
  Take(*std::make_unique<Store>(*files, kClock, kDirectory, options), 1, 21);
  std::optional<buffer::Index> index = buffer::ReadIndex(*files, kDirectory);
  REQUIRE(index);
  CHECK(Verify(*files).findings.empty());
  buffer::DecodedEntry spoil;
  spoil.entry = buffer::ReleaseEntry{21, "ended", index->state.leases().at(21).last_uids};
  index->state.Apply(spoil, {});
  buffer::WriteIndex(*files, kDirectory, index->point, index->state);
  const buffer::VerifyReport report = Verify(*files);
  REQUIRE(report.findings.count == 1);
  CHECK(report.findings.kept[0].where == "index");
  RequireRepairs(*files, AllOf(*files));
  CHECK_FALSE(files->Exists("b/index"));
  CHECK(Store(*files, kClock, kDirectory).state().num_leased() == 1);
}

TEST_CASE("repair of a sound buffer changes nothing") {
  const auto files = FilesOf(MakeBuffer());
  const Contents before = AllOf(*files);
  const buffer::RepairReport report = buffer::Repair(*files, kClock, kDirectory, {});
  CHECK(report.actions.empty());
  CHECK(report.folder.empty());
  Contents after = AllOf(*files);
  std::erase_if(after, [&](const auto& item) { return !before.contains(item.first); });  // locks
  CHECK(after == before);
}

}  // namespace
}  // namespace april
