// rollout-cat: look into any stream, verify it, copy it, compare it.
// Reads a stream (--in, default -); writes text or JSON to stdout, or the same stream again (--out, default -). Keeps no state.
//   partial-buffer take -s run/buffer | tee taken.stream | rollout-gen ...;  rollout-cat taken.stream
#include "base/bytes.h"
#include "base/error.h"
#include "cli/main.h"
#include "stream/framing.h"
#include "stream/reader.h"
#include "stream_viewer.h"

using namespace april;

namespace {

struct Options {
  stream::Endpoints io;
  ViewOptions view;
  std::string file;
  int64_t head = -1;
  bool allow_truncated = false;

  void Register(OptionsVisitor& options) {
    options.Argument("stream", &file, false, "what to read, instead of --in");
    options.Section("Views (without one: a line a record on a terminal, else the stream itself)");
    view.Register(options);
    options.Integer("head", &head, -1, kNoUpperLimit, "end after so many records; -1 = all");
    options.Flag("allow-truncated", &allow_truncated, "show what there is of a stream that was cut off");
    options.Section("Streams");
    io.RegisterIn(options);
    io.RegisterOut(options);
  }
};

constexpr const char* kDescription =
    "Shows what is in a stream of april's tools: a file, a pipe or a socket. On a terminal it prints a line a record; into a pipe or a file it "
    "copies the\n"
    "stream as it is, so that it also records a socket to a file and plays it back.\n"
    "\n"
    "  rollout-cat run/step-12.stream                      # a line a record\n"
    "  rollout-cat --json --head 1 run/step-12.stream      # everything that a record says\n"
    "  rollout-cat --text --model MODEL run/step-12.stream # what was asked and answered\n"
    "  rollout-cat --in @zmq+tcp://*:5555 --out recorded.stream\n"
    "  cmp <(rollout-cat --canonical a.stream) <(rollout-cat --canonical b.stream)";

void Run(const Options& options, cli::Context& context) {
  options.view.Check(options.io);
  if (!options.file.empty() && options.io.in != "-") throw Error::Usage("the stream is named twice: " + options.file + " and --in " + options.io.in);
  stream::ReaderOptions reading;
  reading.peer_timeout_ms = options.io.peer_timeout_ms;
  reading.sources = options.io.sources;
  reading.allow_truncated = options.allow_truncated;
  const auto reader = stream::Reader::Open(options.file.empty() ? options.io.in : options.file, reading);
  StreamViewer viewer(options.view, options.io, reader->header());

  int64_t num_records = 0;
  uint64_t num_bytes = 0;
  bool whole = false;
  while (viewer.open() && num_records != options.head) {
    const auto record = reader->Next();
    whole = !record;
    if (whole) break;
    ++num_records;
    num_bytes += record->size();
    try {
      viewer.Take(*record);
    } catch (const Error& error) {
      throw error.kind() == ErrorKind::kData ? error.Within(reader->Position()) : error;
    }
  }
  const stream::EndStatus status = whole ? reader->end_status() : stream::EndStatus::kOk;
  viewer.Finish(status);
  if (viewer.is_copy() && status == stream::EndStatus::kStopped) context.ExitWith(static_cast<int>(ErrorKind::kStopped));
  if (!viewer.open()) context.ExitWith(static_cast<int>(ErrorKind::kPeer));
  const std::string end = whole ? std::string(", ended ") + stream::EndStatusText(status) : ", not to the end";
  context.Summary("read " + std::to_string(num_records) + " records, " + HumanBytes(num_bytes) + end);
}

}  // namespace

int main(int argc, char** argv) {
  return cli::Main<Options>("rollout-cat", "look into any stream, verify it, copy it, compare it", kDescription, argc, argv, Run);
}
