// Stop requests. The first SIGINT, SIGTERM or SIGUSR1 asks for an orderly end; a second SIGINT or SIGTERM kills (128+n).
// SIGUSR1 never counts: a script may send it to what Ctrl-C reaches as well, before or after.
#pragma once

namespace april {

/// Installs the handlers and ignores SIGPIPE. Called once, by cli::Main.
void InstallSignalHandlers();

/// Whether an orderly end was asked for. Safe from any thread, cheap enough for every loop.
bool StopRequested();

/// A file descriptor that becomes readable once a stop is requested: for poll loops.
int StopFd();

/// Asks for an orderly end from inside (tests, in-process pipelines).
void RequestStop();

}  // namespace april
