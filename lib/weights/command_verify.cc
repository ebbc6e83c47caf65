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

/// All that is wrong with a version.
std::vector<Error> Problems(VersionStore& store, uint64_t version, Manifest* manifest) {
  try {
    const Version opened = store.Open(version);
    *manifest = opened.manifest;
    return store.Problems(opened);
  } catch (const Error& error) {
    return {error};
  }
}

std::optional<Error> ProblemOfLatest(VersionStore& store) {
  try {
    const auto latest = store.LatestVersion();
    if (!latest || store.HasVersion(*latest)) return std::nullopt;
    return Error::Data(store.directory() + "/LATEST names version " + std::to_string(*latest) + ", which is not there");
  } catch (const Error& error) {
    return error;
  }
}

}  // namespace

void StoreCommand::Register(OptionsVisitor& options) {
  options.Argument("DIR", &dir, true, "the version store");
  options.Integer("version", &version, -1, kNoUpperLimit, "only this version; -1: all");
}

void RunVerify(const StoreCommand& options, Invocation& invocation) {
  VersionStore store(options.dir);
  uint64_t num_good = 0, num_damaged = 0, num_unread = 0, num_removed = 0, num_bytes = 0;
  std::optional<Error> worst;  // damage, else the first
  const auto tell = [&](const std::vector<Error>& problems) {
    bool damaged = false;
    for (const Error& error : problems) {
      log::Warn(error.message());
      damaged |= error.kind() == ErrorKind::kData;
      if (!worst || (damaged && worst->kind() != ErrorKind::kData)) worst = error;
    }
    return damaged;
  };
  for (const uint64_t version : Selected(options, store)) {
    Manifest manifest;
    const std::vector<Error> problems = Problems(store, version, &manifest);
    if (problems.empty()) {
      ++num_good;
      num_bytes += manifest.TotalBytes();
    } else if (options.version < 0 && !store.HasVersion(version)) {
      ++num_removed;  // to make room for a newer one
    } else {
      ++(tell(problems) ? num_damaged : num_unread);
    }
  }
  if (const auto problem = options.version < 0 ? ProblemOfLatest(store) : std::nullopt) tell({*problem});
  const uint64_t num_checked = num_good + num_damaged + num_unread + num_removed;
  invocation.summary = "checked " + std::to_string(num_checked) + (num_checked == 1 ? " version: " : " versions: ") + std::to_string(num_good) +
                       " whole (" + HumanBytes(num_bytes) + "), " + std::to_string(num_damaged) + " damaged" +
                       (num_unread == 0 ? "" : ", " + std::to_string(num_unread) + " that could not be read") +
                       (num_removed == 0 ? "" : ", " + std::to_string(num_removed) + " removed meanwhile");
  if (!worst) return;
  if (worst->kind() == ErrorKind::kData) throw Error::Data(options.dir + " is damaged", "publish or fetch the damaged versions again");
  throw Error(worst->kind(), options.dir + " could not be checked whole", worst->hint());
}

void RunList(const StoreCommand& options, Invocation&) {
  VersionStore store(options.dir);
  const auto versions = Selected(options, store);
  if (versions.empty())
    throw Error::NotReady("no versions in " + options.dir, "this publishes one: weight-sync publish --model MODEL --to " + options.dir);
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
