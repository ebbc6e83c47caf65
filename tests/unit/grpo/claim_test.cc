// Claims through a real stream, and what is refused.
#include "grpo/claim.h"

#include <catch2/catch.hpp>

#include "base/error.h"
#include "fixtures.h"

using namespace april;
using namespace april::grpo;

namespace {

/// Reads every claim of a stream of these records.
std::vector<Claim> ReadAll(const std::vector<record::Record>& records) {
  const ScratchDirectory scratch;
  record::RecordWriter writer(scratch / "claims", TestHeader(), {});
  for (const record::Record& record : records) writer.Write(record);
  writer.Finish();
  ClaimReader reader(scratch / "claims", {});
  std::vector<Claim> claims;
  while (auto claim = reader.Next()) claims.push_back(std::move(*claim));
  return claims;
}

std::vector<record::Record> Records(const Claim& claim) {
  std::vector<record::Record> records{claim.control};
  for (const ClaimGroup& group : claim.groups) {
    records.push_back(group.group);
    for (const auto& rollout : group.rollouts) records.push_back(rollout);
  }
  return records;
}

}  // namespace

TEST_CASE("a written claim reads back the same") {
  const ScratchDirectory scratch;
  const Claim claim = MakeMixedClaim(3, true);
  WriteClaim(claim, TestHeader(), scratch / "claim");
  ClaimReader reader(scratch / "claim", {});
  const auto back = reader.Next();
  REQUIRE(back);
  CHECK(back->id == claim.id);
  CHECK(back->step == 3);
  CHECK(back->replay);
  REQUIRE(back->groups.size() == claim.groups.size());
  for (size_t g = 0; g < claim.groups.size(); ++g) {
    CHECK(back->groups[g].group == claim.groups[g].group);
    CHECK(back->groups[g].rollouts == claim.groups[g].rollouts);
  }
  CHECK(!reader.Next());
}

TEST_CASE("several claims follow one another, and other records are passed over") {
  auto records = Records(MakeMixedClaim(0));
  records.push_back(record::Metrics{});
  const auto more = Records(MakeMixedClaim(1));
  records.insert(records.end(), more.begin(), more.end());
  const auto claims = ReadAll(records);
  REQUIRE(claims.size() == 2);
  CHECK(claims[1].step == 1);
}

TEST_CASE("a claim that is not whole is refused") {
  auto records = Records(MakeMixedClaim(0));
  SECTION("a member is missing at the end") { records.pop_back(); }
  SECTION("a member is missing in the middle") { records.erase(records.begin() + 3); }
  SECTION("a whole group is missing") { records.erase(records.end() - 4, records.end()); }
  SECTION("a rollout of another group") { std::swap(records[3], records[7]); }
  SECTION("a rollout twice") { records[3] = records[2]; }
  SECTION("a rollout in two groups") { std::get<record::Rollout>(records[7]).uid = std::get<record::Rollout>(records[3]).uid; }
  SECTION("a group twice") { std::copy(records.begin() + 1, records.begin() + 5, records.begin() + 5); }
  SECTION("the head is missing") { records.erase(records.begin()); }
  SECTION("a count that disagrees") { stream::Set(std::get<record::Control>(records[0]).values, "rollouts", 8); }
  SECTION("a group of another claim") { std::get<record::Group>(records[1]).claim = "other"; }
  SECTION("no step") { std::get<record::Control>(records[0]).values.erase(std::get<record::Control>(records[0]).values.begin() + 1); }
  try {
    ReadAll(records);
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kData);
  }
}

TEST_CASE("what comes twice in a claim is named with both places") {
  auto records = Records(MakeMixedClaim(0));
  SECTION("a rollout") {
    std::get<record::Rollout>(records[7]).uid = std::get<record::Rollout>(records[3]).uid;
    CHECK_THROWS_WITH(ReadAll(records),
                      "claim claim0 of step 0, group 0000000000000002 contains rollout 00000000000003e9, which group "
                      "0000000000000001 contains, too");
  }
  SECTION("a group") {
    std::copy(records.begin() + 1, records.begin() + 5, records.begin() + 5);
    CHECK_THROWS_WITH(ReadAll(records), "claim claim0 of step 0, group 0000000000000001 comes twice");
  }
}

TEST_CASE("a claim's id can be a part of a file's name, or the claim is refused") {
  const auto read = [](const std::string& id) {
    Claim claim = MakeMixedClaim(0);
    claim.control.values[0].second = id;
    for (ClaimGroup& group : claim.groups) group.group.claim = id;
    return ReadAll(Records(claim)).at(0).id;
  };
  for (const std::string& id : {std::string("0011223344556677"), std::string("..step 7, anew"), std::string(128, 'x')}) CHECK(read(id) == id);
  for (const std::string& id : {std::string(), std::string("../../claim"), std::string("a\0b", 3), std::string("a\nb"), std::string(129, 'x')}) {
    CHECK_THROWS_WITH(read(id), Catch::StartsWith("a claim's id is '"));
  }
}
