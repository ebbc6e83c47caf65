// Numbers in messages, help and the names of methods.
#pragma once

#include <cstdio>
#include <string>

namespace april::grpo {

/// In six digits at most, without zeros at the end: "0.0003", "2".
inline std::string NumberText(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

}  // namespace april::grpo
