// What init fixed for a run, as its options: for stat, and for init when it is done.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "buffer/run_config.h"

namespace april::buffer {

/// The keys of formats/buffer.md, "The run"; digests as 16 hexadecimal digits.
stream::Map SettingsMap(const RunConfig& config);

/// "--group-size 8 --groups-per-step 8 …": a line each for steps, choice of groups, sampling and model, from a SettingsMap's JSON twin.
std::vector<std::string> SettingsLines(const Json& settings);

}  // namespace april::buffer
