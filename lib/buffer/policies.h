// The names of what a run may choose about its groups: which are claimed, which pass, in what order rollouts are issued. formats/buffer.md, "The
// run".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace april::buffer {

struct Admission {
  enum class Kind { kFirstFinished, kAssigned, kWindow };
  Kind kind = Kind::kFirstFinished;
  int64_t number = 0;  ///< K of assigned:K, W of window:W

  bool operator==(const Admission&) const = default;
};

enum class GroupFilter { kNone, kNonzeroStd };
enum class TakeOrder { kPartialsFirst, kOldest, kLongest, kShortest, kFifo, kRandom };

/// "first-finished", "assigned:2", "window:64".
std::string Text(const Admission& admission);
/// nullopt for anything else.
std::optional<Admission> ParseAdmission(std::string_view text);

std::string_view Name(GroupFilter filter);  ///< "none", "nonzero-std"
std::optional<GroupFilter> ParseFilter(std::string_view name);

inline constexpr std::string_view kTakeOrderNames[] = {"partials-first", "oldest", "longest", "shortest", "fifo", "random"};
/// Throws Usage for another name.
TakeOrder ParseTakeOrder(std::string_view name);

}  // namespace april::buffer
