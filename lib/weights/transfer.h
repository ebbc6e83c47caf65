// Copies of versions: from another directory, or from a server over ZeroMQ. A version becomes visible only when every digest has been checked.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "stream/value.h"
#include "weights/version_store.h"

namespace april::weights {

/// Where versions can be fetched. One object, one thread.
class VersionSource {
 public:
  /// `from`: a version store's directory, "zmq+tcp://…" or "zmq+ipc://…". A server that does not answer within the time is Peer.
  static std::unique_ptr<VersionSource> Open(const std::string& from, int64_t timeout_ms);
  virtual ~VersionSource() = default;

  virtual std::optional<uint64_t> LatestVersion() = 0;
  virtual std::string ManifestText(uint64_t version) = 0;
  /// `size` bytes at `offset`, fewer only at the end of the file. Throws Data when they were damaged on the way.
  virtual std::string Chunk(uint64_t version, const std::string& file, uint64_t offset, uint64_t size) = 0;
};

/// Answers a server's requests. Use: TransferServer server(store); rpc->Serve([&](const Map& request) { return server.Answer(request); }, …).
class TransferServer {
 public:
  explicit TransferServer(VersionStore* store, FileSystem& files = SystemFiles()) : store_(store), files_(&files) {}
  stream::Map Answer(const stream::Map& request);
  uint64_t bytes_sent() const { return bytes_sent_; }

 private:
  stream::Map AnswerChunk(const stream::Map& request);

  VersionStore* store_;
  FileSystem* files_;
  std::string open_path_;  ///< the file read last stays open: clients read one file from end to end
  std::unique_ptr<ReadableFile> open_file_;
  uint64_t bytes_sent_ = 0;
};

/// Copies one version into the store, checks chunk, file and tensor digests, then places the manifest and moves LATEST. What an earlier run of the
/// same version left is kept and continued. Returns the manifest. Throws Data (digest), Peer (server lost), Incompatible (this number is taken by
/// other weights), Runtime, Stopped (a stop was requested).
Manifest Fetch(VersionSource* source, VersionStore* store, uint64_t version, const PublishOptions& options, FileSystem& files = SystemFiles());

/// Fetches the source's latest version, unless it is `have`. When it is removed before it was copied, because a newer one came, the newer one.
/// nullopt when there is none, or nothing newer. Throws as Fetch.
std::optional<Manifest> FetchLatest(VersionSource* source, VersionStore* store, std::optional<uint64_t> have, const PublishOptions& options,
                                    FileSystem& files = SystemFiles());

}  // namespace april::weights
