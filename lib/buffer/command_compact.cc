// compact: the journal becomes as small as what it adds up to.
#include "base/bytes.h"
#include "base/clock.h"
#include "buffer/commands.h"
#include "buffer/compaction.h"

namespace april::buffer {

void CompactOptions::Register(OptionsVisitor& options) { store.Register(options, /*hub_allowed=*/false, /*writes=*/true); }

void RunCompact(const CompactOptions& options, Invocation& invocation) {
  const CompactionResult result = Compact(SystemFiles(), SystemClock(), options.store.store, {.take_over = options.store.take_over});
  invocation.summary = "compacted " + HumanBytes(result.bytes_before) + " to " + HumanBytes(result.bytes_after) + ", deleted " +
                       HumanBytes(result.bytes_deleted) + " that earlier compactions had replaced";
}

}  // namespace april::buffer
