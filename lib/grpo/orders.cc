#include "grpo/orders.h"

#include <string>
#include <utility>
#include <vector>

namespace april::grpo {

// An order is a line of JSON, which says how long the claim's records are, and then those records.

void GiveOrder(ranks::Ranks& ranks, Order::Kind kind, const Claim* claim, uint64_t weights, bool stopped) {
  if (ranks.size() == 1) return;
  std::string records;
  Json sizes = Json::array();
  const auto add = [&](const record::Record& record) {
    const std::string bytes = record::EncodeRecord(record);
    sizes.push_back(bytes.size());
    records += bytes;
  };
  if (claim != nullptr) {
    add(claim->control);
    for (const ClaimGroup& group : claim->groups) {
      add(group.group);
      for (const record::Rollout& rollout : group.rollouts) add(rollout);
    }
  }
  const Json head = {{"kind", static_cast<int>(kind)}, {"weights", weights}, {"stopped", stopped}, {"sizes", std::move(sizes)}};
  ranks.Broadcast(head.dump() + "\n" + records, ranks::Ranks::Patience::kWhileAlive);
}

Order TakeOrder(ranks::Ranks& ranks) {
  const std::string bytes = ranks.Broadcast("", ranks::Ranks::Patience::kWhileAlive);
  size_t at = bytes.find('\n');
  const Json head = Json::parse(bytes.substr(0, at++));
  Order order{static_cast<Order::Kind>(head.at("kind").get<int>()), {}, head.at("weights"), head.at("stopped")};
  std::vector<record::Record> records;
  for (const Json& size : head.at("sizes")) {
    records.push_back(record::DecodeRecord(std::string_view(bytes).substr(at, size.get<size_t>())));
    at += size.get<size_t>();
  }
  if (!records.empty()) order.claim = ClaimOf(std::move(records));
  return order;
}

Json Share(ranks::Ranks& ranks, const Json& value) { return ranks.size() == 1 ? value : Json::parse(ranks.Broadcast(value.dump())); }

}  // namespace april::grpo
