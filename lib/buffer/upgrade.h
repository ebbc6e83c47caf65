// A copy of a buffer in the newest format that this build writes.
#pragma once

#include <string>

#include "base/clock.h"
#include "base/file.h"

namespace april::buffer {

/// Copies what the buffer in `source` is into `destination`, which must be missing or empty. The source is locked meanwhile and stays as it is.
/// Durable when it returns. Throws Runtime while a hub serves the source, Data when it is damaged.
void Upgrade(FileSystem& files, const Clock& clock, const std::string& source, const std::string& destination);

}  // namespace april::buffer
