#include "buffer/owner.h"

#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "base/error.h"
#include "base/json.h"

namespace april::buffer {
namespace {

std::string OwnerPath(const std::string& directory) { return JoinPath(directory, "owner.json"); }

std::string BootId() {
  try {
    // A file of /proc has no size to read it by.
    const auto file = SystemFiles().OpenForRead("/proc/sys/kernel/random/boot_id");
    std::array<char, 36> text;
    return {text.data(), file->ReadAt(0, text.data(), text.size())};
  } catch (const Error&) {
    return "";
  }
}

}  // namespace

Owner ThisMachine() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return {name, BootId(), 1, ""};
}

Owner ReadOwner(FileSystem& files, const std::string& directory) {
  const std::string path = OwnerPath(directory);
  if (!files.Exists(path)) return {};
  const Json json = Json::parse(ReadFile(files, path), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return {};
  try {
    return {json.value("host", ""), json.value("boot_id", ""), json.value("writer_epoch", uint64_t{1}), json.value("address", "")};
  } catch (const Json::exception&) {  // what it says of anything else is no better than nothing
    return {};
  }
}

void WriteOwner(FileSystem& files, const std::string& directory, const Owner& owner) {
  const Json json = {{"host", owner.host}, {"boot_id", owner.boot_id}, {"writer_epoch", owner.writer_epoch}, {"address", owner.address}};
  ReplaceFile(files, OwnerPath(directory), json.dump() + "\n", /*durable=*/false);
}

bool IsServed(FileSystem& files, const std::string& directory) {
  const std::string path = JoinPath(directory, kServeLock);
  return files.Exists(path) && !files.Lock(path, 0);
}

bool IsNetworkFileSystem(const std::string& directory) {
  struct statfs info;
  if (::statfs(directory.c_str(), &info) != 0) return false;
  // statfs(2) and the file systems' own headers: NFS, SMB2, CIFS, SMB, Ceph, Lustre, GPFS, BeeGFS, AFS, FUSE (sshfs and others), 9P.
  constexpr uint32_t kTypes[] = {0x6969,     0xFE534D42, 0xFF534D42, 0x517B,     0x00C36400, 0x0BD00BD0,
                                 0x47504653, 0x19830326, 0x5346414F, 0x65735546, 0x01021997};
  return std::find(std::begin(kTypes), std::end(kTypes), static_cast<uint32_t>(info.f_type)) != std::end(kTypes);
}

}  // namespace april::buffer
