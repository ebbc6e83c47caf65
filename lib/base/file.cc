#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <utility>

#include "base/error.h"

namespace april {
namespace {

/// Without its number: see Error::error_number.
Error SyncError(std::string_view what, const std::string& path, int error_number) {
  return Error::Runtime(Error::System(what, path, error_number).message());
}

class PosixWritable final : public WritableFile {
 public:
  PosixWritable(int fd, std::string path, uint64_t size) : fd_(fd), path_(std::move(path)), size_(size) {}
  ~PosixWritable() override {
    if (fd_ >= 0) ::close(fd_);
  }
  PosixWritable(const PosixWritable&) = delete;
  PosixWritable& operator=(const PosixWritable&) = delete;

  void Append(const void* data, size_t num_bytes) override {
    const char* next = static_cast<const char*>(data);
    while (num_bytes > 0) {
      const ssize_t written = ::write(fd_, next, num_bytes);
      if (written < 0) {
        if (errno == EINTR) continue;
        throw Error::System("cannot write", path_, errno);
      }
      next += written;
      num_bytes -= static_cast<size_t>(written);
      size_ += static_cast<uint64_t>(written);
    }
  }
  void Sync() override {
    if (::fdatasync(fd_) != 0) throw SyncError("cannot sync", path_, errno);
  }
  void Truncate(uint64_t size) override {
    if (::ftruncate(fd_, static_cast<off_t>(size)) != 0) throw Error::System("cannot truncate", path_, errno);
    if (::lseek(fd_, static_cast<off_t>(size), SEEK_SET) < 0) throw Error::System("cannot seek in", path_, errno);
    size_ = size;
  }
  uint64_t Size() const override { return size_; }
  void Close() override {
    const int fd = std::exchange(fd_, -1);
    if (fd >= 0 && ::close(fd) != 0) throw Error::System("cannot close", path_, errno);
  }

 private:
  int fd_;
  std::string path_;
  uint64_t size_;
};

class PosixReadable final : public ReadableFile {
 public:
  PosixReadable(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~PosixReadable() override { ::close(fd_); }
  PosixReadable(const PosixReadable&) = delete;
  PosixReadable& operator=(const PosixReadable&) = delete;

  size_t ReadAt(uint64_t offset, void* data, size_t num_bytes) const override {
    size_t total = 0;
    while (total < num_bytes) {
      const ssize_t got = ::pread(fd_, static_cast<char*>(data) + total, num_bytes - total, static_cast<off_t>(offset + total));
      if (got < 0) {
        if (errno == EINTR) continue;
        throw Error::System("cannot read", path_, errno);
      }
      if (got == 0) break;
      total += static_cast<size_t>(got);
    }
    return total;
  }
  uint64_t Size() const override {
    struct stat info;
    if (::fstat(fd_, &info) != 0) throw Error::System("cannot stat", path_, errno);
    return static_cast<uint64_t>(info.st_size);
  }

 private:
  int fd_;
  std::string path_;
};

class PosixLock final : public FileLock {
 public:
  explicit PosixLock(int fd) : fd_(fd) {}
  ~PosixLock() override { ::close(fd_); }
  PosixLock(const PosixLock&) = delete;
  PosixLock& operator=(const PosixLock&) = delete;

 private:
  int fd_;
};

int OpenOrThrow(const std::string& path, int flags, const char* what) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  if (fd < 0) throw Error::System(what, path, errno);
  return fd;
}

class PosixFiles final : public FileSystem {
 public:
  std::unique_ptr<WritableFile> Create(const std::string& path) override {
    return std::make_unique<PosixWritable>(OpenOrThrow(path, O_WRONLY | O_CREAT | O_TRUNC, "cannot create"), path, 0);
  }
  std::unique_ptr<WritableFile> OpenForAppend(const std::string& path) override {
    const int fd = OpenOrThrow(path, O_WRONLY | O_CREAT | O_APPEND, "cannot open");
    const off_t size = ::lseek(fd, 0, SEEK_END);
    if (size < 0) {
      const int error_number = errno;
      ::close(fd);
      throw Error::System("cannot seek in", path, error_number);
    }
    return std::make_unique<PosixWritable>(fd, path, static_cast<uint64_t>(size));
  }
  std::unique_ptr<ReadableFile> OpenForRead(const std::string& path) override {
    return std::make_unique<PosixReadable>(OpenOrThrow(path, O_RDONLY, "cannot open"), path);
  }
  void Allocate(const std::string& path, uint64_t num_bytes) override {
    const int fd = OpenOrThrow(path, O_WRONLY | O_CREAT | O_TRUNC, "cannot create");
    const int error_number = ::posix_fallocate(fd, 0, static_cast<off_t>(num_bytes));
    ::close(fd);
    if (error_number == 0) return;
    ::unlink(path.c_str());
    throw Error::System("cannot set " + std::to_string(num_bytes) + " bytes aside in", path, error_number);
  }
  void Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) throw Error::System("cannot rename " + from + " to", to, errno);
  }
  void Remove(const std::string& path) override {
    if (::remove(path.c_str()) != 0) throw Error::System("cannot remove", path, errno);
  }
  void SyncDirectory(const std::string& path) override {
    const int fd = OpenOrThrow(path, O_RDONLY | O_DIRECTORY, "cannot open directory");
    const int status = ::fsync(fd);
    const int error_number = errno;
    ::close(fd);
    if (status != 0) throw SyncError("cannot sync directory", path, error_number);
  }
  void MakeDirectory(const std::string& path) override {
    if (path.empty() || Exists(path)) return;
    const std::string parent = DirectoryOf(path);
    if (parent != path) MakeDirectory(parent);
    if (::mkdir(path.c_str(), 0777) != 0 && errno != EEXIST) throw Error::System("cannot make directory", path, errno);
  }
  bool Exists(const std::string& path) override {
    struct stat info;
    if (::stat(path.c_str(), &info) == 0) return true;
    if (errno == EACCES || errno == ELOOP) throw Error::System("cannot look at", path, errno);
    return false;
  }
  std::vector<std::string> List(const std::string& path) override {
    DIR* directory = ::opendir(path.c_str());
    if (!directory) throw Error::System("cannot list", path, errno);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(directory)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    const int error_number = errno;
    ::closedir(directory);
    if (error_number != 0) throw Error::System("cannot list", path, error_number);
    std::sort(names.begin(), names.end());
    return names;
  }
  std::unique_ptr<FileLock> Lock(const std::string& path, int64_t timeout_ms) override {
    const int fd = OpenOrThrow(path, O_RDWR | O_CREAT, "cannot open lock");
    auto lock = std::make_unique<PosixLock>(fd);
    for (int64_t waited_ms = 0;; waited_ms += 5) {
      if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return lock;
      if (errno != EWOULDBLOCK && errno != EINTR) throw Error::System("cannot lock", path, errno);
      if (waited_ms >= timeout_ms) return nullptr;
      const timespec pause = {0, 5'000'000};
      ::nanosleep(&pause, nullptr);
    }
  }
};

}  // namespace

void FileSystem::Allocate(const std::string& path, uint64_t) { Create(path)->Close(); }

FileSystem& SystemFiles() {
  static PosixFiles files;
  return files;
}

std::string ReadFile(FileSystem& files, const std::string& path) {
  const auto file = files.OpenForRead(path);
  std::string contents(file->Size(), '\0');
  contents.resize(file->ReadAt(0, contents.data(), contents.size()));
  return contents;
}

void ReplaceFile(FileSystem& files, const std::string& path, std::string_view contents, bool durable) {
  const std::string temporary = path + ".tmp";
  const auto file = files.Create(temporary);
  file->Append(contents);
  if (durable) file->Sync();
  file->Close();
  files.Rename(temporary, path);
  if (durable) files.SyncDirectory(DirectoryOf(path));
}

void MakeDirectoryDurably(FileSystem& files, const std::string& path) {
  std::vector<std::string> parents = {DirectoryOf(path)};  // those that get a new name
  while (!files.Exists(parents.back())) parents.push_back(DirectoryOf(parents.back()));
  files.MakeDirectory(path);
  for (const std::string& parent : parents) files.SyncDirectory(parent);
}

std::string LastWith(FileSystem& files, const std::string& directory, const std::string& name) {
  if (directory.empty() || !files.Exists(JoinPath(directory, "."))) return "";
  const std::vector<std::string> entries = files.List(directory);
  const auto found =
      std::find_if(entries.rbegin(), entries.rend(), [&](const auto& entry) { return files.Exists(JoinPath(JoinPath(directory, entry), name)); });
  return found == entries.rend() ? "" : JoinPath(directory, *found);
}

std::string JoinPath(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.empty() && path.back() != '/') path += '/';
  return path.append(name);
}

std::string DirectoryOf(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(path.substr(0, slash == 0 ? 1 : slash));
}

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int fd = OpenOrThrow(path, O_RDONLY, "cannot open");
  struct stat info = {};
  const int error_number = ::fstat(fd, &info) == 0 ? 0 : errno;
  if (error_number != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    if (error_number != 0) throw Error::System("cannot stat", path, error_number);
    throw Error::Runtime("cannot map " + path + ": it is " + (S_ISDIR(info.st_mode) ? "a directory" : "no regular file"));
  }
  size_ = static_cast<size_t>(info.st_size);
  if (size_ > 0) {
    void* mapping = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
    const int map_error = errno;
    ::close(fd);
    if (mapping == MAP_FAILED) throw Error::System("cannot map", path, map_error);
    data_ = static_cast<const char*>(mapping);
  } else {
    ::close(fd);
  }
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<char*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

}  // namespace april
