// rollout-cat: look into any stream, verify it, copy it, compare it.
// Reads a stream (--in, default -); writes text or JSON to stdout, or the same stream again (--out, default -). Keeps no state.
//   partial-buffer take -s run/buffer | tee taken.stream | rollout-gen ...;  rollout-cat taken.stream
#include <algorithm>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/printing.h"
#include "base/utf8.h"
#include "cli/main.h"
#include "record/io.h"
#include "record/stream_viewer.h"
#include "stream/framing.h"
#include "stream/reader.h"
#include "text/tokenizer.h"

using namespace april;

namespace {

struct Options {
  stream::Endpoints io;
  record::ViewOptions view;
  std::string model, file;
  int64_t head = -1;
  bool allow_truncated = false;

  void Register(OptionsVisitor& options) {
    options.Argument("stream", &file, false, "what to read, instead of --in");
    options.Section("Views (without one: a line a record on a terminal, else the stream itself)");
    view.Register(options);
    options.Text("model", &model, "MODEL", "for --text, whose tokenizer made the tokens: a Hugging Face directory, a tokenizer.json or a .gguf file");
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
    "  rollout-cat --lines run/step-12.stream | less       # the same into a pipe\n"
    "  rollout-cat --json --head 1 run/step-12.stream      # everything that a record says\n"
    "  rollout-cat --text --model MODEL run/step-12.stream # what was asked and answered\n"
    "  rollout-cat --in @zmq+tcp://*:5555 --out recorded.stream\n"
    "  cmp <(rollout-cat --canonical a.stream) <(rollout-cat --canonical b.stream)";

/// By the tokenizer that made the stream's tokens. Throws Usage without a model, Incompatible when the stream was made with another tokenizer.
record::StreamViewer::Decode Decoder(const std::string& model, const record::Header& header) {
  if (model.empty()) throw Error::Usage("--text needs --model", "name the model whose tokenizer made the stream: --model DIRECTORY or FILE.gguf");
  const auto tokenizer = text::Tokenizer::Load(model);
  if (header.tokenizer && *header.tokenizer != tokenizer->digest()) {
    throw Error::Incompatible(model + " has the tokenizer " + HexU64(tokenizer->digest()) + ", the stream was made with " +
                              HexU64(*header.tokenizer));
  }
  return [tokenizer](const std::vector<uint32_t>& tokens) { return ReplaceInvalidUtf8(tokenizer->Decode(tokens, false)); };
}

/// What was read so far.
struct Counts {
  int64_t num_records = 0;
  uint64_t num_bytes = 0;
  double start_s = SystemClock().MonotonicSeconds();

  std::string Text() const { return "read " + std::to_string(num_records) + (num_records == 1 ? " record, " : " records, ") + HumanBytes(num_bytes); }
  std::string Rate() const {
    const double seconds = std::max(SystemClock().MonotonicSeconds() - start_s, 1e-3);
    return HumanBytes(static_cast<uint64_t>(static_cast<double>(num_bytes) / seconds)) + "/s";
  }
};

/// Whether the stream's end was reached.
bool TakeAll(stream::Reader& reader, int64_t head, record::StreamViewer* viewer, cli::Context& context, Counts* counts) {
  while (viewer->open() && counts->num_records != head) {
    const auto record = reader.Next();
    if (!record) return true;
    ++counts->num_records;
    counts->num_bytes += record->size();
    try {
      viewer->Take(*record);
    } catch (const Error& error) {
      throw error.kind() == ErrorKind::kData ? error.Within(reader.Position()) : error;
    }
    if (!viewer->fills_terminal() && context.progress().Due()) context.progress().Update(0, 0, counts->Text() + ", " + counts->Rate());
  }
  return false;
}

void Run(const Options& options, cli::Context& context) {
  options.view.Check(options.io);
  if (!options.file.empty() && options.io.in != "-") throw Error::Usage("the stream is named twice: " + options.file + " and --in " + options.io.in);
  stream::ReaderOptions reading;
  reading.peer_timeout_ms = options.io.peer_timeout_ms;
  reading.sources = options.io.sources;
  reading.allow_truncated = options.allow_truncated;
  const auto reader = stream::Reader::Open(options.file.empty() ? options.io.in : options.file, reading);
  record::StreamViewer::Decode decode;
  if (options.view.text) decode = Decoder(options.model, record::DecodeHeader(reader->header()));
  record::StreamViewer viewer(options.view, options.io, reader->header(), decode);

  Counts counts;
  const bool whole = TakeAll(*reader, options.head, &viewer, context, &counts);
  const stream::EndStatus status = whole ? reader->end_status() : stream::EndStatus::kOk;
  viewer.Finish(status);
  if (viewer.is_copy() && status == stream::EndStatus::kStopped) context.ExitWith(static_cast<int>(ErrorKind::kStopped));
  if (!viewer.open()) throw ReaderGone();
  context.Summary(counts.Text() + (whole ? std::string(", ended ") + stream::EndStatusText(status) : ", not to the end"));
  if (!options.allow_truncated) record::RequireGoodEnd(status);  // of a truncated stream a copy ends with status error: that was asked for
}

}  // namespace

int main(int argc, char** argv) {
  return cli::Main<Options>("rollout-cat", "look into any stream, verify it, copy it, compare it", kDescription, argc, argv, Run, {.progress = true});
}
