// weight-sync verify and list: what is in a version store.
#include <optional>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/printing.h"
#include "weights/sync_commands.h"

namespace april::weights {
namespace {

std::vector<uint64_t> Selected(const StoreCommand& options, VersionStore& store) {
  CheckStore(options.dir);
  return options.version >= 0 ? std::vector<uint64_t>{static_cast<uint64_t>(options.version)} : store.Versions();
}

}  // namespace

void StoreCommand::Register(OptionsVisitor& options) {
  options.Argument("DIR", &dir, true, "the version store");
  options.Integer("version", &version, -1, kNoUpperLimit, "only this version; -1: all");
}

void RunVerify(const StoreCommand& options, Invocation& invocation) {
  VersionStore store(options.dir);
  uint64_t num_good = 0, num_bad = 0, num_removed = 0, num_bytes = 0;
  for (const uint64_t version : Selected(options, store)) {
    try {
      const Version opened = store.Open(version);
      store.Verify(opened);
      ++num_good;
      num_bytes += opened.manifest.TotalBytes();
    } catch (const Error& error) {
      if (options.version < 0 && !store.HasVersion(version)) {
        ++num_removed;  // to make room for a newer one
        continue;
      }
      if (error.kind() != ErrorKind::kData) throw;
      ++num_bad;
      log::Warn(error.message());
    }
  }
  if (const auto latest = store.LatestVersion(); options.version < 0 && latest && !store.HasVersion(*latest)) {
    ++num_bad;
    log::Warn(options.dir + "/LATEST names version " + std::to_string(*latest) + ", which is not there");
  }
  const uint64_t num_checked = num_good + num_bad + num_removed;
  invocation.summary = "checked " + std::to_string(num_checked) + (num_checked == 1 ? " version: " : " versions: ") + std::to_string(num_good) +
                       " whole (" + HumanBytes(num_bytes) + "), " + std::to_string(num_bad) + " damaged" +
                       (num_removed == 0 ? "" : ", " + std::to_string(num_removed) + " removed meanwhile");
  if (num_bad > 0) throw Error::Data(options.dir + " has damaged versions", "publish or fetch them again");
}

void RunList(const StoreCommand& options, Invocation&) {
  VersionStore store(options.dir);
  const auto versions = Selected(options, store);
  const auto latest = store.LatestVersion();
  for (const uint64_t version : versions) {
    const Manifest manifest = store.Open(version).manifest;
    const Json line = {{"version", version},
                       {"weights", HexU64(manifest.digest)},
                       {"tensors", manifest.tensors.size()},
                       {"bytes", manifest.TotalBytes()},
                       {"latest", latest == version}};
    PrintOut(line.dump() + "\n");
  }
}

}  // namespace april::weights
