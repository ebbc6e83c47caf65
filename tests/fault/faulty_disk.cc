// A disk that is full or fails, for programs that are started with this library in LD_PRELOAD.
//   APRIL_DISK   the directory that lies on it
//   APRIL_FAULT  a file with words, read at every call, so that a running process can be switched; missing or empty: a good disk
//     capacity=BYTES  all files below the directory together hold no more: writes are short, then ENOSPC; what is removed gives its room back
//     short=BYTES     a write takes at most so many at once
//     bad_from=BYTES  no file can be written from this offset on: EIO
//     sync=ERRNO      fsync and fdatasync fail with this number
//     only=TEXT       short, bad_from and sync concern only files whose path contains TEXT
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr int64_t kUnlimited = INT64_MAX;

struct Fault {
  int64_t capacity = kUnlimited, short_write = kUnlimited, bad_from = kUnlimited;
  int sync = 0;
  std::string only;
};

Fault ReadFault() {
  Fault fault;
  const char* path = std::getenv("APRIL_FAULT");
  std::FILE* file = path ? std::fopen(path, "re") : nullptr;
  if (!file) return fault;
  char word[256];
  while (std::fscanf(file, "%255s", word) == 1) {
    const char* equals = std::strchr(word, '=');
    if (!equals) std::abort();
    const std::string name(word, static_cast<size_t>(equals - word)), value(equals + 1);
    if (name == "capacity") {
      fault.capacity = std::stoll(value);
    } else if (name == "short") {
      fault.short_write = std::stoll(value);
    } else if (name == "bad_from") {
      fault.bad_from = std::stoll(value);
    } else if (name == "sync") {
      fault.sync = std::stoi(value);
    } else if (name == "only") {
      fault.only = value;
    } else {
      std::abort();
    }
  }
  std::fclose(file);
  return fault;
}

/// Where an open file is, relative to the faulty directory; empty for one that is not below it.
std::string FaultyPath(int fd) {
  const char* directory = std::getenv("APRIL_DISK");
  if (!directory) return "";
  char link[64], target[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = ::readlink(link, target, sizeof target);
  const size_t prefix = std::strlen(directory);
  if (length <= 0 || static_cast<size_t>(length) <= prefix || std::strncmp(target, directory, prefix) != 0 || target[prefix] != '/') return "";
  return std::string(target + prefix, static_cast<size_t>(length) - prefix);
}

int64_t UsedBytes(const std::string& directory) {
  DIR* entries = ::opendir(directory.c_str());
  if (!entries) return 0;
  int64_t used = 0;
  while (const dirent* entry = ::readdir(entries)) {
    const std::string name = entry->d_name, path = directory + "/" + name;
    struct stat info;
    if (name == "." || name == ".." || ::lstat(path.c_str(), &info) != 0) continue;
    used += S_ISDIR(info.st_mode) ? UsedBytes(path) : info.st_size;
  }
  ::closedir(entries);
  return used;
}

template <typename Function>
Function* Next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

int Fail(int error_number) {
  errno = error_number;
  return -1;
}

int64_t RoomLeft(const Fault& fault) {
  return fault.capacity == kUnlimited ? kUnlimited : std::max<int64_t>(0, fault.capacity - UsedBytes(std::getenv("APRIL_DISK")));
}

int SyncOrFail(int fd, const char* name) {
  if (const std::string path = FaultyPath(fd); !path.empty()) {
    const Fault fault = ReadFault();
    if (fault.sync != 0 && path.find(fault.only) != std::string::npos) return Fail(fault.sync);
  }
  return Next<int(int)>(name)(fd);
}

}  // namespace

extern "C" {

ssize_t write(int fd, const void* data, size_t num_bytes) {
  auto* const real = Next<ssize_t(int, const void*, size_t)>("write");
  const std::string path = FaultyPath(fd);
  if (path.empty() || num_bytes == 0) return real(fd, data, num_bytes);
  const Fault fault = ReadFault();
  auto fits = static_cast<int64_t>(num_bytes);
  if (path.find(fault.only) != std::string::npos) {
    struct stat info;
    if (::fstat(fd, &info) != 0) return -1;
    fits = std::min({fits, fault.short_write, fault.bad_from == kUnlimited ? kUnlimited : fault.bad_from - info.st_size});
    if (fits <= 0) return Fail(EIO);
  }
  fits = std::min(fits, RoomLeft(fault));
  return fits == 0 ? Fail(ENOSPC) : real(fd, data, static_cast<size_t>(fits));
}

int fsync(int fd) { return SyncOrFail(fd, "fsync"); }
int fdatasync(int fd) { return SyncOrFail(fd, "fdatasync"); }

int posix_fallocate(int fd, off_t offset, off_t num_bytes) {
  if (!FaultyPath(fd).empty() && RoomLeft(ReadFault()) < num_bytes) return ENOSPC;
  return Next<int(int, off_t, off_t)>("posix_fallocate")(fd, offset, num_bytes);
}

}  // extern "C"
