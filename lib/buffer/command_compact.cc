// compact: the journal becomes as small as what it adds up to.
#include <unistd.h>

#include <cerrno>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "buffer/commands.h"
#include "buffer/compaction.h"

namespace april::buffer {

void CompactOptions::Register(OptionsVisitor& options) { store.Register(options, /*hub_allowed=*/false, /*writes=*/true); }

void RunCompact(const CompactOptions& options, Invocation& invocation) {
  const std::string& directory = options.store.store;
  if (::access(directory.c_str(), W_OK) != 0 && (errno == EACCES || errno == EROFS)) throw Error::System("cannot write into", directory, errno);
  const CompactionResult result = Compact(SystemFiles(), SystemClock(), directory, {.take_over = options.store.take_over});
  invocation.summary = "compacted " + HumanBytes(result.bytes_before) + " to " + HumanBytes(result.bytes_after) + ", deleted " +
                       HumanBytes(result.bytes_deleted) + " that earlier compactions had replaced";
}

}  // namespace april::buffer
