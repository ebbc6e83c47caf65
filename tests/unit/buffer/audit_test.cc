// What audit proves, and that it does not prove it of a journal that is wrong.
#include <catch2/catch.hpp>

#include "base/error.h"
#include "buffer/audit.h"
#include "buffer/claiming.h"
#include "buffer/compaction.h"
#include "buffer_support.h"

namespace april {
namespace {

using namespace test;
using buffer::AuditReport;

/// One step's worth of everything: progress, a resume, a failure, a late record, a rescore, a claim, its commit; then a step that is under way.
void Work(ScratchBuffer& b) {
  buffer::Store& store = *b.store;
  std::vector<record::Rollout> taken = Take(store, 6, 11);
  const record::Rollout early = Generate(taken[0], 3, 1);
  Put(store, {Delta(taken[0], early), Generate(taken[1], 4, 1), Failed(Generate(taken[2], 2, 1)), Scored(Generate(taken[3], 5, 1), 1)});
  Put(store, {Scored(Generate(early, 2, 1), 0.5), Scored(Generate(taken[4], 6, 1), 0, "timeout"), Scored(Generate(taken[5], 1, 1), 1)});
  Put(store, {Scored(Generate(taken[4], 6, 1), 0.25)});
  std::vector<record::Rollout> again = Take(store, 1, 12);
  REQUIRE(again.at(0).uid == taken[1].uid);
  Put(store, {Generate(taken[1], 9, 1), Scored(Generate(again[0], 5, 2), 1)});
  std::string waits;
  store.Transact([&](buffer::Batch& batch) { waits = buffer::MakeClaim(store.state(), batch, 2, std::nullopt); });
  REQUIRE(waits.empty());
}

record::Step StepOf(const buffer::Store& store, int64_t step) {
  record::Step record;
  record.claim = store.state().FindClaim(step)->id;
  record.step = step;
  record.version = static_cast<uint64_t>(step) + 1;
  record.weights = 99;
  return record;
}

void Commit(ScratchBuffer& b, int64_t step, const std::optional<std::string>& checkpoint = std::nullopt) {
  const record::Step record = StepOf(*b.store, step);
  b.store->Transact([&](buffer::Batch& batch) {
    batch.Add(buffer::CommitEntry{record.claim, record.step, record.version, record.weights, true, checkpoint}, record::EncodeRecord(record));
  });
}

AuditReport Audit(const ScratchBuffer& b) { return buffer::Audit(SystemFiles(), b.directory); }

std::string Told(const AuditReport& report) { return buffer::FindingsText(report.findings); }

/// The journal with one more transaction, whatever the state says of it.
void Force(const ScratchBuffer& b, const buffer::Entry& entry, std::string_view payload = {}) {
  std::string raw;
  buffer::AppendEntry(entry, 1, payload, &raw);
  buffer::Journal journal(SystemFiles(), b.directory);
  REQUIRE(journal.ReadNew([](std::string_view, buffer::Position) {}));
  journal.Append(raw, 1);
  journal.Sync();
}

void RequireWrong(const ScratchBuffer& b, const std::string& what) {
  const AuditReport report = Audit(b);
  INFO(Told(report));
  CHECK_FALSE(report.Clean());
  CHECK(Told(report).find(what) != std::string::npos);
  CHECK(Told(report).find("repair would: keep everything before this frame") != std::string::npos);
}

TEST_CASE("the accounts balance at every moment, and name what became of each token") {
  ScratchBuffer b;
  CHECK(Audit(b).Clean());
  Work(b);
  AuditReport report = Audit(b);
  INFO(Told(report));
  CHECK(report.Clean());
  CHECK(report.accounts.superseded == buffer::Account{1, 9});
  CHECK(report.accounts.journaled == buffer::Account{7, 5 + 9 + 2 + 5 + 6 + 1 + 9});
  CHECK(report.accounts.held == buffer::Account{6, 28});
  Commit(b, 0);
  report = Audit(b);
  INFO(Told(report));
  CHECK(report.Clean());
  CHECK(report.accounts.trained == buffer::Account{5, 26});
  CHECK(report.accounts.dropped == std::map<std::string, buffer::Account>{{"failed", {1, 2}}});
  CHECK(report.accounts.held == buffer::Account{});
}

TEST_CASE("what a compaction leaves has the same accounts, forgotten groups too") {
  ScratchBuffer b;
  for (int64_t step = 0; step < 3; ++step) {
    Work(b);
    Commit(b, step, "checkpoint-" + std::to_string(step));
  }
  const AuditReport before = Audit(b);
  REQUIRE(before.Clean());
  CHECK(before.accounts.trained == buffer::Account{15, 78});
  buffer::Compact(SystemFiles(), b.clock, b.directory);
  const AuditReport after = Audit(b);
  INFO(Told(after));
  CHECK(after.Clean());
  CHECK(after.entries < before.entries);
  CHECK(after.accounts.journaled == before.accounts.journaled);
  CHECK(after.accounts.trained == before.accounts.trained);
  CHECK(after.accounts.dropped == before.accounts.dropped);
  CHECK(after.accounts.superseded == before.accounts.superseded);
  b.Reopen();
  const std::vector<record::Rollout> next = Take(*b.store, 3, 77);
  Put(*b.store, {Scored(Generate(next.at(0), 4, 3), 1)});
  buffer::Compact(SystemFiles(), b.clock, b.directory);
  CHECK(Audit(b).Clean());
}

TEST_CASE("a claim that trains a rollout again is found") {
  ScratchBuffer b;
  Work(b);
  Commit(b, 0);
  const auto& [admission, group] = *b.state().groups().begin();
  std::vector<uint64_t> scored;
  for (const buffer::RolloutMeta& member : group.members) {
    if (member.state == buffer::RolloutState::kScored) scored.push_back(member.uid);
  }
  Force(b, buffer::ClaimEntry{"00000000000000ff", 1, std::nullopt, 1, {{group.group_id, scored}}});
  Force(b, buffer::CommitEntry{"00000000000000ff", 1, 2, 3, true, std::nullopt});
  RequireWrong(b, "trained twice");
}

TEST_CASE("a commit without its claim, and a second one with other weights, are found") {
  ScratchBuffer b;
  Work(b);
  SECTION("no claim") {
    Force(b, buffer::CommitEntry{"00000000000000ff", 0, 1, 2, true, std::nullopt});
    RequireWrong(b, "there is no claim 00000000000000ff");
  }
  SECTION("other weights") {
    Commit(b, 0);
    Force(b, buffer::CommitEntry{b.state().FindClaim(0)->id, 0, 1, 98, true, std::nullopt});
    RequireWrong(b, "it has other weights");
  }
}

TEST_CASE("a record that has lost journaled tokens is found, though its entry says otherwise") {
  ScratchBuffer b;
  const record::Rollout taken = Take(*b.store, 1, 5).at(0);
  const record::Rollout partial = Generate(taken, 6, 1);
  Put(*b.store, {Delta(taken, partial)});
  record::Rollout other = partial;
  other.tokens[2] ^= 1;
  const buffer::RolloutMeta meta = b.state().rollout(*b.state().FindRollout(taken.uid));
  buffer::RolloutEntry entry;
  entry.uid = taken.uid;
  entry.lease = taken.lease;
  entry.state = buffer::RolloutState::kPartial;
  entry.tokens = 6;
  entry.chain = meta.chain;
  entry.oldest = entry.newest = 1;
  Force(b, entry, record::EncodeRecord(other));
  RequireWrong(b, "they are lost");
}

TEST_CASE("groups that leave the queue out of turn, or twice, are found") {
  ScratchBuffer b;
  Take(*b.store, 3, 5);
  const buffer::GroupMeta group = b.state().groups().begin()->second;
  buffer::OpenedGroup opened{group.group_id, group.prompt, group.epoch, {}};
  for (const buffer::RolloutMeta& member : group.members) opened.uids.push_back(member.uid);
  Force(b, buffer::LeaseEntry{6, "w", 1, false, 0, {opened}, {}});
  RequireWrong(b, "opened twice");
}

}  // namespace
}  // namespace april
