// Whether the index may be believed. formats/buffer.md, "Directory".
#pragma once

#include <string>

#include "base/file.h"

namespace april::buffer {

/// What an index that programs would use says otherwise than the journal up to its point: "" when nothing. Reads the journal up to there, without a
/// lock; damage in it is for others to tell.
std::string CompareIndex(FileSystem& files, const std::string& directory);

}  // namespace april::buffer
