#include "buffer/states.h"

#include <string>

#include "base/error.h"

namespace april::buffer {
namespace {

constexpr std::string_view kRolloutNames[kNumRolloutStates] = {"queued", "leased", "partial", "complete", "scored", "failed"};
constexpr std::string_view kGroupNames[kNumGroupStates] = {"open", "ready", "claimed", "trained", "consumed", "dropped"};

}  // namespace

std::string_view Name(RolloutState state) { return kRolloutNames[static_cast<size_t>(state)]; }
std::string_view Name(GroupState state) { return kGroupNames[static_cast<size_t>(state)]; }

RolloutState ParseRolloutState(std::string_view name) {
  for (int i = 0; i < kNumRolloutStates; ++i) {
    if (kRolloutNames[i] == name) return static_cast<RolloutState>(i);
  }
  throw Error::Data("\"" + std::string(name) + "\" is no state of a rollout");
}

GroupState ParseGroupState(std::string_view name) {
  for (int i = 0; i < kNumGroupStates; ++i) {
    if (kGroupNames[i] == name) return static_cast<GroupState>(i);
  }
  throw Error::Data("\"" + std::string(name) + "\" is no state of a group");
}

}  // namespace april::buffer
