// weight-sync: move policy versions between models, directories and machines.
// Keeps version stores (formats/weights.md): directories of weights, each version whole or absent.
//   weight-sync publish --model MODEL --to run/weights
//   weight-sync serve --dir run/weights --bind zmq+tcp://0.0.0.0:5600 &  …  weight-sync fetch --from zmq+tcp://trainer:5600 --to weights --follow
#include <algorithm>
#include <charconv>
#include <optional>
#include <thread>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/printing.h"
#include "base/signals.h"
#include "cli/main.h"
#include "stream/rpc.h"
#include "text/export.h"
#include "weights/import.h"
#include "weights/transfer.h"

using namespace april;

namespace {

struct StoreOptions {
  std::string to;
  weights::PublishOptions publish;
  void Register(OptionsVisitor& options) {
    options.Text("to", &to, "DIR", "the version store to write into; made if it does not exist");
    options.Integer("keep", &publish.keep, 1, kNoUpperLimit, "newest versions that stay there; older ones are removed");
    options.Flag("durable", &publish.durable, "wait until the disk has everything before the version becomes visible");
    options.Flag("supersede", &publish.supersede, "replace a version of this number that has other weights, and remove all later ones");
  }
  /// Shows MB and MB/s while bytes move.
  weights::PublishOptions Watched(cli::Context& context) const {
    weights::PublishOptions watched = publish;
    const double start_s = SystemClock().MonotonicSeconds();
    watched.progress = [&context, start_s](uint64_t done, uint64_t total) {
      if (!context.progress().Due()) return;
      const double seconds = SystemClock().MonotonicSeconds() - start_s;
      context.progress().Update(static_cast<double>(done), static_cast<double>(total),
                                HumanBytes(done) + " of " + HumanBytes(total) + ", " +
                                    HumanBytes(static_cast<uint64_t>(static_cast<double>(done) / std::max(seconds, 1e-3))) + "/s");
    };
    return watched;
  }
};

void Need(const std::string& value, const char* option) {
  if (value.empty()) throw Error::Usage(std::string("--") + option + " is needed", "try --help");
}

std::string Described(const weights::Manifest& manifest) {
  return "version " + std::to_string(manifest.version) + " (" + std::to_string(manifest.tensors.size()) + " tensors, " +
         HumanBytes(manifest.TotalBytes()) + ", weights " + HexU64(manifest.digest) + ")";
}

void CheckStore(const std::string& directory) {
  if (!SystemFiles().Exists(directory)) throw Error::Runtime("no version store at " + directory + ": no such directory");
}

struct PublishCommand : StoreOptions {
  std::string model;
  int64_t version = -1;
  void Register(OptionsVisitor& options) {
    options.Text("model", &model, "MODEL", "a Hugging Face model directory or a .gguf file (F32, F16, BF16, Q8_0, Q4_0, Q4_1)");
    options.Integer("version", &version, -1, kNoUpperLimit, "the version's number; -1: one more than the latest, or 0");
    StoreOptions::Register(options);
  }
};

void Publish(const PublishCommand& options, cli::Context& context) {
  Need(options.model, "model");
  Need(options.to, "to");
  const auto model = weights::ModelFiles::Open(options.model);
  const weights::TemporaryDirectory scratch;
  const auto tokenizer_files = text::TokenizerFilesOf(options.model, scratch.path());
  weights::VersionStore store(options.to);
  const auto latest = store.LatestVersion();
  const uint64_t version = options.version >= 0 ? static_cast<uint64_t>(options.version) : latest ? *latest + 1 : 0;
  context.Summary("published " + Described(weights::Import(*model, tokenizer_files, &store, version, options.Watched(context))) + " to " +
                  options.to);
}

struct FetchCommand : StoreOptions {
  std::string from, version = "latest";
  bool follow = false;
  int64_t poll_ms = 200, peer_timeout_ms = 60'000;
  void Register(OptionsVisitor& options) {
    options.Text("from", &from, "FROM",
                 "where versions are: a version store's directory, zmq+tcp://host:port or zmq+ipc://path of a weight-sync serve");
    options.Text("version", &version, "N", "the version's number, or latest");
    options.Flag("follow", &follow,
                 "go on with every new latest version until a signal, which is its end (exit 0); versions in between may be skipped");
    options.Integer("poll-ms", &poll_ms, 1, kNoUpperLimit, "how often --follow asks");
    options.Integer("peer-timeout-ms", &peer_timeout_ms, 1, kNoUpperLimit, "longest silence of the server before exit 6");
    StoreOptions::Register(options);
  }
};

/// nullopt: the latest.
std::optional<uint64_t> WantedVersion(const FetchCommand& options) {
  if (options.version == "latest") return std::nullopt;
  uint64_t number = 0;
  const char* end = options.version.data() + options.version.size();
  if (const auto [stop, status] = std::from_chars(options.version.data(), end, number); status != std::errc() || stop != end) {
    throw Error::Usage("--version: neither a number nor latest: " + options.version);
  }
  return number;
}

/// What was fetched so far.
struct Fetched {
  uint64_t num_versions = 0, num_bytes = 0;
  std::optional<uint64_t> newest;

  void Add(const weights::Manifest& manifest, const FetchCommand& options, cli::Context& context) {
    ++num_versions;
    num_bytes += manifest.TotalBytes();
    newest = manifest.version;
    if (options.follow) log::Detail("fetched " + Described(manifest));
    context.Summary("fetched " + std::to_string(num_versions) + (num_versions == 1 ? " version, " : " versions, ") + HumanBytes(num_bytes) +
                    ", from " + options.from + " to " + options.to + "; newest " + Described(manifest));
  }
};

/// Until a signal: that is how following ends, also in the middle of a copy (the next run goes on with it).
void Follow(const FetchCommand& options, weights::VersionSource& source, weights::VersionStore* store, cli::Context& context) {
  Fetched fetched;
  context.Summary("fetched 0 versions from " + options.from);
  while (!StopRequested()) {
    try {
      if (const auto manifest = weights::FetchLatest(&source, store, fetched.newest, options.Watched(context))) {
        fetched.Add(*manifest, options, context);
        continue;
      }
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kStopped) throw;
      log::Info(error.message());
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(options.poll_ms));
  }
}

void Fetch(const FetchCommand& options, cli::Context& context) {
  Need(options.from, "from");
  Need(options.to, "to");
  if (options.follow && options.version != "latest") throw Error::Usage("--follow takes every latest version: it cannot be combined with --version");
  const std::optional<uint64_t> version = WantedVersion(options);
  const auto source = weights::VersionSource::Open(options.from, options.peer_timeout_ms);
  weights::VersionStore store(options.to);
  if (options.follow) return Follow(options, *source, &store, context);
  const auto manifest = version ? weights::Fetch(source.get(), &store, *version, options.Watched(context))
                                : weights::FetchLatest(source.get(), &store, std::nullopt, options.Watched(context));
  if (!manifest) throw Error::NotReady(options.from + " has no version yet", "publish one, or use --follow to wait for it");
  Fetched().Add(*manifest, options, context);
}

struct ServeCommand {
  std::string dir, bind;
  void Register(OptionsVisitor& options) {
    options.Text("dir", &dir, "DIR", "the version store to serve; it may be written meanwhile");
    options.Text("bind", &bind, "ENDPOINT", "zmq+tcp://address:port or zmq+ipc://path");
  }
};

void Serve(const ServeCommand& options, cli::Context& context) {
  Need(options.dir, "dir");
  Need(options.bind, "bind");
  CheckStore(options.dir);
  weights::VersionStore store(options.dir);
  weights::TransferServer server(&store);
  const auto rpc = stream::RpcServer::Bind(options.bind);
  int64_t num_answered = 0;
  while (!StopRequested()) {
    num_answered += rpc->Serve([&](const stream::Map& request) { return server.Answer(request); }, 1000);
    context.progress().Update(0, 0, std::to_string(num_answered) + " requests, " + HumanBytes(server.bytes_sent()) + " sent");
  }
  context.Summary("answered " + std::to_string(num_answered) + " requests, sent " + HumanBytes(server.bytes_sent()));
}

struct StoreCommand {
  std::string dir;
  int64_t version = -1;
  void Register(OptionsVisitor& options) {
    options.Argument("DIR", &dir, true, "the version store");
    options.Integer("version", &version, -1, kNoUpperLimit, "only this version; -1: all");
  }
  std::vector<uint64_t> Versions(weights::VersionStore& store) const {
    CheckStore(dir);
    return version >= 0 ? std::vector<uint64_t>{static_cast<uint64_t>(version)} : store.Versions();
  }
};

void Verify(const StoreCommand& options, cli::Context& context) {
  weights::VersionStore store(options.dir);
  uint64_t num_good = 0, num_bad = 0, num_removed = 0, num_bytes = 0;
  for (const uint64_t version : options.Versions(store)) {
    try {
      const weights::Version opened = store.Open(version);
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
  context.Summary("checked " + std::to_string(num_checked) + (num_checked == 1 ? " version: " : " versions: ") + std::to_string(num_good) +
                  " whole (" + HumanBytes(num_bytes) + "), " + std::to_string(num_bad) + " damaged" +
                  (num_removed == 0 ? "" : ", " + std::to_string(num_removed) + " removed meanwhile"));
  if (num_bad > 0) throw Error::Data(options.dir + " has damaged versions", "publish or fetch them again");
}

void List(const StoreCommand& options, cli::Context&) {
  weights::VersionStore store(options.dir);
  const auto versions = options.Versions(store);
  const auto latest = store.LatestVersion();
  for (const uint64_t version : versions) {
    const weights::Manifest manifest = store.Open(version).manifest;
    const Json line = {{"version", version},
                       {"weights", HexU64(manifest.digest)},
                       {"tensors", manifest.tensors.size()},
                       {"bytes", manifest.TotalBytes()},
                       {"latest", latest == version}};
    PrintOut(line.dump() + "\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  cli::Program program{"weight-sync",
                       "move policy versions between models, directories and machines",
                       "A version store is a directory of policy versions, each a model directory that is whole or absent (formats/weights.md). "
                       "Trainers publish into it,\n"
                       "generators read from it; weight-sync fills one from a model, copies versions between machines and checks them.\n"
                       "\n"
                       "  weight-sync publish --model MODEL --to run/weights\n"
                       "  weight-sync serve --dir run/weights --bind zmq+tcp://0.0.0.0:5600\n"
                       "  weight-sync fetch --from zmq+tcp://trainer:5600 --to weights --follow",
                       {}};
  program.commands.push_back(cli::MakeCommand<PublishCommand>("publish", "import a model as a full version, in bf16",
                                                              "Reads a model, writes a version with its configuration and tokenizer files, moves "
                                                              "LATEST.\n\n  weight-sync publish --model smollm2.gguf --to run/weights --version 0",
                                                              Publish, {.progress = true}));
  program.commands.push_back(
      cli::MakeCommand<FetchCommand>("fetch", "copy a version, or follow the latest one",
                                     "Copies a version from a directory or a server. It becomes visible only when every digest has been checked; run "
                                     "again, it goes on where it stopped.\n\n  weight-sync fetch --from zmq+tcp://trainer:5600 --to weights --follow",
                                     Fetch, {.progress = true}));
  program.commands.push_back(
      cli::MakeCommand<ServeCommand>("serve", "offer a store's versions over ZeroMQ until stopped",
                                     "Reads a version store and answers weight-sync fetch. A version that is removed while it is fetched ends that "
                                     "fetch with an error.\n\n  weight-sync serve --dir run/weights --bind zmq+tcp://0.0.0.0:5600",
                                     Serve, {.progress = true}));
  program.commands.push_back(cli::MakeCommand<StoreCommand>(
      "verify", "check every file's and tensor's digest",
      "Reads versions and compares them with their manifests; exit 3 when one is damaged.\n\n  weight-sync verify run/weights", Verify));
  program.commands.push_back(cli::MakeCommand<StoreCommand>(
      "list", "one JSON line a version",
      "Writes number, digest, size of each version, and which one LATEST names, to stdout.\n\n  weight-sync list run/weights", List));
  return cli::Main(program, argc, argv);
}
