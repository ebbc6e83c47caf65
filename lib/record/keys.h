// The one table of keys: the codec is made of it, and a test compares it with formats/records.md.
#pragma once

#include <vector>

namespace april::record {

/// One key of one map. The map is a record type ("rollout") or a map within records ("segment").
struct KeyInfo {
  const char* map;
  const char* key;
  const char* type;   ///< uint, int, float, bool, str, bin u32, bin f32, bin, map, the name of another map, or any of these with [] for arrays
  const char* unit;   ///< "" when there is none
  const char* since;  ///< minor version that added it
  bool required;
};

/// All keys, in the order of the wire and of formats/records.md. The key "type" comes before them in every record.
const std::vector<KeyInfo>& KeyTable();

}  // namespace april::record
