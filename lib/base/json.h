// The home of nlohmann/json: JSON for people (metrics, configurations, the JSON twin of a record).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace april {

using Json = nlohmann::ordered_json;  // keys keep their order: what a person reads first stays first

/// What the library found wrong, for a person: without the "[json.exception.parse_error.101] " in front.
inline std::string JsonProblem(const Json::exception& error) {
  const std::string_view said = error.what();
  const size_t name_end = said.starts_with('[') ? said.find("] ") : said.npos;
  return std::string(name_end == said.npos ? said : said.substr(name_end + 2));
}

}  // namespace april
