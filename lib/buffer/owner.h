// Who wrote a buffer last, and whether two hosts could see its files differently.
#pragma once

#include <cstdint>
#include <string>

#include "base/file.h"

namespace april::buffer {

struct Owner {
  std::string host, boot_id;
  uint64_t writer_epoch = 1;
  std::string address;  ///< of the hub that serves it, or served it when it died; "" = none
};

Owner ThisMachine();
/// An empty host when there is none, or none that can be read: the file is a note, not part of the data.
Owner ReadOwner(FileSystem& files, const std::string& directory);
void WriteOwner(FileSystem& files, const std::string& directory, const Owner& owner);

/// Whether a hub serves the buffer now.
bool IsServed(FileSystem& files, const std::string& directory);
inline constexpr char kServeLock[] = "serve.lock";  ///< the hub holds it as long as it lives

/// NFS, Lustre, CephFS, GPFS, SMB, …: where a lock or a cached page may not be seen by another host at once.
bool IsNetworkFileSystem(const std::string& directory);

}  // namespace april::buffer
