// The states of rollouts and groups, and the only transitions that exist. formats/buffer.md, "States".
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

namespace april::buffer {

enum class RolloutState : uint8_t { kQueued, kLeased, kPartial, kComplete, kScored, kFailed };
enum class GroupState : uint8_t { kOpen, kReady, kClaimed, kTrained, kConsumed, kDropped };

inline constexpr int kNumRolloutStates = 6;
inline constexpr int kNumGroupStates = 6;

inline constexpr std::pair<RolloutState, RolloutState> kRolloutTransitions[] = {
    {RolloutState::kQueued, RolloutState::kLeased},   {RolloutState::kPartial, RolloutState::kLeased},
    {RolloutState::kLeased, RolloutState::kQueued},   {RolloutState::kLeased, RolloutState::kPartial},
    {RolloutState::kLeased, RolloutState::kComplete}, {RolloutState::kLeased, RolloutState::kFailed},
    {RolloutState::kComplete, RolloutState::kScored}, {RolloutState::kScored, RolloutState::kScored},
};

inline constexpr std::pair<GroupState, GroupState> kGroupTransitions[] = {
    {GroupState::kOpen, GroupState::kReady},      {GroupState::kReady, GroupState::kClaimed},    {GroupState::kClaimed, GroupState::kReady},
    {GroupState::kClaimed, GroupState::kTrained}, {GroupState::kTrained, GroupState::kConsumed}, {GroupState::kTrained, GroupState::kReady},
    {GroupState::kConsumed, GroupState::kReady},  {GroupState::kOpen, GroupState::kDropped},     {GroupState::kReady, GroupState::kDropped},
};

constexpr bool MayBecome(RolloutState from, RolloutState to) {
  for (const auto& [a, b] : kRolloutTransitions) {
    if (a == from && b == to) return true;
  }
  return false;
}
constexpr bool MayBecome(GroupState from, GroupState to) {
  for (const auto& [a, b] : kGroupTransitions) {
    if (a == from && b == to) return true;
  }
  return false;
}

/// "queued", "leased", …
std::string_view Name(RolloutState state);
std::string_view Name(GroupState state);
/// They throw Data on another name.
RolloutState ParseRolloutState(std::string_view name);
GroupState ParseGroupState(std::string_view name);

}  // namespace april::buffer
