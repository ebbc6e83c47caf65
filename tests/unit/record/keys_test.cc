#include "record/keys.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

using namespace april::record;

namespace {

std::string Trim(std::string text) {
  const auto is_padding = [](char letter) { return letter == ' ' || letter == '`'; };
  while (!text.empty() && is_padding(text.back())) text.pop_back();
  while (!text.empty() && is_padding(text.front())) text.erase(0, 1);
  return text;
}

/// The rows of the tables under headings "## `map`", as "map | key | type | unit | since | required".
std::vector<std::string> DocumentedKeys() {
  std::ifstream file(std::string(APRIL_SOURCE_DIR) + "/formats/records.md");
  std::vector<std::string> rows;
  std::string line, map;
  while (std::getline(file, line)) {
    if (line.starts_with("## ")) map = line.starts_with("## `") ? line.substr(4, line.find('`', 4) - 4) : "";
    if (map.empty() || !line.starts_with("| `")) continue;
    std::stringstream cells(line.substr(1));
    std::string row = map, cell;
    for (int i = 0; i < 5 && std::getline(cells, cell, '|'); ++i) row += " | " + Trim(cell);
    rows.push_back(row);
  }
  return rows;
}

std::vector<std::string> CodedKeys() {
  std::vector<std::string> rows;
  for (const KeyInfo& info : KeyTable()) {
    rows.push_back(std::string(info.map) + " | " + info.key + " | " + info.type + " | " + info.unit + " | " + info.since + " | " +
                   (info.required ? "yes" : "no"));
  }
  return rows;
}

}  // namespace

TEST_CASE("formats/records.md and the codec have the same keys, in the same order") {
  const auto documented = DocumentedKeys(), coded = CodedKeys();
  for (size_t i = 0; i < std::min(documented.size(), coded.size()); ++i) REQUIRE(documented[i] == coded[i]);
  CHECK(documented.size() == coded.size());
}
