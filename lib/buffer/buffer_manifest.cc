#include "buffer/buffer_manifest.h"

#include <cstdint>
#include <cstdio>
#include <utility>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"

namespace april::buffer {
namespace {

constexpr uint64_t kManifestMajor = 1;
constexpr int kMinor = 0;

std::string ManifestPath(const std::string& directory) { return JoinPath(directory, "manifest.json"); }

/// A count of the manifest. Throws Data when it is none, or larger than `limit`.
uint64_t Whole(const Json& json, const char* key, uint64_t limit = UINT64_MAX) {
  const Json& value = json.at(key);
  if (!value.is_number_unsigned() || value.get<uint64_t>() > limit)
    throw Error::Data(std::string("\"") + key + "\" is " + value.dump() + ", no count");
  return value.get<uint64_t>();
}

Manifest ParseManifest(const std::string& directory, std::string text) {
  const std::string path = ManifestPath(directory);
  try {
    Json json = Json::parse(text);
    if (json.at("format") != "april-buffer")
      throw Error::Data(path + ": format is " + json.at("format").dump() + ", expected \"april-buffer\"", RepairHint(directory));
    if (const uint64_t min_reader = Whole(json, "min_reader"); min_reader > kManifestMajor) {
      throw Error::Incompatible(
          path + ": needs a reader of version " + std::to_string(min_reader) + ", this build reads " + std::to_string(kManifestMajor),
          "use the build that wrote it");
    }
    const std::string digest = json.at("digest").get<std::string>();
    json.erase("digest");
    if (digest != HexU64(Digest(json.dump()))) throw Error::Data(path + ": its digest does not fit its contents", RepairHint(directory));
    Manifest manifest;
    manifest.run = json.at("run").get<std::string>();
    manifest.writer_epoch = Whole(json, "writer_epoch");
    manifest.may_write = Whole(json, "min_writer") <= kManifestMajor;
    manifest.compactions = Whole(json, "compactions");
    manifest.next_number = static_cast<uint32_t>(Whole(json, "next_number", UINT32_MAX));
    for (const Json& segment : json.at("segments")) {
      manifest.segments.push_back({static_cast<uint32_t>(Whole(segment, "number", UINT32_MAX)), segment.at("name").get<std::string>(),
                                   Whole(segment, "epoch"), Whole(segment, "first"), std::nullopt});
      if (segment.contains("frames")) manifest.segments.back().frames = Whole(segment, "frames");
    }
    manifest.retired = json.at("retired").get<std::vector<std::string>>();
    if (manifest.segments.empty()) throw Error::Data(path + ": it names no segment", RepairHint(directory));
    manifest.text = std::move(text);
    return manifest;
  } catch (const Json::exception& error) {
    throw Error::Data(path + ": damaged (" + JsonProblem(error) + ")", RepairHint(directory));
  }
}

}  // namespace

std::string RepairHint(const std::string& directory) {
  return "to see what is lost, and what repair would do: partial-buffer repair -s " + directory + " --dry-run";
}

std::string SegmentPath(uint32_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "journal/%08u.zst", number);
  return name;
}

Manifest ReadManifest(FileSystem& files, const std::string& directory) {
  if (directory.empty()) throw Error::Usage("which buffer? -s DIR is missing", "for example -s run/buffer");
  const std::string path = ManifestPath(directory);
  if (!files.Exists(path)) {
    if (files.Exists(JoinPath(directory, SegmentPath(1))) || files.Exists(JoinPath(directory, kInitCopy)))
      throw Error::Data(path + " is missing, though the journal is there", RepairHint(directory));
    const std::string below = LastWith(files, directory, "journal");
    throw Error::Usage(directory + " is no buffer: it has no manifest.json",
                       below.empty() ? "make one with: partial-buffer init -s " + directory + " --model PATH …" : "did you mean -s " + below + "?");
  }
  return ParseManifest(directory, ReadFile(files, path));
}

void Reread(FileSystem& files, const std::string& directory, Manifest* manifest) {
  std::string text = ReadFile(files, ManifestPath(directory));
  if (text != manifest->text) *manifest = ParseManifest(directory, std::move(text));
}

void WriteManifest(FileSystem& files, const std::string& directory, const Manifest& manifest) {
  Json json = {{"format", "april-buffer"},
               {"version", {kManifestMajor, kMinor}},
               {"min_reader", kManifestMajor},
               {"min_writer", kManifestMajor},
               {"run", manifest.run},
               {"writer_epoch", manifest.writer_epoch},
               {"compactions", manifest.compactions},
               {"next_number", manifest.next_number}};
  json["segments"] = Json::array();
  for (const SegmentName& segment : manifest.segments) {
    Json named = {{"number", segment.number}, {"name", segment.name}, {"epoch", segment.epoch}, {"first", segment.first}};
    if (segment.frames) named["frames"] = *segment.frames;
    json["segments"].push_back(std::move(named));
  }
  json["retired"] = manifest.retired;
  const uint64_t digest = Digest(json.dump());
  json["digest"] = HexU64(digest);
  ReplaceFile(files, ManifestPath(directory), json.dump() + "\n", /*durable=*/true);
}

}  // namespace april::buffer
