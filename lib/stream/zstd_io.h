// The zstd form of streams on disk.
#pragma once

#include <memory>

#include "stream/byte_io.h"

namespace april::stream {

/// Decompresses any number of frames, with a window of at most 8 MiB.
std::unique_ptr<ByteSource> MakeZstdSource(std::unique_ptr<ByteSource> compressed);

/// Compresses into frames with checksums; a frame is closed after 1 MiB of input and by Flush.
std::unique_ptr<ByteSink> MakeZstdSink(std::unique_ptr<ByteSink> compressed);

}  // namespace april::stream
