#include "record/stream_viewer.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/printing.h"
#include "stream/scanner.h"

namespace april::record {
namespace {

std::string JsonLine(std::string_view record) { return ToJson(record).dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

void ViewOptions::Register(OptionsVisitor& options) {
  options.Flag("lines", &lines, "one line a record, as on a terminal");
  options.Flag("json", &json, "one JSON line a record, the header first; ids and digests in hexadecimal, arrays as lists");
  options.Flag("text", &text, "prompts and responses as text; needs --model");
  options.Flag("count", &count, "records by type");
  options.Flag("check", &check, "verify the whole stream and every record; print only the summary");
  options.Flag("canonical", &canonical,
               "records sorted by uid, without timings and provenance, so that equal streams are equal bytes; holds all in memory");
}

void ViewOptions::Check(const stream::Endpoints& io) const {
  const int views = lines + json + text + check + count + canonical;
  if (views > 1 && !(views == 2 && json && (canonical || count))) {
    throw Error::Usage("only one of --lines, --json, --text, --check, --count and --canonical can be given (and --json with the last two)");
  }
  if ((lines || text || check || count || json) && io.out != "-")
    throw Error::Usage("--out takes a stream, not text", "send the text on with > FILE");
}

StreamViewer::StreamViewer(const ViewOptions& options, const stream::Endpoints& io, std::string header, Decode decode)
    : options_(options), io_(io), header_(std::move(header)), decode_(std::move(decode)), on_terminal_(::isatty(STDOUT_FILENO) == 1) {
  is_copy_ = !options_.any() && !(io_.out == "-" && on_terminal_);
  if (is_copy_) writer_ = Open(header_);
  if (options_.json && !options_.canonical && !options_.count) Print(JsonLine(header_));
}

bool StreamViewer::fills_terminal() const { return on_terminal_ && !is_copy_ && !options_.check && !options_.count && !options_.canonical; }

void StreamViewer::Take(std::string_view record) {
  ++counts_[std::string(stream::TypeOf(record))];
  if (writer_) return writer_->Write(record);
  if (options_.canonical) return canonical_.push_back(Canonical(record));
  if (options_.count) return;
  if (options_.json) return Print(JsonLine(record));
  const Record decoded = DecodeRecord(record);
  if (!options_.check) Print(options_.text ? Text(decoded) : OneLine(decoded));
}

void StreamViewer::Finish(stream::EndStatus status) {
  if (writer_) writer_->Finish(status);
  if (options_.canonical) FinishCanonical(status);
  if (options_.count) PrintCounts();
  try {
    FlushOut();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kPeer) throw;
    open_ = false;
  }
}

std::unique_ptr<stream::Writer> StreamViewer::Open(const std::string& header) const {
  stream::WriterOptions writing;
  writing.compress = io_.compress;
  writing.peer_timeout_ms = io_.peer_timeout_ms;
  return stream::Writer::Open(io_.out, header, writing);
}

std::string StreamViewer::Text(const Record& record) const {
  std::string text = OneLine(record);
  if (const auto* prompt = std::get_if<Prompt>(&record)) text += Indented("prompt", prompt->prompt_tokens);
  if (const auto* rollout = std::get_if<Rollout>(&record)) {
    text += Indented("prompt", rollout->prompt_tokens) + Indented("response", rollout->tokens);
  }
  return text;
}

std::string StreamViewer::Indented(const char* name, const std::vector<uint32_t>& tokens) const {
  std::string text = std::string("\n  ") + name + ": ";
  for (const char letter : decode_(tokens)) {
    text += letter;
    if (letter == '\n') text += "    ";
  }
  return text;
}

void StreamViewer::Print(const std::string& line) {
  if (!open_) return;
  try {
    PrintOut((on_terminal_ ? Printable(line) : line) + "\n");
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kPeer) throw;
    open_ = false;
  }
}

void StreamViewer::PrintCounts() {
  if (options_.json) return Print(Json(counts_).dump());
  for (const auto& [type, count] : counts_) Print(type + " " + std::to_string(count));
}

void StreamViewer::FinishCanonical(stream::EndStatus status) {
  std::sort(canonical_.begin(), canonical_.end());
  const std::string header = Canonical(header_).bytes;
  if (options_.json) {
    Print(JsonLine(header));
    for (const auto& record : canonical_) Print(JsonLine(record.bytes));
    return;
  }
  const auto writer = Open(header);
  for (const auto& record : canonical_) writer->Write(record.bytes);
  writer->Finish(status);
}

}  // namespace april::record
