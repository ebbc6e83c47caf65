#include "buffer/policies.h"

#include <charconv>
#include <iterator>

#include "base/error.h"

namespace april::buffer {
namespace {

constexpr std::string_view kAssigned = "assigned:", kWindow = "window:";
constexpr int64_t kMaxNumber = 1 << 30;
constexpr std::string_view kFilterNames[] = {"none", "nonzero-std"};

std::optional<int64_t> ParseNumber(std::string_view text, int64_t least) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && number >= least && number <= kMaxNumber ? std::optional(number) : std::nullopt;
}

}  // namespace

std::string Text(const Admission& admission) {
  if (admission.kind == Admission::Kind::kFirstFinished) return "first-finished";
  return std::string(admission.kind == Admission::Kind::kAssigned ? kAssigned : kWindow) + std::to_string(admission.number);
}

std::optional<Admission> ParseAdmission(std::string_view text) {
  if (text == "first-finished") return Admission{};
  if (text.starts_with(kAssigned)) {
    const auto number = ParseNumber(text.substr(kAssigned.size()), 0);
    return number ? std::optional(Admission{Admission::Kind::kAssigned, *number}) : std::nullopt;
  }
  if (!text.starts_with(kWindow)) return std::nullopt;
  const auto number = ParseNumber(text.substr(kWindow.size()), 1);
  return number ? std::optional(Admission{Admission::Kind::kWindow, *number}) : std::nullopt;
}

std::string_view Name(GroupFilter filter) { return kFilterNames[static_cast<size_t>(filter)]; }

std::optional<GroupFilter> ParseFilter(std::string_view name) {
  for (size_t i = 0; i < std::size(kFilterNames); ++i) {
    if (kFilterNames[i] == name) return static_cast<GroupFilter>(i);
  }
  return std::nullopt;
}

TakeOrder ParseTakeOrder(std::string_view name) {
  for (size_t i = 0; i < std::size(kTakeOrderNames); ++i) {
    if (kTakeOrderNames[i] == name) return static_cast<TakeOrder>(i);
  }
  throw Error::Usage("\"" + std::string(name) + "\" is no order of issue");
}

}  // namespace april::buffer
