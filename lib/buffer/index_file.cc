#include "buffer/index_file.h"

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/log.h"

namespace april::buffer {
namespace {

// The layout is the build's own: another build's index is ignored, so it needs no table in the formats.
constexpr uint32_t kMagic = 0x58525041;  // "APRX"
constexpr uint32_t kLayout = 2;

struct Head {
  uint32_t magic, layout;
  uint64_t version_digest;  ///< of the build's version
  JournalPoint point;
  uint64_t state_bytes, state_digest;
};

uint64_t VersionDigest() { return Digest(APRIL_VERSION); }

std::string PathOf(const std::string& directory) { return JoinPath(directory, kIndex); }

}  // namespace

uint64_t WriteIndex(FileSystem& files, const std::string& directory, const JournalPoint& point, const State& state) {
  std::string bytes(sizeof(Head), '\0');
  state.Save(&bytes);
  const std::string_view saved = std::string_view(bytes).substr(sizeof(Head));
  StoreLe(bytes.data(), Head{kMagic, kLayout, VersionDigest(), point, saved.size(), Digest(saved)});
  ReplaceFile(files, PathOf(directory), bytes, /*durable=*/false);
  return bytes.size();
}

std::optional<Index> ReadIndex(FileSystem& files, const std::string& directory) {
  if (!files.Exists(PathOf(directory))) return std::nullopt;
  try {
    const std::string bytes = ReadFile(files, PathOf(directory));
    if (bytes.size() < sizeof(Head)) return std::nullopt;
    const Head head = LoadLe<Head>(bytes.data());
    const std::string_view saved = std::string_view(bytes).substr(sizeof(Head));
    if (head.magic != kMagic || head.layout != kLayout || head.version_digest != VersionDigest()) return std::nullopt;
    if (head.state_bytes != saved.size() || head.state_digest != Digest(saved)) return std::nullopt;
    std::optional<Index> index(std::in_place);
    index->point = head.point;
    index->bytes = bytes.size();
    index->state.Load(saved);
    return index;
  } catch (const Error& error) {
    log::Detail(PathOf(directory) + " is not used: " + error.message());
    return std::nullopt;
  }
}

}  // namespace april::buffer
