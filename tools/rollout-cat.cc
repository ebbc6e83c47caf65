// rollout-cat: look into any stream, verify it, copy it, compare it.
// Reads a stream (--in, default -); writes text or JSON to stdout, or the same stream again (--out, default -). Keeps no state.
//   partial-buffer take -s run/buffer | tee taken.stream | rollout-gen ...;  rollout-cat taken.stream
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <map>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/utf8.h"
#include "cli/main.h"
#include "record/io.h"
#include "record/view.h"
#include "stream/framing.h"
#include "stream/scanner.h"
#include "text/tokenizer.h"

using namespace april;

namespace {

struct Options {
  stream::Endpoints io;
  std::string file, model;
  int64_t head = -1;
  bool json = false, text = false, check = false, count = false, canonical = false, allow_truncated = false;

  void Register(OptionsVisitor& options) {
    options.Argument("stream", &file, false, "what to read, instead of --in");
    options.Section("Views (without one: a line a record on a terminal, else the stream itself)");
    options.Flag("json", &json, "one JSON line a record, the header first; ids and digests in hexadecimal, arrays as lists");
    options.Flag("text", &text, "prompts and responses as text; needs --model");
    options.Text("model", &model, "MODEL", "whose tokenizer made the tokens: a Hugging Face directory, a tokenizer.json or a .gguf file");
    options.Flag("count", &count, "records by type");
    options.Flag("check", &check, "verify the whole stream and every record; print only the summary");
    options.Flag("canonical", &canonical,
                 "records sorted by uid, without timings and provenance, so that equal streams are equal bytes; holds all in memory");
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

std::string JsonLine(std::string_view record) { return record::ToJson(record).dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string Indented(const text::Tokenizer& tokenizer, const char* name, const std::vector<uint32_t>& tokens) {
  std::string text = std::string("  ") + name + ": ";
  for (const char letter : ReplaceInvalidUtf8(tokenizer.Decode(tokens, false)))
    text += letter == '\n' ? std::string("\n    ") : std::string(1, letter);
  return "\n" + text;
}

std::string AsText(const text::Tokenizer& tokenizer, const record::Record& record) {
  std::string text = record::OneLine(record);
  if (const auto* prompt = std::get_if<record::Prompt>(&record)) text += Indented(tokenizer, "prompt", prompt->prompt_tokens);
  if (const auto* rollout = std::get_if<record::Rollout>(&record)) {
    text += Indented(tokenizer, "prompt", rollout->prompt_tokens) + Indented(tokenizer, "response", rollout->tokens);
  }
  return text;
}

std::shared_ptr<const text::Tokenizer> LoadTokenizer(const Options& options, const record::Header& header) {
  if (options.model.empty())
    throw Error::Usage("--text needs --model", "name the model whose tokenizer made the stream: --model DIRECTORY or FILE.gguf");
  auto tokenizer = text::Tokenizer::Load(options.model);
  if (header.tokenizer && *header.tokenizer != tokenizer->digest()) {
    throw Error::Incompatible(options.model + " has the tokenizer " + HexU64(tokenizer->digest()) + ", the stream was made with " +
                              HexU64(*header.tokenizer));
  }
  return tokenizer;
}

void CheckOptions(const Options& options) {
  const int views = options.json + options.text + options.check + options.count + options.canonical;
  if (views > 1 && !(views == 2 && options.json && (options.canonical || options.count))) {
    throw Error::Usage("only one of --json, --text, --check, --count and --canonical can be given (and --json with the last two)");
  }
  if ((options.text || options.check || options.count || options.json) && options.io.out != "-") {
    throw Error::Usage("--out takes a stream, not text", "send the text on with > FILE");
  }
  if (!options.file.empty() && options.io.in != "-") throw Error::Usage("the stream is named twice: " + options.file + " and --in " + options.io.in);
}

/// What is done with each record in turn, and at the end.
class Viewer {
 public:
  Viewer(const Options& options, const std::string& header) : options_(options), header_(header) {
    const record::Header decoded = record::DecodeHeader(header);
    if (options.text) tokenizer_ = LoadTokenizer(options, decoded);
    const bool views = options.json || options.text || options.check || options.count || options.canonical;
    is_copy_ = !views && !(options.io.out == "-" && ::isatty(STDOUT_FILENO));
    if (is_copy_) writer_ = Open(header);
    if (options.json && !options.canonical && !options.count) Print(JsonLine(header));
  }

  bool is_copy() const { return is_copy_; }
  bool open() const { return open_; }  ///< false once nobody reads the text any more

  void Take(std::string_view record) {
    ++counts_[std::string(stream::TypeOf(record))];
    if (writer_) return writer_->Write(record);
    if (options_.canonical) return canonical_.push_back(record::Canonical(record));
    if (options_.count) return;
    if (options_.json) return Print(JsonLine(record));
    const record::Record decoded = record::DecodeRecord(record);
    if (!options_.check) Print(options_.text ? AsText(*tokenizer_, decoded) : record::OneLine(decoded));
  }

  void Finish(stream::EndStatus status) {
    if (writer_) writer_->Finish(status);
    if (options_.canonical) FinishCanonical(status);
    if (options_.count) PrintCounts();
    open_ = open_ && std::fflush(stdout) == 0;
  }

 private:
  std::unique_ptr<stream::Writer> Open(const std::string& header) const {
    stream::WriterOptions writing;
    writing.compress = options_.io.compress;
    writing.peer_timeout_ms = options_.io.peer_timeout_ms;
    return stream::Writer::Open(options_.io.out, header, writing);
  }

  void Print(const std::string& line) {
    open_ = open_ && std::fwrite(line.data(), 1, line.size(), stdout) == line.size() && std::fputc('\n', stdout) != EOF;
    if (!open_ && errno != EPIPE) throw Error::System("cannot write", "stdout", errno);
  }

  void PrintCounts() {
    if (options_.json) return Print(Json(counts_).dump());
    for (const auto& [type, count] : counts_) Print(type + " " + std::to_string(count));
  }

  void FinishCanonical(stream::EndStatus status) {
    std::sort(canonical_.begin(), canonical_.end());
    const std::string header = record::Canonical(header_).bytes;
    if (options_.json) {
      Print(JsonLine(header));
      for (const auto& record : canonical_) Print(JsonLine(record.bytes));
    } else {
      const auto writer = Open(header);
      for (const auto& record : canonical_) writer->Write(record.bytes);
      writer->Finish(status);
    }
  }

  const Options& options_;
  const std::string header_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::unique_ptr<stream::Writer> writer_;
  std::vector<record::CanonicalRecord> canonical_;
  std::map<std::string, uint64_t> counts_;
  bool is_copy_ = false, open_ = true;
};

void Run(const Options& options, cli::Context& context) {
  CheckOptions(options);
  stream::ReaderOptions reading;
  reading.peer_timeout_ms = options.io.peer_timeout_ms;
  reading.sources = options.io.sources;
  reading.allow_truncated = options.allow_truncated;
  const auto reader = stream::Reader::Open(options.file.empty() ? options.io.in : options.file, reading);
  Viewer viewer(options, reader->header());

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
