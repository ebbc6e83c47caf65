// Room on the disk that is set aside while there is some: freed when the disk is full, so that what comes back can still be kept.
#pragma once

#include <cstdint>
#include <string>

#include "base/file.h"

namespace april::buffer {

/// The file `reserve` of a buffer. Needs the buffer's lock.   Thread  one object, one thread.
class Reserve {
 public:
  Reserve(FileSystem& files, const std::string& directory, uint64_t num_bytes);

  /// Sets the room aside unless it is. Returns false when there is none; `why` then tells.
  bool Make();
  /// Gives the room back to the disk. Returns false when nothing was set aside.
  bool Free();

  bool made() const { return made_; }  ///< as of the last Make or Free; before, it is taken to be there
  const std::string& why() const { return why_; }
  uint64_t num_bytes() const { return num_bytes_; }

 private:
  FileSystem& files_;
  std::string path_;
  uint64_t num_bytes_;
  bool made_ = true;
  std::string why_ = "it was not looked at yet";
};

}  // namespace april::buffer
