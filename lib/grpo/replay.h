// grpo-step --replay: recorded steps, up to the one that was asked for, computed again and compared.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "grpo/claim.h"
#include "grpo/session.h"

namespace april::grpo {

/// Reads claims, passes over those that the checkpoint contains, and computes the others again up to `step`; calls `on_step` after each. Returns what
/// a person wants to know: that every bit is as recorded, and of what. `session` was made with `replay` = `step`.
///   Throws as Session::Replay; Data when the claims do not lead to the step, NotReady when nothing tells what it became.
std::string ReplayStep(Session& session, ClaimReader& reader, int64_t step, const std::function<void(const StepReport&)>& on_step);

}  // namespace april::grpo
