// Which entries of a journal can still stand when others before them are gone. For repair. formats/buffer.md, "Repair".
#pragma once

#include <string>

#include "buffer/buffer_state.h"
#include "buffer/entries.h"

namespace april::buffer {

/// Why this entry cannot follow on what the state holds; "" when it can, with every transition listed and every token continued.
std::string WhyNotFollowing(const State& state, const DecodedEntry& decoded);

/// What an entry names, for a person: "rollout 3fa9…: 120 tokens, scored", "commit of step 7".
std::string DescribeEntry(const DecodedEntry& decoded);

}  // namespace april::buffer
