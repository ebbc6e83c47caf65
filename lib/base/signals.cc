#include "base/signals.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <csignal>

#include "base/error.h"

namespace april {
namespace {

std::atomic<bool> g_stop{false};
std::atomic<bool> g_interrupted{false};  // by SIGINT or SIGTERM
int g_pipe[2] = {-1, -1};

void MakePipe() {
  if (g_pipe[0] >= 0) return;
  if (::pipe2(g_pipe, O_CLOEXEC | O_NONBLOCK) != 0) throw Error::Runtime("cannot make the signal pipe");
}

void OnSignal(int number) {
  if (number != SIGUSR1 && g_interrupted.exchange(true)) {
    std::signal(number, SIG_DFL);  // the second one kills, with the signal's own exit status
    ::raise(number);
    return;
  }
  if (g_stop.exchange(true)) return;
  const char byte = 1;
  [[maybe_unused]] const auto written = ::write(g_pipe[1], &byte, 1);
}

}  // namespace

void InstallSignalHandlers() {
  MakePipe();
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // no SA_RESTART: blocking reads return EINTR and look at StopRequested
  for (const int number : {SIGINT, SIGTERM, SIGUSR1}) sigaction(number, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

bool StopRequested() { return g_stop.load(std::memory_order_relaxed); }

int StopFd() {
  MakePipe();
  return g_pipe[0];
}

void RequestStop() {
  MakePipe();
  if (g_stop.exchange(true)) return;
  if (g_stop.exchange(true)) return;
  const char byte = 1;
  [[maybe_unused]] const auto written = ::write(g_pipe[1], &byte, 1);
}

}  // namespace april
