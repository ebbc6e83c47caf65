#include "buffer/reserve.h"

#include "base/error.h"

namespace april::buffer {

Reserve::Reserve(FileSystem& files, const std::string& directory, uint64_t num_bytes)
    : files_(files), path_(JoinPath(directory, "reserve")), num_bytes_(num_bytes) {}

bool Reserve::Make() {
  try {
    made_ = files_.Exists(path_);
    if (made_) return true;
    // Renamed when it is whole: a process that is killed in between leaves no reserve that is none.
    files_.Allocate(path_ + ".tmp", num_bytes_);
    files_.Rename(path_ + ".tmp", path_);
    made_ = true;
  } catch (const Error& error) {
    why_ = error.message();
  }
  return made_;
}

bool Reserve::Free() {
  made_ = false;
  bool freed = false;
  for (const std::string& path : {path_, path_ + ".tmp"}) {
    if (!files_.Exists(path)) continue;
    files_.Remove(path);
    freed = true;
  }
  return freed;
}

}  // namespace april::buffer
