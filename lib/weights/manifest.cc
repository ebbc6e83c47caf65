#include "weights/manifest.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"

namespace april::weights {
namespace {

constexpr const char* kFormat = "april-weights";
constexpr int kMajor = 1, kMinor = 0;

/// A name that a receiver may create inside a version's directory without surprises.
bool IsPlainName(const std::string& name) {
  constexpr std::string_view kOther = "._-+";
  return !name.empty() && name.size() <= 200 && name[0] != '.' && name != "manifest.json" && name != "manifest.promised" &&
         std::all_of(name.begin(), name.end(), [&](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || kOther.find(c) != std::string_view::npos;
         });
}

/// Fields of one manifest; every failure names the key.
class Fields {
 public:
  Fields(const Json& json, const std::string& subject) : json_(json), subject_(subject) {
    if (!json.is_object()) throw Bad("an entry", json);
  }
  const Json& Need(const char* key) const {
    const auto it = json_.find(key);
    if (it == json_.end()) throw Error::Data(subject_ + ": no manifest: \"" + key + "\" is missing");
    return *it;
  }
  uint64_t Number(const char* key) const {
    const Json& value = Need(key);
    if (!value.is_number_unsigned()) throw Bad(key, value);
    return value.get<uint64_t>();
  }
  std::string Text(const char* key) const {
    const Json& value = Need(key);
    if (!value.is_string()) throw Bad(key, value);
    return value.get<std::string>();
  }
  uint64_t DigestOf(const char* key) const {
    try {
      return ParseHexU64(Text(key));
    } catch (const Error& error) {
      throw error.Within(subject_ + ": bad manifest: \"" + std::string(key) + "\"");
    }
  }
  const Json& List(const char* key) const {
    const Json& value = Need(key);
    if (!value.is_array()) throw Bad(key, value);
    return value;
  }
  Error Bad(const std::string& key, const Json& value) const {
    return Error::Data(subject_ + ": bad manifest: " + key + " is " + value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80));
  }

 private:
  const Json& json_;
  const std::string& subject_;
};

void CheckFormat(const Fields& fields, const std::string& subject) {
  if (fields.Text("format") != kFormat)
    throw Error::Data(subject + ": no manifest: format is \"" + fields.Text("format") + "\", expected \"april-weights\"");
  const Json& version = fields.List("format_version");
  if (version.empty() || !version[0].is_number_unsigned()) throw fields.Bad("format_version", version);
  if (version[0] != kMajor) {
    throw Error::Incompatible(subject + ": format version " + version.dump() + "; this build reads " + std::to_string(kMajor) + ".x",
                              "use a newer april");
  }
}

Manifest::Tensor TensorOf(const Json& json, const std::string& subject) {
  const Fields fields(json, subject);
  Manifest::Tensor tensor;
  tensor.name = fields.Text("name");
  tensor.dtype = fields.Text("dtype");
  for (const Json& dimension : fields.List("shape")) {
    if (!dimension.is_number_unsigned() || dimension.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
      throw fields.Bad("shape", fields.Need("shape"));
    tensor.shape.push_back(dimension.get<int64_t>());
  }
  tensor.digest = fields.DigestOf("digest");
  return tensor;
}

/// Sorted, and each name once.
template <typename T>
void SortByName(std::vector<T>* entries, const std::string& subject) {
  std::sort(entries->begin(), entries->end(), [](const T& a, const T& b) { return a.name < b.name; });
  const auto twice = std::adjacent_find(entries->begin(), entries->end(), [](const T& a, const T& b) { return a.name == b.name; });
  if (twice != entries->end()) throw Error::Data(subject + ": bad manifest: \"" + twice->name + "\" appears twice");
}

}  // namespace

uint64_t Manifest::TotalBytes() const {
  uint64_t total = 0;
  for (const File& file : files) total += file.size;
  return total;
}

uint64_t WeightsDigest(std::vector<Manifest::Tensor> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const Manifest::Tensor& a, const Manifest::Tensor& b) { return a.name < b.name; });
  std::string bytes = "april-weights-1\n";
  for (const Manifest::Tensor& tensor : tensors) {
    AppendLe<uint32_t>(bytes, static_cast<uint32_t>(tensor.name.size()));
    bytes += tensor.name;
    AppendLe<uint32_t>(bytes, static_cast<uint32_t>(tensor.dtype.size()));
    bytes += tensor.dtype;
    AppendLe<uint32_t>(bytes, static_cast<uint32_t>(tensor.shape.size()));
    for (const int64_t dimension : tensor.shape) AppendLe<int64_t>(bytes, dimension);
    AppendLe<uint64_t>(bytes, tensor.digest);
  }
  return Digest(bytes);
}

std::string ManifestText(const Manifest& manifest) {
  Json json;
  json["format"] = kFormat;
  json["format_version"] = {kMajor, kMinor};
  json["version"] = manifest.version;
  json["base"] = manifest.base ? Json(*manifest.base) : Json(nullptr);
  json["digest"] = HexU64(manifest.digest);
  json["files"] = Json::array();
  for (const Manifest::File& file : manifest.files)
    json["files"].push_back({{"name", file.name}, {"size", file.size}, {"digest", HexU64(file.digest)}});
  json["tensors"] = Json::array();
  for (const Manifest::Tensor& tensor : manifest.tensors) {
    json["tensors"].push_back({{"name", tensor.name}, {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"digest", HexU64(tensor.digest)}});
  }
  return json.dump(1) + "\n";
}

Manifest ParseManifest(std::string_view text, const std::string& subject) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) throw Error::Data(subject + ": no manifest: it is no valid JSON");
  const Fields fields(json, subject);
  CheckFormat(fields, subject);
  Manifest manifest;
  manifest.version = fields.Number("version");
  if (const Json& base = fields.Need("base"); !base.is_null()) manifest.base = fields.Number("base");
  manifest.digest = fields.DigestOf("digest");
  for (const Json& entry : fields.List("files")) {
    const Fields file(entry, subject);
    manifest.files.push_back({file.Text("name"), file.Number("size"), file.DigestOf("digest")});
    if (!IsPlainName(manifest.files.back().name)) throw file.Bad("file name", file.Need("name"));
  }
  for (const Json& entry : fields.List("tensors")) manifest.tensors.push_back(TensorOf(entry, subject));
  SortByName(&manifest.files, subject);
  SortByName(&manifest.tensors, subject);
  if (const uint64_t seen = WeightsDigest(manifest.tensors); seen != manifest.digest) {
    throw Error::Data(subject + ": the manifest's digest is " + HexU64(manifest.digest) + ", but its tensors give " + HexU64(seen));
  }
  return manifest;
}

}  // namespace april::weights
