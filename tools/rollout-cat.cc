// rollout-cat: look into any stream, verify it, copy it, compare it.
// Reads a stream (--in, default -); writes text or JSON to stdout, or the same stream again (--out, default -). Keeps no state.
//   partial-buffer take -s run/buffer | tee taken.stream | rollout-gen ...;  rollout-cat taken.stream
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "cli/main.h"
#include "record/io.h"
#include "record/view.h"
#include "stream/framing.h"
#include "stream/scanner.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

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

/// Text lines on stdout; false once nobody reads them any more.
class Lines {
 public:
  bool Print(std::string line) {
    line += '\n';
    open_ = open_ && std::fwrite(line.data(), 1, line.size(), stdout) == line.size();
    return open_;
  }
  bool Flush() { return open_ = open_ && std::fflush(stdout) == 0; }

 private:
  bool open_ = true;
};

std::string JsonLine(std::string_view record) { return record::ToJson(record).dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string Indented(const text::Tokenizer& tokenizer, const char* name, const std::vector<uint32_t>& tokens) {
  std::string text = std::string("  ") + name + ": ";
  for (const char letter : text::ReplaceInvalidUtf8(tokenizer.Decode(tokens, false)))
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

/// Sorted canonical records, as JSON lines or as a stream.
bool PrintCanonical(const Options& options, std::string_view header, std::vector<record::CanonicalRecord> records, stream::EndStatus status,
                    Lines& lines) {
  std::sort(records.begin(), records.end());
  const std::string canonical_header = record::Canonical(header).bytes;
  if (!options.json) {
    const auto writer = stream::Writer::Open(options.io.out, canonical_header, {options.io.compress, options.io.peer_timeout_ms});
    for (const auto& record : records) writer->Write(record.bytes);
    writer->Finish(status);
    return true;
  }
  bool open = lines.Print(JsonLine(canonical_header));
  for (auto record = records.begin(); open && record != records.end(); ++record) open = lines.Print(JsonLine(record->bytes));
  return open;
}

bool PrintCounts(const Options& options, const std::map<std::string, uint64_t>& counts, Lines& lines) {
  if (options.json) return lines.Print(Json(counts).dump());
  bool open = true;
  for (const auto& [type, count] : counts) open = open && lines.Print(type + " " + std::to_string(count));
  return open;
}

void Run(const Options& options, cli::Context& context) {
  CheckOptions(options);
  stream::ReaderOptions reading;
  reading.peer_timeout_ms = options.io.peer_timeout_ms;
  reading.sources = options.io.sources;
  reading.allow_truncated = options.allow_truncated;
  const auto reader = stream::Reader::Open(options.file.empty() ? options.io.in : options.file, reading);
  const record::Header header = record::DecodeHeader(reader->header());

  const bool is_copy =
      !options.json && !options.text && !options.check && !options.count && !options.canonical && !(options.io.out == "-" && ::isatty(1));
  const auto tokenizer = options.text ? LoadTokenizer(options, header) : nullptr;
  std::unique_ptr<stream::Writer> writer;
  if (is_copy) writer = stream::Writer::Open(options.io.out, reader->header(), {options.io.compress, options.io.peer_timeout_ms});
  Lines lines;
  std::vector<record::CanonicalRecord> canonical;
  std::map<std::string, uint64_t> counts;
  uint64_t num_records = 0, num_bytes = 0;

  const auto show = [&](std::string_view record) {
    if (options.canonical) return canonical.push_back(record::Canonical(record)), true;
    if (options.count) return true;
    if (options.json) return lines.Print(JsonLine(record));
    const record::Record typed = record::DecodeRecord(record);
    if (options.check) return true;
    return lines.Print(options.text ? AsText(*tokenizer, typed) : record::OneLine(typed));
  };

  bool open = !options.json || options.canonical || options.count || lines.Print(JsonLine(reader->header()));
  bool whole = false;
  while (open && (options.head < 0 || num_records < static_cast<uint64_t>(options.head))) {
    const auto record = reader->Next();
    if (!record) {
      whole = true;
      break;
    }
    ++num_records;
    num_bytes += record->size();
    ++counts[std::string(stream::TypeOf(*record))];
    if (writer) {
      writer->Write(*record);
      continue;
    }
    try {
      open = show(*record);
    } catch (const Error& error) {
      throw error.Within(reader->Position());
    }
  }

  const stream::EndStatus status = whole ? reader->end_status() : stream::EndStatus::kOk;
  if (writer) writer->Finish(status);
  if (options.canonical) open = PrintCanonical(options, reader->header(), std::move(canonical), status, lines);
  if (options.count) open = PrintCounts(options, counts, lines);
  open = lines.Flush() && open;
  if (!open || (is_copy && status == stream::EndStatus::kStopped)) context.ExitWith(static_cast<int>(open ? ErrorKind::kStopped : ErrorKind::kPeer));
  context.Summary("read " + std::to_string(num_records) + " records, " + HumanBytes(num_bytes) +
                  (!whole ? ", not to the end" : std::string(", ended ") + stream::EndStatusText(status)));
}

}  // namespace

int main(int argc, char** argv) {
  return cli::Main<Options>("rollout-cat", "look into any stream, verify it, copy it, compare it", kDescription, argc, argv, Run);
}
