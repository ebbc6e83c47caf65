// Lines on stderr: "<tool>: message", with the level named when it is not plain information.
#pragma once

#include <string>
#include <string_view>

namespace april::log {

enum class Level { kQuiet = 0, kNormal = 1, kVerbose = 2 };

/// Names what stands in front of every line (a program, or one of its commands) and sets what is shown. Called by cli::Main alone.
void Configure(std::string tool, Level level);
const std::string& Tool();

void Info(std::string_view message);     ///< shown unless quiet
void Detail(std::string_view message);   ///< shown with -v
void Warn(std::string_view message);     ///< always shown
/// Shows a warning of this key once; later ones are counted and reported by `FlushRepeated`.
void WarnOnce(std::string_view key, std::string_view message);
void Failure(std::string_view message, std::string_view hint);  ///< "error: …", then a "hint: …" line
void FlushRepeated();

/// While set, is called before a line is written and after, so that a progress line can step aside.
void SetLineHooks(void (*before)(), void (*after)());

}  // namespace april::log
