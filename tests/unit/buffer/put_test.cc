#include <catch2/catch.hpp>

#include "base/error.h"
#include "buffer_support.h"

namespace april {
namespace {

using buffer::GroupState;
using buffer::RolloutState;
using namespace test;

const buffer::RolloutMeta& MetaOf(const ScratchBuffer& scratch, uint64_t uid) { return scratch.state().rollout(*scratch.state().FindRollout(uid)); }

void CheckCounts(const buffer::PutCounts& counts, int64_t accepted, int64_t repeated, int64_t superseded, int64_t rejected) {
  INFO(counts.first_reject);
  CHECK(counts.accepted == accepted);
  CHECK(counts.repeated == repeated);
  CHECK(counts.superseded == superseded);
  CHECK(counts.rejected == rejected);
}

TEST_CASE("a rollout is resumed from its last journaled token, through progress, partials and a reopened buffer") {
  ScratchBuffer scratch;
  const record::Rollout issued = Take(*scratch.store, 1, 10)[0];
  CHECK(issued.status == record::Status::kQueued);
  CHECK(issued.lease == record::Lease{10, 1});
  CHECK(issued.group_size == 3);
  const record::Rollout a = Generate(issued, 5, 0);
  const record::Rollout b = Generate(a, 4, 0);
  CheckCounts(Put(*scratch.store, {Delta(issued, a), Delta(a, b)}), 2, 0, 0, 0);
  CHECK(MetaOf(scratch, issued.uid).state == RolloutState::kLeased);
  // The generator dies; its worker comes back.
  scratch.store->Transact([&](buffer::Batch& batch) { CHECK(buffer::ReleaseWorker(scratch.state(), batch, "w", 0, "reclaimed") == 1); });
  scratch.Reopen();
  const record::Rollout resumed = Take(*scratch.store, 1, 11)[0];
  CHECK(resumed.status == record::Status::kPartial);
  CHECK(resumed.tokens == b.tokens);
  CHECK(resumed.logprobs == b.logprobs);
  CHECK(resumed.lease == record::Lease{11, 2});
  // One policy version and one engine without interruption: one span and one segment, however it was journaled.
  CHECK(resumed.weight_versions.size() == 1);
  CHECK(resumed.segments.size() == 1);
  CHECK(resumed.segments[0].len == 9);

  const record::Rollout c = Generate(resumed, 3, 4);
  CheckCounts(Put(*scratch.store, {c}), 1, 0, 0, 0);
  const record::Rollout last = Take(*scratch.store, 1, 12)[0];
  CHECK(last.uid == issued.uid);
  CHECK(last.tokens == c.tokens);
  CHECK(last.weight_versions.size() == 2);
  CHECK(record::OldestVersion(last) == 0);
  CheckCounts(Put(*scratch.store, {Scored(Generate(last, 2, 5), 1)}), 1, 0, 0, 0);
  CHECK(MetaOf(scratch, issued.uid).state == RolloutState::kScored);
  CHECK(MetaOf(scratch, issued.uid).tokens == 14);
}

TEST_CASE("identical repeats are no-ops, late writers change nothing and are counted") {
  ScratchBuffer scratch;
  const record::Rollout issued = Take(*scratch.store, 1, 10)[0];
  const record::Rollout partial = Generate(issued, 5, 0);
  CheckCounts(Put(*scratch.store, {partial, partial}), 1, 1, 0, 0);
  CheckCounts(Put(*scratch.store, {partial}), 0, 1, 0, 0);
  // The next holder's work counts, the first one's does not.
  const record::Rollout again = Take(*scratch.store, 1, 11)[0];
  CheckCounts(Put(*scratch.store, {Generate(partial, 7, 0)}), 0, 0, 1, 0);
  CHECK(MetaOf(scratch, issued.uid).tokens == 5);
  // A part of what is journaled already is a repeat, whoever brings it.
  CheckCounts(Put(*scratch.store, {Delta(issued, partial)}), 0, 1, 0, 0);
  const record::Rollout done = Scored(Generate(again, 2, 1), 0.5);
  CheckCounts(Put(*scratch.store, {done}), 1, 0, 0, 0);
  CheckCounts(Put(*scratch.store, {done}), 0, 1, 0, 0);
  CheckCounts(Put(*scratch.store, {Scored(Generate(partial, 9, 0), 1)}), 0, 0, 1, 0);
  CHECK(scratch.state().totals().superseded == 2);
  CHECK(scratch.state().totals().superseded_tokens == 12 + 14);
  scratch.Reopen();
  CHECK(scratch.state().totals().superseded == 2);
  CHECK(MetaOf(scratch, issued.uid).reward == 0.5f);
}

TEST_CASE("records that do not continue what is journaled are rejected with the reason, and their rollouts return with what is") {
  ScratchBuffer scratch;
  const auto issued = Take(*scratch.store, 5, 10);
  std::vector<record::Rollout> base;
  for (const auto& rollout : issued) {
    base.push_back(Generate(rollout, 6, 0));
    Put(*scratch.store, {Delta(rollout, base.back())});
  }
  record::Rollout other_token = Generate(base[1], 1, 0);
  other_token.tokens[2] ^= 1;
  record::Rollout other_logprob = Generate(base[2], 1, 0);
  other_logprob.logprobs[3] = -0.125f;
  record::Progress gap = Delta(base[3], Generate(base[3], 2, 0));
  gap.start += 1;
  gap.weight_versions[0] = {0, 100, 7, 9, {}};
  gap.segments[0].start = 7;
  const auto counts = Put(*scratch.store, {Generate(issued[0], 3, 0), other_token, other_logprob, gap, Scored(Generate(base[4], 2, 0), 1)});
  CheckCounts(counts, 1, 0, 0, 4);
  CHECK_THAT(counts.first_reject, Catch::Contains("3 tokens, but 6 are journaled"));
  for (const int i : {0, 1, 2}) {
    CHECK(MetaOf(scratch, issued[static_cast<size_t>(i)].uid).state == RolloutState::kPartial);
    CHECK(MetaOf(scratch, issued[static_cast<size_t>(i)].uid).tokens == 6);
  }
  CHECK(MetaOf(scratch, issued[3].uid).state == RolloutState::kLeased);  // its generator goes on: the whole record is still to come
  CheckCounts(Put(*scratch.store, {Scored(Generate(base[3], 3, 0), 1)}), 1, 0, 0, 0);
}

TEST_CASE("records of another run, or that were never issued, are rejected; a defective one that tells its lease frees its rollout") {
  ScratchBuffer scratch;
  const auto issued = Take(*scratch.store, 2, 10);
  record::Rollout foreign = Scored(Generate(issued[0], 1, 0), 1);
  foreign.run = "another";
  foreign.lease->id = 11;
  CheckCounts(Put(*scratch.store, {foreign}), 0, 0, 0, 1);
  foreign.run = "test";
  foreign.uid = 12345;
  CheckCounts(Put(*scratch.store, {foreign}), 0, 0, 0, 1);
  CHECK(scratch.state().num_leased() == 2);
  stream::Value cut = stream::Decode(record::EncodeRecord(Scored(Generate(issued[1], 3, 0), 1)));
  stream::Set(std::get<stream::Map>(cut.held()), "logprobs", stream::Bin{"1234"});
  buffer::PutCounts counts;
  std::set<uint64_t> leases;
  scratch.store->Transact([&](buffer::Batch& batch) { buffer::PutRecord(*scratch.store, batch, stream::Encode(cut), &counts, &leases); });
  CheckCounts(counts, 0, 0, 0, 1);
  CHECK_THAT(counts.first_reject, Catch::Contains("logprobs"));
  CHECK(MetaOf(scratch, issued[1].uid).state == RolloutState::kQueued);
}

TEST_CASE("defective bytes are rejected, other record types ignored") {
  ScratchBuffer scratch;
  buffer::PutCounts counts;
  std::set<uint64_t> leases;
  record::Control control;
  control.kind = "take";
  control.values = {{"lease", uint64_t{77}}};
  scratch.store->Transact([&](buffer::Batch& batch) {
    buffer::PutRecord(*scratch.store, batch, "no msgpack", &counts, &leases);
    buffer::PutRecord(*scratch.store, batch, record::EncodeRecord(record::Metrics{}), &counts, &leases);
    buffer::PutRecord(*scratch.store, batch, record::EncodeRecord(control), &counts, &leases);
  });
  CheckCounts(counts, 0, 0, 0, 1);
  CHECK(leases == std::set<uint64_t>{77});
}

TEST_CASE("unknown keys of a record come out as they went in") {
  ScratchBuffer scratch;
  record::Rollout rollout = Generate(Take(*scratch.store, 1, 10)[0], 3, 0);
  rollout.unknown = {{"x_new", stream::Array{1, "two"}}};
  Put(*scratch.store, {rollout});
  CHECK(Take(*scratch.store, 1, 11)[0].unknown == rollout.unknown);
}

TEST_CASE("a group is ready when its members have ended and enough of them are scored; an error outcome is no score") {
  ScratchBuffer scratch;
  const auto issued = Take(*scratch.store, 6, 10);
  Put(*scratch.store, {Scored(Generate(issued[0], 2, 0), 1), Scored(Generate(issued[1], 2, 0), 0), Scored(Generate(issued[2], 2, 0), 0, "timeout")});
  CHECK(scratch.state().group(0).state == GroupState::kReady);
  CHECK(scratch.state().group(0).num_scored == 2);
  // One scored member is not enough: the group is stalled until another is scored again.
  Put(*scratch.store, {Scored(Generate(issued[3], 2, 0), 1), Failed(Generate(issued[4], 2, 0)), Scored(Generate(issued[5], 2, 0), 0, "error")});
  CHECK(scratch.state().group(1).state == GroupState::kOpen);
  CHECK(scratch.state().num_stalled() == 1);
  CHECK(scratch.state().NumViableGroups() == 1);
  CheckCounts(Put(*scratch.store, {Scored(Generate(issued[5], 2, 0), 1)}), 1, 0, 0, 0);
  CHECK(scratch.state().group(1).state == GroupState::kReady);
  CHECK(scratch.state().num_stalled() == 0);
  // Scored again before the claim: the newest reward holds.
  CheckCounts(Put(*scratch.store, {Scored(Generate(issued[5], 2, 0), 0.25)}), 1, 0, 0, 0);
  CHECK(MetaOf(scratch, issued[5].uid).reward == 0.25f);
  CHECK(scratch.state().group(1).num_scored == 2);
}

TEST_CASE("a worker that got a rollout twice cannot change it by its first lease") {
  ScratchBuffer scratch;
  const record::Rollout first = Take(*scratch.store, 1, 10)[0];
  Put(*scratch.store, {first});  // given back
  const record::Rollout second = Take(*scratch.store, 1, 10)[0];
  REQUIRE(second.uid == first.uid);
  REQUIRE(second.lease == record::Lease{10, 2});
  CheckCounts(Put(*scratch.store, {Scored(Generate(first, 2, 0), 1)}), 0, 0, 1, 0);
  CHECK(MetaOf(scratch, first.uid).state == RolloutState::kLeased);
  CheckCounts(Put(*scratch.store, {Scored(Generate(second, 2, 0), 1)}), 1, 0, 0, 0);
}

TEST_CASE("a complete rollout without a reward waits for one") {
  ScratchBuffer scratch;
  const record::Rollout rollout = Generate(Take(*scratch.store, 1, 10)[0], 2, 0);
  CheckCounts(Put(*scratch.store, {Complete(rollout)}), 1, 0, 0, 0);
  CHECK(MetaOf(scratch, rollout.uid).state == RolloutState::kComplete);
  CheckCounts(Put(*scratch.store, {Scored(rollout, 1)}), 1, 0, 0, 0);
  CHECK(MetaOf(scratch, rollout.uid).state == RolloutState::kScored);
}

TEST_CASE("a returned rollout without tokens is queued again") {
  ScratchBuffer scratch;
  const auto issued = Take(*scratch.store, 2, 10);
  CheckCounts(Put(*scratch.store, {issued[0]}), 1, 0, 0, 0);
  CHECK(MetaOf(scratch, issued[0].uid).state == RolloutState::kQueued);
  CheckCounts(Put(*scratch.store, {issued[0]}), 0, 1, 0, 0);
  CHECK(scratch.state().num_leased() == 1);
}

TEST_CASE("streams of another run, purpose or tokenizer are refused by their header") {
  const buffer::RunConfig config = SmallConfig();
  record::Header header = buffer::StreamHeader(config);
  CHECK_NOTHROW(buffer::CheckHeader(config, header));
  const auto kind = [&](auto change) {
    record::Header changed = header;
    change(changed);
    try {
      buffer::CheckHeader(config, changed);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::kStopped;
  };
  CHECK(kind([](record::Header& h) { h.purpose = "eval"; }) == ErrorKind::kUsage);
  CHECK(kind([](record::Header& h) { h.run = "another"; }) == ErrorKind::kIncompatible);
  CHECK(kind([](record::Header& h) { h.tokenizer = 8; }) == ErrorKind::kIncompatible);
}

}  // namespace
}  // namespace april
