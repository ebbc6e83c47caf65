// weight-sync fetch and serve: the two ends of a copy.
#include <charconv>
#include <chrono>
#include <optional>
#include <thread>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "base/signals.h"
#include "stream/rpc.h"
#include "weights/sync_commands.h"
#include "weights/transfer.h"

namespace april::weights {
namespace {

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

  void Add(const Manifest& manifest, const FetchCommand& options, Invocation& invocation) {
    ++num_versions;
    num_bytes += manifest.TotalBytes();
    newest = manifest.version;
    if (options.follow) log::Detail("fetched " + Described(manifest));
    invocation.summary = "fetched " + std::to_string(num_versions) + (num_versions == 1 ? " version, " : " versions, ") + HumanBytes(num_bytes) +
                         ", from " + options.from + " to " + options.to + "; newest " + Described(manifest);
  }
};

/// Until a signal: that is how following ends, also in the middle of a copy (the next run goes on with it).
void Follow(const FetchCommand& options, VersionSource& source, VersionStore* store, Invocation& invocation) {
  Fetched fetched;
  invocation.summary = "fetched 0 versions from " + options.from;
  while (!StopRequested()) {
    try {
      if (const auto manifest = FetchLatest(&source, store, fetched.newest, options.Watched(invocation))) {
        fetched.Add(*manifest, options, invocation);
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

}  // namespace

void FetchCommand::Register(OptionsVisitor& options) {
  options.Text("from", &from, "FROM",
               "where versions are: a version store's directory, zmq+tcp://host:port or zmq+ipc://path of a weight-sync serve");
  options.Text("version", &version, "N", "the version's number, or latest");
  options.Flag("follow", &follow,
               "go on with every new latest version until a signal, which is its end (exit 0); versions in between may be skipped");
  options.Integer("poll-ms", &poll_ms, 1, kNoUpperLimit, "how often --follow asks");
  options.Integer("peer-timeout-ms", &peer_timeout_ms, 1, kNoUpperLimit, "longest silence of the server before exit 6");
  StoreOptions::Register(options);
}

void RunFetch(const FetchCommand& options, Invocation& invocation) {
  Need(options.from, "from");
  const PublishOptions watched = options.Watched(invocation);
  if (options.follow && options.version != "latest") throw Error::Usage("--follow takes every latest version: it cannot be combined with --version");
  const std::optional<uint64_t> version = WantedVersion(options);
  const auto source = VersionSource::Open(options.from, options.peer_timeout_ms);
  VersionStore store(options.to);
  if (options.follow) return Follow(options, *source, &store, invocation);
  const auto manifest = version ? Fetch(source.get(), &store, *version, watched) : FetchLatest(source.get(), &store, std::nullopt, watched);
  if (!manifest) throw Error::NotReady(options.from + " has no version yet", "publish one, or use --follow to wait for it");
  Fetched().Add(*manifest, options, invocation);
}

void ServeCommand::Register(OptionsVisitor& options) {
  options.Text("dir", &dir, "DIR", "the version store to serve; it may be written meanwhile");
  options.Text("bind", &bind, "ENDPOINT", "zmq+tcp://address:port or zmq+ipc://path");
}

void RunServe(const ServeCommand& options, Invocation& invocation) {
  Need(options.dir, "dir");
  Need(options.bind, "bind");
  CheckStore(options.dir);
  VersionStore store(options.dir);
  TransferServer server(&store);
  const auto rpc = stream::RpcServer::Bind(options.bind);
  int64_t num_answered = 0;
  while (!StopRequested()) {
    num_answered += rpc->Serve([&](const stream::Map& request) { return server.Answer(request); }, 1000);
    invocation.progress(0, 0, std::to_string(num_answered) + " requests, " + HumanBytes(server.bytes_sent()) + " sent");
  }
  invocation.summary = "answered " + std::to_string(num_answered) + " requests, sent " + HumanBytes(server.bytes_sent());
}

}  // namespace april::weights
