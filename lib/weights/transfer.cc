#include "weights/transfer.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/log.h"
#include "base/signals.h"
#include "stream/endpoint.h"
#include "stream/rpc.h"

namespace april::weights {
namespace {

using stream::Map;
using stream::Value;

constexpr uint64_t kChunkBytes = 4u << 20, kMaxChunkBytes = 16u << 20;
constexpr const char* kPromised = "manifest.promised";

const Value& Need(const Map& map, const char* key) {
  const Value* value = stream::Find(map, key);
  if (!value) throw Error::Data("weight transfer: \"" + std::string(key) + "\" is missing");
  return *value;
}

class DirectorySource final : public VersionSource {
 public:
  explicit DirectorySource(const std::string& directory) : store_(directory) {
    if (!SystemFiles().Exists(directory)) throw Error::Runtime("no versions at " + directory + ": no such directory");
  }
  std::optional<uint64_t> LatestVersion() override { return store_.LatestVersion(); }
  std::string ManifestText(uint64_t version) override { return ReadFile(SystemFiles(), JoinPath(store_.Open(version).directory, "manifest.json")); }
  std::string Chunk(uint64_t version, const std::string& name, uint64_t offset, uint64_t size) override {
    const std::string path = JoinPath(store_.directory(), DirectoryName(version) + "/" + name);
    if (path != path_) file_ = SystemFiles().OpenForRead(path_ = path);
    std::string bytes(size, '\0');
    bytes.resize(file_->ReadAt(offset, bytes.data(), size));
    return bytes;
  }

 private:
  VersionStore store_;
  std::string path_;
  std::unique_ptr<ReadableFile> file_;
};

class ServerSource final : public VersionSource {
 public:
  ServerSource(const std::string& endpoint, int64_t timeout_ms) : endpoint_(endpoint), client_(stream::RpcClient::Connect(endpoint, timeout_ms)) {}
  std::optional<uint64_t> LatestVersion() override {
    const Map answer = client_->Call({{"op", "latest"}});
    const Value& version = Need(answer, "version");
    return version.is_nil() ? std::nullopt : std::optional(version.AsUint());
  }
  std::string ManifestText(uint64_t version) override { return Need(client_->Call({{"op", "manifest"}, {"version", version}}), "manifest").AsBin(); }
  std::string Chunk(uint64_t version, const std::string& name, uint64_t offset, uint64_t size) override {
    Map answer = client_->Call({{"op", "chunk"}, {"version", version}, {"file", name}, {"offset", offset}, {"size", size}});
    const uint64_t expected = Need(answer, "digest").AsUint(), seen = Digest(Need(answer, "data").AsBin());
    if (seen != expected) {
      throw Error::Data("bytes " + std::to_string(offset) + " on of " + name + ", version " + std::to_string(version) + ", from " + endpoint_ +
                        " have digest " + HexU64(seen) + ", expected " + HexU64(expected));
    }
    return std::move(std::get<stream::Bin>(stream::Find(answer, "data")->held()).bytes);
  }

 private:
  std::string endpoint_;
  std::unique_ptr<stream::RpcClient> client_;
};

void CheckNotStopped() {
  if (StopRequested()) throw Error::Stopped("stopped while fetching", "the same command goes on where it stopped");
}

/// Fetches what is missing of one file; a part that is there already is digested instead.
class FileFetch {
 public:
  FileFetch(VersionSource* source, FileSystem& files, const std::string& directory, const Manifest& manifest, const PublishOptions& options)
      : source_(source), files_(files), directory_(directory), manifest_(manifest), options_(options), total_bytes_(manifest.TotalBytes()) {}

  void Run(const Manifest::File& file) {
    const std::string path = JoinPath(directory_, file.name);
    DigestStream digest;
    uint64_t offset = files_.Exists(path) ? DigestPresent(path, file.size, &digest) : 0;
    const auto out = files_.OpenForAppend(path);
    if (out->Size() > offset) out->Truncate(offset);
    while (offset < file.size) {
      CheckNotStopped();
      const std::string chunk = source_->Chunk(manifest_.version, file.name, offset, std::min(kChunkBytes, file.size - offset));
      if (chunk.empty()) break;
      if (chunk.size() > file.size - offset) throw Error::Data(path + ": more bytes came than were asked for");
      digest.Update(chunk);
      out->Append(chunk);
      offset += chunk.size();
      Advance(chunk.size());
    }
    if (options_.durable) out->Sync();
    out->Close();
    if (offset == file.size && digest.Value() == file.digest) return;
    files_.Remove(path);
    if (offset != file.size) {
      throw Error::Data(file.name + " of version " + std::to_string(manifest_.version) + " ends at byte " + std::to_string(offset) +
                        " at its source, the manifest says " + std::to_string(file.size));
    }
    throw Error::Data(file.name + " of version " + std::to_string(manifest_.version) + " has digest " + HexU64(digest.Value()) +
                          ", the manifest says " + HexU64(file.digest),
                      "run again to fetch this file anew; if that fails too, check the source: weight-sync verify");
  }

 private:
  uint64_t DigestPresent(const std::string& path, uint64_t size, DigestStream* digest) {
    const auto present = files_.OpenForRead(path);
    std::string chunk(kChunkBytes, '\0');
    uint64_t offset = 0;
    while (offset < size) {
      const size_t got = present->ReadAt(offset, chunk.data(), std::min<uint64_t>(chunk.size(), size - offset));
      if (got == 0) break;
      digest->Update(chunk.data(), got);
      offset += got;
      Advance(got);
    }
    return offset;
  }
  void Advance(uint64_t num_bytes) {
    done_bytes_ += num_bytes;
    if (options_.progress) options_.progress(done_bytes_, total_bytes_);
  }

  VersionSource* source_;
  FileSystem& files_;
  const std::string& directory_;
  const Manifest& manifest_;
  const PublishOptions& options_;
  uint64_t total_bytes_, done_bytes_ = 0;
};

/// Makes the partial directory one of this very manifest: what another one left there is thrown away.
void PreparePartial(FileSystem& files, VersionStore* store, uint64_t version, const std::string& text) {
  const std::string partial = store->PartialDirectory(version), promised = JoinPath(partial, kPromised);
  const bool same = files.Exists(promised) && ReadFile(files, promised) == text;
  store->RemovePartials(same ? partial : "");
  if (same) return;
  files.MakeDirectory(partial);
  ReplaceFile(files, promised, text, false);
}

}  // namespace

std::unique_ptr<VersionSource> VersionSource::Open(const std::string& from, int64_t timeout_ms) {
  const auto endpoint = stream::Endpoint::Parse(from);
  if (endpoint.kind == stream::Endpoint::Kind::kZmq) return std::make_unique<ServerSource>(from, timeout_ms);
  return std::make_unique<DirectorySource>(from);
}

Map TransferServer::Answer(const Map& request) {
  const std::string& op = Need(request, "op").AsString();
  if (op == "latest") {
    const auto latest = store_->LatestVersion();
    return {{"version", latest ? Value(*latest) : Value()}};
  }
  if (op == "manifest") {
    open_path_.clear();  // the number may belong to other weights by now
    const std::string directory = store_->Open(Need(request, "version").AsUint()).directory;
    return {{"manifest", stream::Bin{ReadFile(*files_, JoinPath(directory, "manifest.json"))}}};
  }
  if (op == "chunk") return AnswerChunk(request);
  throw Error::Incompatible("weight transfer: unknown request \"" + op.substr(0, 40) + "\"",
                            "client and server may be of different versions of april");
}

Map TransferServer::AnswerChunk(const Map& request) {
  const uint64_t version = Need(request, "version").AsUint(), offset = Need(request, "offset").AsUint(), size = Need(request, "size").AsUint();
  const std::string& name = Need(request, "file").AsString();
  if (size > kMaxChunkBytes) throw Error::Usage("weight transfer: a chunk of " + HumanBytes(size) + ", at most 16 MiB");
  const std::string path = JoinPath(store_->directory(), DirectoryName(version) + "/" + name);
  if (path != open_path_) {
    const Manifest manifest = store_->Open(version).manifest;  // only what the manifest names is served
    if (std::none_of(manifest.files.begin(), manifest.files.end(), [&](const auto& file) { return file.name == name; })) {
      throw Error::Runtime("version " + std::to_string(version) + " in " + store_->directory() + " has no file of that name");
    }
    open_file_ = files_->OpenForRead(path);
    open_path_ = path;
  }
  std::string data(size, '\0');
  data.resize(open_file_->ReadAt(offset, data.data(), size));
  bytes_sent_ += data.size();
  const uint64_t digest = Digest(data);
  return {{"data", stream::Bin{std::move(data)}}, {"digest", digest}};
}

Manifest Fetch(VersionSource* source, VersionStore* store, uint64_t version, const PublishOptions& options, FileSystem& files) {
  const std::string text = source->ManifestText(version);
  const Manifest manifest = ParseManifest(text, "the manifest of version " + std::to_string(version));
  if (manifest.version != version || manifest.base) {
    throw Error::Incompatible("asked for version " + std::to_string(version) + ", the manifest is " +
                              (manifest.base ? "a delta" : "version " + std::to_string(manifest.version) + "'s"));
  }
  const auto lock = store->LockForWriting();
  if (store->Settled(manifest, options)) return manifest;
  PreparePartial(files, store, version, text);
  const std::string partial = store->PartialDirectory(version);
  FileFetch fetch(source, files, partial, manifest, options);
  for (const Manifest::File& file : manifest.files) fetch.Run(file);
  VerifyTensors(partial, manifest);
  files.Remove(JoinPath(partial, kPromised));
  ReplaceFile(files, JoinPath(partial, "manifest.json"), text, options.durable);
  store->Complete(manifest, options);
  return manifest;
}

std::optional<Manifest> FetchLatest(VersionSource* source, VersionStore* store, std::optional<uint64_t> have, const PublishOptions& options,
                                    FileSystem& files) {
  std::optional<uint64_t> latest = source->LatestVersion();
  while (latest && latest != have) {
    try {
      return Fetch(source, store, *latest, options, files);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kRuntime && error.kind() != ErrorKind::kData) throw;
      const std::optional<uint64_t> newer = source->LatestVersion();
      if (newer == latest) throw;
      log::Info("version " + std::to_string(*latest) + " was not copied: " + error.message() + "; a newer one has come");
      latest = newer;
    }
  }
  return std::nullopt;
}

}  // namespace april::weights
