// upgrade: a copy in the newest format.
#include "base/clock.h"
#include "buffer/commands.h"
#include "buffer/upgrade.h"

namespace april::buffer {

void UpgradeOptions::Register(OptionsVisitor& options) {
  options.Argument("source", &source, true, "the buffer's directory; it stays as it is");
  options.Argument("destination", &destination, true, "a new directory for the copy");
}

void RunUpgrade(const UpgradeOptions& options, Invocation& invocation) {
  Upgrade(SystemFiles(), SystemClock(), options.source, options.destination);
  invocation.summary = "copied " + options.source + " to " + options.destination;
}

}  // namespace april::buffer
