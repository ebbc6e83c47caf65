#include "weights/version_store.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"
#include "weights/safetensors.h"

namespace april::weights {

std::string DirectoryName(uint64_t version) {
  std::string digits = std::to_string(version);
  if (digits.size() < 8) digits.insert(0, 8 - digits.size(), '0');
  return "v" + digits;
}

namespace {

constexpr const char* kManifestName = "manifest.json";
constexpr const char* kWeightsName = "model.safetensors";
constexpr const char* kPartialSuffix = ".partial";
constexpr uint64_t kDigestBytes = 256u << 10;  // digested and written while it is in the second-level cache

std::optional<uint64_t> ParseNumber(std::string_view text) {
  uint64_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || status != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// "v00000012" -> 12.
std::optional<uint64_t> ParseDirectoryName(std::string_view name) {
  if (name.empty() || name[0] != 'v') return std::nullopt;
  const auto version = ParseNumber(name.substr(1));
  return version && DirectoryName(*version) == name ? version : std::nullopt;
}

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// Writes a file and knows its digest when it is done.
class DigestedFile {
 public:
  DigestedFile(FileSystem& files, const std::string& path) : file_(files.Create(path)) {}
  void Append(const char* data, uint64_t num_bytes) {
    digest_.Update(data, num_bytes);
    file_->Append(data, num_bytes);
  }
  Manifest::File Finish(const std::string& name, bool durable) {
    const uint64_t size = file_->Size();
    if (durable) file_->Sync();
    file_->Close();
    return {name, size, digest_.Value()};
  }

 private:
  std::unique_ptr<WritableFile> file_;
  DigestStream digest_;
};

const char* DataOf(const TensorView& tensor, const PublishOptions& options) {
  if (tensor.data || tensor.num_bytes == 0) return static_cast<const char*>(tensor.data);
  if (!options.load) throw Error::Usage("tensor " + tensor.name + " has no data");
  return static_cast<const char*>(options.load(tensor));
}

Manifest::Tensor Described(const TensorView& tensor, uint64_t digest) { return {tensor.name, Name(tensor.dtype), tensor.shape, digest}; }

void SortByName(std::vector<Manifest::Tensor>* tensors) {
  std::sort(tensors->begin(), tensors->end(), [](const auto& a, const auto& b) { return a.name < b.name; });
}

/// Digests only: what Publish would write.
std::vector<Manifest::Tensor> DescribeTensors(const std::vector<TensorView>& tensors, const PublishOptions& options) {
  std::vector<Manifest::Tensor> described;
  for (const TensorView& tensor : tensors) described.push_back(Described(tensor, Digest(DataOf(tensor, options), tensor.num_bytes)));
  SortByName(&described);
  return described;
}

Manifest::File WriteTensors(FileSystem& files, const std::string& directory, const std::vector<TensorView>& tensors, const PublishOptions& options,
                            std::vector<Manifest::Tensor>* described) {
  const SafetensorsLayout layout = LayOutSafetensors(tensors, {{"format", "pt"}});
  DigestedFile file(files, JoinPath(directory, kWeightsName));
  file.Append(layout.head.data(), layout.head.size());
  uint64_t done = 0;
  for (const size_t index : layout.order) {
    const TensorView& tensor = tensors[index];
    const char* data = DataOf(tensor, options);
    DigestStream digest;
    for (uint64_t offset = 0; offset < tensor.num_bytes; offset += kDigestBytes) {
      const uint64_t size = std::min(kDigestBytes, tensor.num_bytes - offset);
      digest.Update(data + offset, size);
      file.Append(data + offset, size);
      done += size;
      if (options.progress) options.progress(done, layout.data_bytes);
    }
    described->push_back(Described(tensor, digest.Value()));
  }
  SortByName(described);
  return file.Finish(kWeightsName, options.durable);
}

Manifest::File CopyFile(FileSystem& files, const std::string& from, const std::string& directory, bool durable) {
  const std::string name = BaseName(from);
  DigestedFile file(files, JoinPath(directory, name));
  const std::string contents = ReadFile(files, from);
  file.Append(contents.data(), contents.size());
  return file.Finish(name, durable);
}

void CheckPresent(FileSystem& files, const std::string& path) {
  if (!files.Exists(path)) throw Error::Data(path + " is missing, the manifest lists it", "fetch or publish the version again");
}

void CheckDigest(uint64_t seen, uint64_t expected, const std::string& subject) {
  if (seen != expected) {
    throw Error::Data(subject + ": its digest is " + HexU64(seen) + ", the manifest says " + HexU64(expected), "fetch or publish the version again");
  }
}

void VerifyFile(FileSystem& files, const std::string& directory, const Manifest::File& file, const std::function<void(uint64_t got)>& progress) {
  const std::string path = JoinPath(directory, file.name);
  CheckPresent(files, path);
  const auto opened = files.OpenForRead(path);
  DigestStream digest;
  std::string chunk(kDigestBytes, '\0');
  uint64_t size = 0;
  while (const size_t got = opened->ReadAt(size, chunk.data(), chunk.size())) {
    digest.Update(chunk.data(), got);
    size += got;
    if (progress) progress(got);
  }
  if (size != file.size)
    throw Error::Data(path + " has " + std::to_string(size) + " bytes, the manifest says " + std::to_string(file.size),
                      "fetch or publish the version again");
  CheckDigest(digest.Value(), file.digest, path);
}

/// What else `directory` is by its own manifest, which a version store has not; "" when nothing that is known.
std::string OtherKind(FileSystem& files, const std::string& directory) {
  constexpr std::pair<const char*, const char*> kKinds[] = {
      {"april-buffer", "a buffer"}, {"april-checkpoint", "a checkpoint"}, {"april-weights", "one version of a store"}};
  const std::string path = JoinPath(directory, kManifestName);
  if (!files.Exists(path)) return "";
  const Json json = Json::parse(ReadFile(files, path), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("format")) return "";
  for (const auto& [format, kind] : kKinds) {
    if (json.at("format") == format) return kind;
  }
  return "";
}

}  // namespace

VersionStore::VersionStore(std::string directory, FileSystem& files) : directory_(std::move(directory)), files_(&files) {
  if (const std::string other = OtherKind(files, directory_); !other.empty()) {
    throw Error::Usage(directory_ + " is " + other + ", not a version store", "versions have a directory of their own, for example run/weights");
  }
}

std::string VersionStore::VersionDirectory(uint64_t version) const { return JoinPath(directory_, DirectoryName(version)); }
std::string VersionStore::PartialDirectory(uint64_t version) const { return VersionDirectory(version) + kPartialSuffix; }

bool VersionStore::HasVersion(uint64_t version) const {
  try {
    return files_->Exists(JoinPath(VersionDirectory(version), kManifestName));
  } catch (const Error&) {
    return true;  // opening it says what is wrong
  }
}

std::optional<uint64_t> VersionStore::LatestVersion() {
  const std::string path = JoinPath(directory_, "LATEST");
  if (!files_->Exists(path)) return std::nullopt;
  const std::string text = ReadFile(*files_, path);
  const auto version = text.ends_with('\n') ? ParseNumber(std::string_view(text).substr(0, text.size() - 1)) : std::nullopt;
  if (!version)
    throw Error::Data(path + " names no version: \"" + text.substr(0, 40) + "\"",
                      "weight-sync list shows which versions are there; write its number and a line feed into the file");
  return version;
}

std::vector<uint64_t> VersionStore::Versions() {
  std::vector<uint64_t> versions;
  if (!files_->Exists(directory_)) return versions;
  for (const std::string& name : files_->List(directory_)) {
    const auto version = ParseDirectoryName(name);
    if (version && HasVersion(*version)) versions.push_back(*version);
  }
  std::sort(versions.begin(), versions.end());
  return versions;
}

Version VersionStore::Open(uint64_t version) {
  Version opened{VersionDirectory(version), {}};
  const std::string path = JoinPath(opened.directory, kManifestName);
  if (!files_->Exists(path)) {
    throw Error::Runtime("no version " + std::to_string(version) + " in " + directory_ + ": " + path + " does not exist",
                         "weight-sync list shows which versions are there");
  }
  opened.manifest = ParseManifest(ReadFile(*files_, path), path);
  if (opened.manifest.version != version) {
    throw Error::Data(path + " is version " + std::to_string(opened.manifest.version) + "'s manifest, expected version " + std::to_string(version));
  }
  if (opened.manifest.base) throw Error::Incompatible(path + ": version " + std::to_string(version) + " is a delta, which this build does not read");
  return opened;
}

void VersionStore::Verify(const Version& version) {
  if (const auto problems = Problems(version); !problems.empty()) throw problems.front();
}

std::vector<Error> VersionStore::Problems(const Version& version) {
  std::vector<Error> problems;
  const auto note = [&](const std::function<void()>& check) {
    try {
      check();
    } catch (const Error& error) {
      problems.push_back(error);
    }
  };
  for (const Manifest::File& file : version.manifest.files) note([&] { VerifyFile(*files_, version.directory, file, {}); });
  if (problems.empty()) note([&] { VerifyTensors(version.directory, version.manifest); });
  return problems;
}

void VerifyFiles(FileSystem& files, const std::string& directory, const Manifest& manifest, const std::function<void(uint64_t)>& progress) {
  uint64_t done = 0;
  for (const Manifest::File& file : manifest.files) {
    VerifyFile(files, directory, file, [&](uint64_t got) {
      if (progress) progress(done += got);
    });
  }
  VerifyTensors(directory, manifest);
}

void VerifyTensors(const std::string& directory, const Manifest& manifest) {
  const std::string path = JoinPath(directory, kWeightsName);
  CheckPresent(SystemFiles(), path);
  const SafetensorsFile weights(path);
  if (weights.tensors().size() != manifest.tensors.size()) {
    throw Error::Data(weights.path() + " has " + std::to_string(weights.tensors().size()) + " tensors, the manifest says " +
                      std::to_string(manifest.tensors.size()));
  }
  for (size_t i = 0; i < manifest.tensors.size(); ++i) {
    const TensorView& seen = weights.tensors()[i];
    const Manifest::Tensor& expected = manifest.tensors[i];
    const std::string subject = weights.path() + ": tensor " + expected.name;
    if (seen.name != expected.name || Name(seen.dtype) != expected.dtype || seen.shape != expected.shape) {
      throw Error::Data(subject + ": the file has " + seen.name + " " + Name(seen.dtype) + " " + ShapeText(seen.shape) + ", the manifest " +
                        expected.dtype + " " + ShapeText(expected.shape));
    }
    CheckDigest(Digest(seen.data, seen.num_bytes), expected.digest, subject);
  }
}

std::unique_ptr<FileLock> VersionStore::LockForWriting() {
  files_->MakeDirectory(directory_);
  auto lock = files_->Lock(JoinPath(directory_, "LOCK"), 0);
  if (!lock)
    throw Error::Runtime("another process is writing into " + directory_, "one trainer, or one weight-sync, writes into a directory at a time");
  return lock;
}

void VersionStore::RemoveTree(const std::string& path) {
  for (const std::string& name : files_->List(path)) files_->Remove(JoinPath(path, name));
  files_->Remove(path);
}

void VersionStore::RemoveVersion(uint64_t version) {
  const std::string path = VersionDirectory(version);
  if (HasVersion(version)) files_->Remove(JoinPath(path, kManifestName));
  if (files_->Exists(path)) RemoveTree(path);
}

void VersionStore::RemovePartials(const std::string& except) {
  for (const std::string& name : files_->List(directory_)) {
    const std::string path = JoinPath(directory_, name);
    const bool partial = name.ends_with(kPartialSuffix) && ParseDirectoryName(name.substr(0, name.size() - std::string_view(kPartialSuffix).size()));
    const auto version = ParseDirectoryName(name);
    const bool without_manifest = version && !HasVersion(*version);  // a removal that was cut short
    if ((partial && path != except) || without_manifest) RemoveTree(path);
  }
}

bool VersionStore::Settled(const Manifest& wanted, const PublishOptions& options) {
  const uint64_t version = wanted.version;
  if (!HasVersion(version)) return false;
  const Manifest present = Open(version).manifest;
  if (present.digest != wanted.digest) {
    if (options.supersede) return false;
    throw Error::Incompatible("version " + std::to_string(version) + " in " + directory_ + " has other weights: " + HexU64(present.digest) +
                                  ", these are " + HexU64(wanted.digest),
                              "use a new number, or supersede that version and all later ones");
  }
  try {
    VerifyFiles(*files_, VersionDirectory(version), present);
  } catch (const Error&) {
    return false;  // damaged since: written anew
  }
  MakeLatest(version, options);
  return true;
}

Manifest VersionStore::Publish(uint64_t version, const std::vector<TensorView>& tensors, const std::vector<std::string>& sidecar_files, bool durable,
                               int64_t keep) {
  PublishOptions options;
  options.durable = durable;
  options.keep = keep;
  return Publish(version, tensors, sidecar_files, options);
}

Manifest VersionStore::Publish(uint64_t version, const std::vector<TensorView>& tensors, const std::vector<std::string>& sidecar_files,
                               const PublishOptions& options) {
  const auto lock = LockForWriting();
  RemovePartials("");
  if (HasVersion(version)) {
    Manifest wanted;
    wanted.version = version;
    wanted.digest = WeightsDigest(DescribeTensors(tensors, options));
    if (Settled(wanted, options)) return Open(version).manifest;
  }
  const std::string partial = PartialDirectory(version);
  files_->MakeDirectory(partial);
  Manifest manifest;
  manifest.version = version;
  manifest.files.push_back(WriteTensors(*files_, partial, tensors, options, &manifest.tensors));
  for (const std::string& path : sidecar_files) manifest.files.push_back(CopyFile(*files_, path, partial, options.durable));
  std::sort(manifest.files.begin(), manifest.files.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  manifest.digest = WeightsDigest(manifest.tensors);
  const std::string text = ManifestText(manifest);
  ParseManifest(text, partial);  // refuses what no reader would take: a file twice, a strange name
  ReplaceFile(*files_, JoinPath(partial, kManifestName), text, options.durable);
  Complete(manifest, options);
  return manifest;
}

void VersionStore::Complete(const Manifest& manifest, const PublishOptions& options) {
  if (files_->Exists(VersionDirectory(manifest.version))) RemoveVersion(manifest.version);
  files_->Rename(PartialDirectory(manifest.version), VersionDirectory(manifest.version));
  if (options.durable) files_->SyncDirectory(directory_);
  MakeLatest(manifest.version, options);
}

void VersionStore::MakeLatest(uint64_t version, const PublishOptions& options) {
  const auto latest = LatestVersion();
  if (!latest || version > *latest || options.supersede) {
    ReplaceFile(*files_, JoinPath(directory_, "LATEST"), std::to_string(version) + "\n", options.durable);
  }
  const uint64_t named = LatestVersion().value_or(version);
  std::vector<uint64_t> versions = Versions();
  if (options.supersede) {
    for (const uint64_t later : versions) {
      if (later > version) RemoveVersion(later);
    }
    std::erase_if(versions, [&](uint64_t later) { return later > version; });
  }
  const auto keep = static_cast<size_t>(std::max<int64_t>(options.keep, 1));
  for (size_t i = 0; i + keep < versions.size(); ++i) {
    if (versions[i] != named && versions[i] != version) RemoveVersion(versions[i]);
  }
}

}  // namespace april::weights
