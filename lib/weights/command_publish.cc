// weight-sync publish, and what the commands share.
#include <algorithm>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "weights/import.h"
#include "weights/sync_commands.h"

namespace april::weights {

void Need(const std::string& value, const char* option) {
  if (value.empty()) throw Error::Usage(std::string("--") + option + " is needed", "try --help");
}

void CheckStore(const std::string& directory) {
  if (!SystemFiles().Exists(directory)) throw Error::Runtime("no version store at " + directory + ": no such directory");
}

std::string Described(const Manifest& manifest) {
  return "version " + std::to_string(manifest.version) + " (" + std::to_string(manifest.tensors.size()) + " tensors, " +
         HumanBytes(manifest.TotalBytes()) + ", weights " + HexU64(manifest.digest) + ")";
}

void StoreOptions::Register(OptionsVisitor& options) {
  options.Text("to", &to, "DIR", "the version store to write into; made if it does not exist");
  options.Integer("keep", &publish.keep, 1, kNoUpperLimit, "newest versions that stay there; older ones are removed");
  options.Flag("durable", &publish.durable, "wait until the disk has everything before the version becomes visible");
  options.Flag("supersede", &publish.supersede, "replace a version of this number that has other weights, and remove all later ones");
}

PublishOptions StoreOptions::Watched(const Invocation& invocation) const {
  Need(to, "to");
  PublishOptions watched = publish;
  const double start_s = SystemClock().MonotonicSeconds();
  watched.progress = [&invocation, start_s](uint64_t done, uint64_t total) {
    if (!invocation.progress_due()) return;
    const double seconds = SystemClock().MonotonicSeconds() - start_s;
    invocation.progress(static_cast<double>(done), static_cast<double>(total),
                        HumanBytes(done) + " of " + HumanBytes(total) + ", " +
                            HumanBytes(static_cast<uint64_t>(static_cast<double>(done) / std::max(seconds, 1e-3))) + "/s");
  };
  return watched;
}

void PublishCommand::Register(OptionsVisitor& options) {
  options.Text("model", &model, "MODEL", "a Hugging Face model directory or a .gguf file (F32, F16, BF16, Q8_0, Q4_0, Q4_1)");
  options.Integer("version", &version, -1, kNoUpperLimit, "the version's number; -1: one more than the latest, or 0");
  StoreOptions::Register(options);
}

void RunPublish(const PublishCommand& options, const TokenizerFiles& tokenizer_files, Invocation& invocation) {
  Need(options.model, "model");
  const PublishOptions watched = options.Watched(invocation);
  const auto model = ModelFiles::Open(options.model);
  const TemporaryDirectory scratch;
  const std::vector<std::string> sidecars = tokenizer_files(options.model, scratch.path());
  VersionStore store(options.to);
  const auto latest = store.LatestVersion();
  const uint64_t version = options.version >= 0 ? static_cast<uint64_t>(options.version) : latest ? *latest + 1 : 0;
  invocation.summary = "published " + Described(Import(*model, sidecars, &store, version, watched)) + " to " + options.to;
}

}  // namespace april::weights
