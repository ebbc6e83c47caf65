#include "grpo/claim.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"

namespace april::grpo {
namespace {

std::string Name(const Claim& claim) { return "claim " + claim.id + " of step " + std::to_string(claim.step); }

const stream::Value& Need(const stream::Map& values, const char* key) {
  const stream::Value* value = stream::Find(values, key);
  if (value == nullptr) throw Error::Data(std::string("a claim's control record has no key '") + key + "'");
  return *value;
}

std::optional<uint64_t> FindUint(const stream::Map& values, const char* key) {
  const stream::Value* value = stream::Find(values, key);
  if (value == nullptr || value->is_nil()) return std::nullopt;
  return value->AsUint();
}

/// An id becomes a part of a file's name. Throws Data.
const std::string& CheckedId(const std::string& id) {
  constexpr size_t kMaxBytes = 128;
  const bool good = !id.empty() && id.size() <= kMaxBytes &&
                    std::none_of(id.begin(), id.end(), [](char c) { return c == '/' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  if (!good) {
    throw Error::Data("a claim's id is '" + id.substr(0, kMaxBytes) + "', expected 1 to " + std::to_string(kMaxBytes) +
                      " bytes without '/' and control characters");
  }
  return id;
}

Claim ParseHead(record::Control control) {
  Claim claim;
  claim.id = CheckedId(Need(control.values, "claim").AsString());
  claim.step = Need(control.values, "step").AsInt();
  if (const stream::Value* replay = stream::Find(control.values, "replay")) claim.replay = replay->AsBool();
  claim.trained_weights = FindUint(control.values, "trained_weights");
  claim.control = std::move(control);
  return claim;
}

/// What to do about a claim whose content is wrong; what was cut off or damaged on its way has hints of its own.
Error WithWayOut(const Error& error) {
  if (error.kind() != ErrorKind::kData || !error.hint().empty()) return error;
  return error.WithHint(
      "the claim is still in the buffer, and nothing of it was trained: give it again with `partial-buffer claim`; if it is wrong there too, "
      "`partial-buffer abandon -s DIR CLAIM`, then `partial-buffer drop -s DIR --reason TEXT GROUP` leaves the group out");
}

}  // namespace

int64_t Claim::NumRollouts() const {
  int64_t count = 0;
  for (const ClaimGroup& group : groups) count += static_cast<int64_t>(group.rollouts.size());
  return count;
}

Claim ClaimOf(std::vector<record::Record> records) {
  Claim claim = ParseHead(std::move(std::get<record::Control>(records.at(0))));
  for (record::Record& record : records) {
    if (auto* group = std::get_if<record::Group>(&record)) claim.groups.push_back({std::move(*group), {}});
    if (auto* rollout = std::get_if<record::Rollout>(&record)) claim.groups.back().rollouts.push_back(std::move(*rollout));
  }
  return claim;
}

std::optional<Claim> ClaimReader::Next() {
  try {
    return ReadClaim();
  } catch (const Error& error) {
    throw WithWayOut(error);
  }
}

std::optional<Claim> ClaimReader::ReadClaim() {
  std::optional<Claim> claim;
  std::map<uint64_t, uint64_t> group_of;
  int64_t num_groups = 0, num_rollouts = 0;
  while (true) {
    if (claim && static_cast<int64_t>(claim->groups.size()) == num_groups) break;
    auto record = records_.Next();
    if (!record) {
      if (!claim) return std::nullopt;
      throw Error::Data(Name(*claim) + " ends after " + std::to_string(claim->groups.size()) + " of " + std::to_string(num_groups) + " groups");
    }
    if (auto* control = std::get_if<record::Control>(&*record)) {
      if (control->kind != "claim") continue;
      if (claim) throw Error::Data(Name(*claim) + " is cut short by another claim's control record");
      claim = ParseHead(std::move(*control));
      num_groups = Need(claim->control.values, "groups").AsInt();
      num_rollouts = Need(claim->control.values, "rollouts").AsInt();
    } else if (std::holds_alternative<record::Group>(*record) || std::holds_alternative<record::Rollout>(*record)) {
      if (!claim) throw Error::Data("a rollout or group stands outside any claim", "feed grpo-step from `partial-buffer claim`");
      ReadGroup(&*claim, &group_of, std::move(*record));
    } else {
      log::WarnOnce("grpo.other-record", "records that are not part of a claim are left out");
    }
  }
  if (claim->NumRollouts() != num_rollouts) {
    throw Error::Data(Name(*claim) + " announces " + std::to_string(num_rollouts) + " rollouts and has " + std::to_string(claim->NumRollouts()));
  }
  return claim;
}

void ClaimReader::ReadGroup(Claim* claim, std::map<uint64_t, uint64_t>* group_of, record::Record record) {
  auto* head = std::get_if<record::Group>(&record);
  if (head == nullptr) throw Error::Data(Name(*claim) + ": rollout " + HexU64(std::get<record::Rollout>(record).uid) + " stands before its group");
  const std::string name = Name(*claim) + ", group " + HexU64(head->group_id);
  if (head->claim != claim->id) throw Error::Data(name + " belongs to claim '" + head->claim + "'");
  const bool repeated = std::any_of(claim->groups.begin(), claim->groups.end(), [&](const auto& g) { return g.group.group_id == head->group_id; });
  if (repeated) throw Error::Data(name + " comes twice");
  ClaimGroup group{std::move(*head), {}};
  for (int64_t i = 0; i < group.group.members; ++i) {
    auto member = records_.Next();
    auto* rollout = member ? std::get_if<record::Rollout>(&*member) : nullptr;
    if (rollout == nullptr) {
      throw Error::Data(name + " announces " + std::to_string(group.group.members) + " members and has " + std::to_string(i));
    }
    if (rollout->group_id != group.group.group_id)
      throw Error::Data(name + " contains rollout " + HexU64(rollout->uid) + " of group " + HexU64(rollout->group_id));
    if (const auto [other, first] = group_of->try_emplace(rollout->uid, rollout->group_id); !first) {
      throw Error::Data(name + " contains rollout " + HexU64(rollout->uid) +
                        (other->second == rollout->group_id ? " twice" : ", which group " + HexU64(other->second) + " contains, too"));
    }
    group.rollouts.push_back(std::move(*rollout));
  }
  claim->groups.push_back(std::move(group));
}

void WriteClaim(const Claim& claim, const record::Header& header, const std::string& path) {
  record::RecordWriter writer(path, header, {});
  writer.Write(claim.control);
  for (const ClaimGroup& group : claim.groups) {
    writer.Write(group.group);
    for (const record::Rollout& rollout : group.rollouts) writer.Write(rollout);
  }
  writer.Finish();
}

}  // namespace april::grpo
