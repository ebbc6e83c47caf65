#include "cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"

namespace april::cli {
namespace {

constexpr double kTerminalInterval_s = 1.0 / 6;
constexpr double kPlainInterval_s = 30;

Progress* g_on_terminal = nullptr;  // the line that log lines must step over

void WriteError(const std::string& text) { [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size()); }

size_t TerminalWidth() {
  winsize size = {};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

}  // namespace

struct Progress::State {
  Mode mode;
  double start_s = SystemClock().MonotonicSeconds();
  double next_s = 0;
  bool shown = false;
  double first_done = -1;  // where this process began: a resumed run must not count what was done before
};

Progress::Progress(Mode mode) : state_(new State{.mode = mode}) {
  state_->next_s = state_->start_s + (mode == Mode::kPlain ? kPlainInterval_s : kTerminalInterval_s);
  if (mode == Mode::kTerminal) {
    g_on_terminal = this;
    log::SetLineHooks(
        [] {
          if (g_on_terminal) g_on_terminal->Erase();
        },
        nullptr);
  }
}

Progress::~Progress() {
  Erase();
  if (g_on_terminal == this) {
    log::SetLineHooks(nullptr, nullptr);
    g_on_terminal = nullptr;
  }
}

bool Progress::Due() const { return state_->mode != Mode::kNever && SystemClock().MonotonicSeconds() >= state_->next_s; }

void Progress::Update(double done, double total, const std::string& text) {
  if (state_->first_done < 0) state_->first_done = done;
  if (!Due()) return;
  const double now_s = SystemClock().MonotonicSeconds();
  state_->next_s = now_s + (state_->mode == Mode::kPlain ? kPlainInterval_s : kTerminalInterval_s);
  const double elapsed_s = now_s - state_->start_s;
  std::string line;
  if (total > 0) {
    char percent[16];
    std::snprintf(percent, sizeof percent, "%3.0f%% ", std::clamp(100 * done / total, 0.0, 100.0));
    line += percent;
  }
  // Before what a narrow terminal cuts off.
  const double gained = done - state_->first_done;
  if (total > done && gained > 0) line += HumanSeconds(elapsed_s * (total - done) / gained) + " left, ";
  line += text;
  if (state_->mode == Mode::kPlain) {
    log::Info(line);
    return;
  }
  line = log::Tool() + ": " + line;
  if (line.size() >= TerminalWidth()) line.resize(TerminalWidth() - 1);
  WriteError("\r" + line + "\033[K");
  state_->shown = true;
}

void Progress::Erase() {
  if (!state_->shown) return;
  WriteError("\r\033[K");
  state_->shown = false;
}

}  // namespace april::cli
