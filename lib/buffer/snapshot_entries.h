// How a snapshot's entries are written and read. formats/buffer.md, "Entries".
#pragma once

#include "buffer/entries.h"
#include "stream/value.h"

namespace april::buffer {

/// All keys but type, ns and payload.
stream::Map Fields(const SnapshotEntry& entry);
stream::Map Fields(const GroupEntry& entry);
/// Throw Data naming the key.
SnapshotEntry ParseSnapshotEntry(const stream::Map& map);
GroupEntry ParseGroupEntry(const stream::Map& map);

}  // namespace april::buffer
