// Bytes in and out of file descriptors: stdin, stdout, pipes, files raw or zstd.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace april::stream {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// At least one byte, or 0 at the end. Throws Runtime, and Data for damaged compression.
  virtual size_t Read(char* out, size_t size) = 0;
  /// Whether nothing more comes: reads on for a moment only, because a pipe's writer may keep it open for reasons of its own.
  virtual bool AtEnd() = 0;
};

/// "-" or a path; `name` is how messages call it. Compression is sniffed. Throws Usage for a terminal.
/// `for_stdout`: Read throws Peer, rather than wait for what nobody will see, once stdout is a pipe that nobody reads.
std::unique_ptr<ByteSource> OpenSource(const std::string& address, bool for_stdout, std::string* name);

class ByteSink {
 public:
  virtual ~ByteSink() = default;
  virtual void Write(std::string_view bytes) = 0;
  /// Like Write, but takes only what goes out without waiting; returns how much.
  virtual size_t WriteSome(std::string_view bytes) = 0;
  /// Makes everything written so far readable (ends a zstd frame).
  virtual void Flush() = 0;
  /// Flushes, and gives a file its name.
  virtual void Finish() = 0;
};

/// "-" or a path. Regular files are written as PATH.tmp, compressed if asked. Throws Usage for a terminal, Runtime, Peer for a closed pipe.
std::unique_ptr<ByteSink> OpenSink(const std::string& address, bool compress);
/// Throws what OpenSink would throw, and opens nothing.
void RequireSink(const std::string& address);

}  // namespace april::stream
