// The buffer's hub as a generator's source of work.
// Beside its program, not in lib/: buffer and rollout are siblings that never include each other, so only a program joins them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "buffer/hub_client.h"
#include "rollout/work_source.h"

namespace april {

class HubWorkSource : public rollout::WorkSource {
 public:
  /// Opens the session; waits for a hub that is not up yet, at most `timeout_ms`.
  HubWorkSource(const std::string& endpoint, std::string worker, int64_t timeout_ms) : client_(endpoint, std::move(worker), timeout_ms) {
    client_.Hello("generate");
  }

  const buffer::RunConfig& config() const { return client_.config(); }
  /// Ends the session; call it once everything held was written.
  void Bye() { client_.Bye(); }

  rollout::WorkAnswer Ask(int64_t want, const std::vector<uint64_t>& held, uint64_t policy_version) override {
    buffer::LeaseAnswer lease = client_.Lease(want, held, policy_version);
    rollout::WorkAnswer answer;
    answer.rollouts = std::move(lease.rollouts);
    answer.demand = lease.demand == buffer::Demand::kGo      ? rollout::Demand::kGo
                    : lease.demand == buffer::Demand::kPause ? rollout::Demand::kPause
                                                             : rollout::Demand::kDrain;
    answer.min_version = lease.min_version.value_or(0);
    answer.lost = std::move(lease.lost);
    answer.poll_ms = lease.poll_ms;
    return answer;
  }

 private:
  buffer::HubClient client_;
};

}  // namespace april
