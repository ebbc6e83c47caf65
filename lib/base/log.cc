#include "base/log.h"

#include <unistd.h>

#include <map>
#include <mutex>

#include "base/printing.h"

namespace april::log {
namespace {

struct State {
  std::mutex mutex;
  std::string tool = "april";
  Level level = Level::kNormal;
  std::map<std::string, long, std::less<>> repeated;
  void (*before)() = nullptr;
  void (*after)() = nullptr;
};

State& TheState() {
  static State* state = new State;  // never destroyed: lines may be written during static destruction
  return *state;
}

void WriteLine(State& state, std::string_view prefix, std::string_view message) {
  std::string line = state.tool + ": " + std::string(prefix) + Printable(message) + "\n";
  if (state.before) state.before();
  // One write call, so that lines of several processes on one terminal do not interleave.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
  if (state.after) state.after();
}

}  // namespace

void Configure(std::string tool, Level level) {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  state.tool = std::move(tool);
  state.level = level;
}

const std::string& Tool() { return TheState().tool; }

void Info(std::string_view message) {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  if (state.level >= Level::kNormal) WriteLine(state, "", message);
}

void Detail(std::string_view message) {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  if (state.level >= Level::kVerbose) WriteLine(state, "", message);
}

void Warn(std::string_view message) {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  WriteLine(state, "warning: ", message);
}

void WarnOnce(std::string_view key, std::string_view message) {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  const auto [entry, first] = state.repeated.try_emplace(std::string(key), 0);
  if (first) {
    WriteLine(state, "warning: ", message);
  } else {
    ++entry->second;
  }
}

void FlushRepeated() {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  for (const auto& [key, count] : state.repeated) {
    if (count > 0) WriteLine(state, "warning: ", key + ": " + std::to_string(count) + " more like this");
  }
  state.repeated.clear();
}

void Failure(std::string_view message, std::string_view hint) {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  WriteLine(state, "error: ", message);
  if (!hint.empty()) WriteLine(state, "hint: ", hint);
}

void SetLineHooks(void (*before)(), void (*after)()) {
  State& state = TheState();
  const std::lock_guard lock(state.mutex);
  state.before = before;
  state.after = after;
}

}  // namespace april::log
