// File operations behind one seam, so that fault tests can fail, cut or record any of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace april {

/// An open file that is written. Destroying it closes without a check: call Close to see the error.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  virtual void Append(const void* data, size_t num_bytes) = 0;  ///< all bytes, or throws Runtime
  void Append(std::string_view bytes) { Append(bytes.data(), bytes.size()); }
  virtual void Sync() = 0;                  ///< fdatasync; after a failure the file's state on disk is unknown: do not retry
  virtual void Truncate(uint64_t size) = 0;
  virtual uint64_t Size() const = 0;
  virtual void Close() = 0;
};

/// An open file that is read at any offset.
class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  virtual size_t ReadAt(uint64_t offset, void* data, size_t num_bytes) const = 0;  ///< fewer only at the end of the file
  virtual uint64_t Size() const = 0;
};

/// An advisory lock (flock) held until destroyed; released by the kernel when the process dies.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

/// Paths are as the operating system takes them. Every function throws Runtime with the path in its message.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual std::unique_ptr<WritableFile> Create(const std::string& path) = 0;  ///< truncates
  /// Creates it if missing; each Append goes to the file's end, also while others append.
  virtual std::unique_ptr<WritableFile> OpenForAppend(const std::string& path) = 0;
  virtual std::unique_ptr<ReadableFile> OpenForRead(const std::string& path) = 0;
  /// Makes the file with so many bytes of the disk set aside for it; nothing is left of it when this throws. A layer that sets nothing aside makes it
  /// empty.
  virtual void Allocate(const std::string& path, uint64_t num_bytes);
  virtual void Rename(const std::string& from, const std::string& to) = 0;
  virtual void Remove(const std::string& path) = 0;
  virtual void SyncDirectory(const std::string& path) = 0;
  virtual void MakeDirectory(const std::string& path) = 0;  ///< with parents; fine if it exists
  virtual bool Exists(const std::string& path) = 0;  ///< throws Runtime when that cannot be told: no permission, a loop of links
  virtual std::vector<std::string> List(const std::string& path) = 0;  ///< names, sorted, without . and ..
  /// Waits for the lock at most `timeout_ms`; nullptr when someone else still has it.
  virtual std::unique_ptr<FileLock> Lock(const std::string& path, int64_t timeout_ms) = 0;
};

/// The machine's files. Lives for ever.
FileSystem& SystemFiles();

/// Whole contents. Throws Runtime.
std::string ReadFile(FileSystem& files, const std::string& path);

/// Replaces `path` so that a reader sees the old or the new contents, never a part: writes path.tmp, renames.
/// With `durable`, also syncs the file before and the directory after.
void ReplaceFile(FileSystem& files, const std::string& path, std::string_view contents, bool durable);

/// Makes the directory, with parents, so that its name outlives a loss of power; fine if it exists.
void MakeDirectoryDurably(FileSystem& files, const std::string& path);

/// The last entry of `directory` in which `name` exists, as a path; empty without one, also when there is no such directory. For hints: what may
/// have been meant.
std::string LastWith(FileSystem& files, const std::string& directory, const std::string& name);

/// "a/b" + "c" -> "a/b/c".
std::string JoinPath(std::string_view directory, std::string_view name);
std::string DirectoryOf(std::string_view path);  ///< "." when there is none

/// A whole file mapped read-only; the mapping lives as long as the object.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  ///< throws Runtime
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  std::string_view bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace april
