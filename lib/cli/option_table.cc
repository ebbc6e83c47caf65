#include "cli/option_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <iterator>

#include "base/error.h"

namespace april::cli {
namespace {

std::string RealText(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

/// As ParseBytes takes it, in the largest unit of which it is a whole number: "2GiB", "1000".
std::string BytesText(uint64_t value) {
  static constexpr const char* kUnits[] = {"", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (value != 0 && value % 1024 == 0 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return std::to_string(value) + kUnits[unit];
}

/// The number in front of `text`; `rest` is what follows it.
double LeadingNumber(const std::string& option, const std::string& text, std::string* rest) {
  double value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc() || end == text.data()) throw Error::Usage("--" + option + ": not a number: \"" + text + "\"");
  rest->assign(end, text.data() + text.size());
  return value;
}

}  // namespace

int64_t ParseInteger(const std::string& option, const std::string& text, int64_t min, int64_t max) {
  int64_t value = 0;
  const char* end_of_text = text.data() + text.size();
  const auto [end, status] = std::from_chars(text.data(), end_of_text, value);
  bool good = status == std::errc() && end == end_of_text;
  if (!good) {  // a suffix, perhaps behind a fraction: 1.5k
    std::string rest;
    const double number = LeadingNumber(option, text, &rest);
    const double factor = rest == "k" ? 1e3 : rest == "M" ? 1e6 : rest == "G" ? 1e9 : 0;
    const double scaled = number * factor;
    good = factor != 0 && std::floor(scaled) == scaled && std::fabs(scaled) < 9e18;
    value = good ? static_cast<int64_t>(scaled) : 0;
  }
  if (!good) throw Error::Usage("--" + option + ": not a whole number: \"" + text + "\"", "examples: 64, 4k, 2M");
  if (value < min || value > max) {
    const std::string bound = max == kNoUpperLimit ? "at least " + std::to_string(min) : "from " + std::to_string(min) + " to " + std::to_string(max);
    throw Error::Usage("--" + option + ": " + text + " is out of range, expected " + bound);
  }
  return value;
}

uint64_t ParseBytes(const std::string& option, const std::string& text) {
  static const struct {
    const char* suffix;
    double factor;
  } kUnits[] = {{"", 1},      {"B", 1},        {"kB", 1e3},     {"MB", 1e6},     {"GB", 1e9},
                {"TB", 1e12}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  std::string rest;
  const double number = LeadingNumber(option, text, &rest);
  for (const auto& unit : kUnits) {
    if (rest == unit.suffix && number >= 0 && number * unit.factor < 0x1p63) return static_cast<uint64_t>(number * unit.factor);
  }
  throw Error::Usage("--" + option + ": not a size: \"" + text + "\"", "examples: 4096, 64MiB, 1GB");
}

OptionRow& OptionTable::Add(const char* name, const char* value_name, const char* help) {
  OptionRow row;
  const std::string names = name;
  const size_t comma = names.find(',');
  if (comma != std::string::npos) row.short_name = names.substr(0, comma);
  row.name = comma == std::string::npos ? names : names.substr(comma + 1);
  row.section = section_;
  row.value_name = value_name;
  row.help = help;
  rows_.push_back(std::move(row));
  return rows_.back();
}

void OptionTable::Flag(const char* name, bool* value, const char* help) {
  OptionRow& row = Add(name, "", help);
  row.is_flag = true;
  row.flag_default = *value;
  row.store = [value](const auto& texts) { *value = texts.back() == "true"; };
}

void OptionTable::Text(const char* name, std::string* value, const char* value_name, const char* help) {
  OptionRow& row = Add(name, value_name, help);
  row.default_text = *value;
  row.store = [value](const auto& texts) { *value = texts.back(); };
}

void OptionTable::Choice(const char* name, std::string* value, std::vector<std::string> choices, const char* help) {
  OptionRow& row = Add(name, "WORD", help);
  row.default_text = *value;
  std::copy_if(choices.begin(), choices.end(), std::back_inserter(row.choices), [](const auto& choice) { return !choice.empty(); });
  row.store = [value, choices, shown = row.choices, option = row.name](const auto& texts) {
    if (std::find(choices.begin(), choices.end(), texts.back()) != choices.end()) {
      *value = texts.back();
      return;
    }
    std::string all;
    for (const std::string& choice : shown) all += (all.empty() ? "" : ", ") + choice;
    throw Error::Usage("--" + option + ": \"" + texts.back() + "\" is not one of " + all);
  };
}

void OptionTable::Integer(const char* name, int64_t* value, int64_t min, int64_t max, const char* help) {
  OptionRow& row = Add(name, "N", help);
  row.default_text = std::to_string(*value);
  row.store = [=, option = row.name](const auto& texts) { *value = ParseInteger(option, texts.back(), min, max); };
}

void OptionTable::Real(const char* name, double* value, double min, double max, const char* help) {
  OptionRow& row = Add(name, "X", help);
  row.default_text = RealText(*value);
  row.store = [=, option = row.name](const auto& texts) {
    std::string rest;
    const double number = LeadingNumber(option, texts.back(), &rest);
    if (!rest.empty()) throw Error::Usage("--" + option + ": not a number: \"" + texts.back() + "\"");
    if (!(number >= min && number <= max)) {
      throw Error::Usage("--" + option + ": " + texts.back() + " is out of range, expected " + RealText(min) + " to " + RealText(max));
    }
    *value = number;
  };
}

void OptionTable::Bytes(const char* name, uint64_t* value, const char* help) {
  OptionRow& row = Add(name, "SIZE", help);
  row.default_text = *value == 0 ? "" : BytesText(*value);
  row.store = [value, option = row.name](const auto& texts) { *value = ParseBytes(option, texts.back()); };
}

void OptionTable::Texts(const char* name, std::vector<std::string>* values, const char* value_name, const char* help) {
  OptionRow& row = Add(name, value_name, help);
  row.repeated = true;
  row.store = [values](const auto& texts) { *values = texts; };
}

void OptionTable::Argument(const char* name, std::string* value, bool required, const char* help) {
  OptionRow& row = Add(name, name, help);
  row.is_argument = true;
  row.required = required;
  row.store = [value](const auto& texts) { *value = texts.back(); };
}

void OptionTable::Arguments(const char* name, std::vector<std::string>* values, bool required, const char* help) {
  OptionRow& row = Add(name, name, help);
  row.is_argument = row.repeated = true;
  row.required = required;
  row.store = [values](const auto& texts) { *values = texts; };
}

}  // namespace april::cli
