// The home of nlohmann/json: JSON for people (metrics, configurations, the JSON twin of a record).
#pragma once

#include <nlohmann/json.hpp>

namespace april {

using Json = nlohmann::ordered_json;  // keys keep their order: what a person reads first stays first

}  // namespace april
