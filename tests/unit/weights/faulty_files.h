// The machine's files, one operation of which fails.
#pragma once

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace april::weights::test {

/// Operation number `fail_at` (from 1) and all after it fail as on a full disk, like those of a process that died there. A failing append writes its
/// first half.
class FaultyFiles final : public FileSystem {
 public:
  explicit FaultyFiles(int fail_at) : remaining_(fail_at) {}

  std::unique_ptr<WritableFile> Create(const std::string& path) override {
    Count(path);
    return std::make_unique<File>(SystemFiles().Create(path), path, this);
  }
  std::unique_ptr<WritableFile> OpenForAppend(const std::string& path) override {
    Count(path);
    return std::make_unique<File>(SystemFiles().OpenForAppend(path), path, this);
  }
  std::unique_ptr<ReadableFile> OpenForRead(const std::string& path) override { return SystemFiles().OpenForRead(path); }
  void Rename(const std::string& from, const std::string& to) override {
    Count(from);
    SystemFiles().Rename(from, to);
  }
  void Remove(const std::string& path) override {
    Count(path);
    SystemFiles().Remove(path);
  }
  void SyncDirectory(const std::string& path) override {
    Count(path);
    SystemFiles().SyncDirectory(path);
  }
  void MakeDirectory(const std::string& path) override {
    Count(path);
    SystemFiles().MakeDirectory(path);
  }
  bool Exists(const std::string& path) override { return SystemFiles().Exists(path); }
  std::vector<std::string> List(const std::string& path) override { return SystemFiles().List(path); }
  std::unique_ptr<FileLock> Lock(const std::string& path, int64_t timeout_ms) override { return SystemFiles().Lock(path, timeout_ms); }

 private:
  class File final : public WritableFile {
   public:
    File(std::unique_ptr<WritableFile> file, std::string path, FaultyFiles* owner) : file_(std::move(file)), path_(std::move(path)), owner_(owner) {}
    void Append(const void* data, size_t num_bytes) override {
      if (owner_->remaining_ <= 1) file_->Append(data, num_bytes / 2);
      owner_->Count(path_);
      file_->Append(data, num_bytes);
    }
    void Sync() override {
      owner_->Count(path_);
      file_->Sync();
    }
    void Truncate(uint64_t size) override { file_->Truncate(size); }
    uint64_t Size() const override { return file_->Size(); }
    void Close() override { file_->Close(); }

   private:
    std::unique_ptr<WritableFile> file_;
    std::string path_;
    FaultyFiles* owner_;
  };

  void Count(const std::string& path) {
    if (--remaining_ <= 0) throw Error::System("cannot write", path, ENOSPC);
  }

  int remaining_;
};

}  // namespace april::weights::test
