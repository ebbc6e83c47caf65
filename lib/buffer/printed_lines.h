// Lines of "name  value" for a terminal, and counts in words.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "base/printing.h"

namespace april::buffer {

template <typename... Values>
std::string Format(const char* format, Values... values) {
  const int length = std::snprintf(nullptr, 0, format, values...);
  std::string text(static_cast<size_t>(length) + 1, '\0');
  std::snprintf(text.data(), text.size(), format, values...);
  text.pop_back();
  return text;
}

/// "1 group", "2 groups".
inline std::string Count(int64_t number, const std::string& one) { return std::to_string(number) + " " + one + (number == 1 ? "" : "s"); }

/// What `value` holds may come from a model, a prompt or a worker's name.
inline std::string Line(const char* name, const std::string& value) { return Format("%-10s ", name) + Printable(value) + "\n"; }

}  // namespace april::buffer
