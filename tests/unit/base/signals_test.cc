#include "base/signals.h"

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <initializer_list>

namespace {

/// How a process ends that gets these signals: 0 when it lives on with a stop requested, 1 without one, or 128 + what killed it.
int EndAfter(std::initializer_list<int> numbers) {
  const pid_t child = ::fork();
  if (child == 0) {
    april::InstallSignalHandlers();
    for (const int number : numbers) std::raise(number);
    ::_exit(april::StopRequested() ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("a first signal asks for an orderly end, a second interrupt kills, SIGUSR1 never does") {
  CHECK(EndAfter({}) == 1);
  CHECK(EndAfter({SIGINT}) == 0);
  CHECK(EndAfter({SIGUSR1}) == 0);
  CHECK(EndAfter({SIGUSR1, SIGINT}) == 0);
  CHECK(EndAfter({SIGINT, SIGUSR1, SIGUSR1}) == 0);
  CHECK(EndAfter({SIGINT, SIGTERM}) == 128 + SIGTERM);
  CHECK(EndAfter({SIGUSR1, SIGTERM, SIGINT}) == 128 + SIGINT);
}
