// What rollout-cat makes of a stream: text, JSON, counts, the canonical form, or a copy.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/utf8.h"
#include "record/records.h"
#include "record/view.h"
#include "stream/endpoint.h"
#include "stream/scanner.h"
#include "stream/writer.h"
#include "text/tokenizer.h"

namespace april {

struct ViewOptions {
  bool json = false, text = false, check = false, count = false, canonical = false;
  std::string model;

  void Register(OptionsVisitor& options) {
    options.Flag("json", &json, "one JSON line a record, the header first; ids and digests in hexadecimal, arrays as lists");
    options.Flag("text", &text, "prompts and responses as text; needs --model");
    options.Text("model", &model, "MODEL", "whose tokenizer made the tokens: a Hugging Face directory, a tokenizer.json or a .gguf file");
    options.Flag("count", &count, "records by type");
    options.Flag("check", &check, "verify the whole stream and every record; print only the summary");
    options.Flag("canonical", &canonical,
                 "records sorted by uid, without timings and provenance, so that equal streams are equal bytes; holds all in memory");
  }

  bool any() const { return json || text || check || count || canonical; }

  /// Throws Usage for views that exclude each other, or that are no stream although one is to be written.
  void Check(const stream::Endpoints& io) const {
    const int views = json + text + check + count + canonical;
    if (views > 1 && !(views == 2 && json && (canonical || count))) {
      throw Error::Usage("only one of --json, --text, --check, --count and --canonical can be given (and --json with the last two)");
    }
    if ((text || check || count || json) && io.out != "-") throw Error::Usage("--out takes a stream, not text", "send the text on with > FILE");
  }
};

/// Rollouts and prompts as text, by the tokenizer that made their tokens.
class TextView {
 public:
  /// Throws Usage without a model, Incompatible when the stream was made with another tokenizer.
  TextView(const std::string& model, const record::Header& header) {
    if (model.empty()) throw Error::Usage("--text needs --model", "name the model whose tokenizer made the stream: --model DIRECTORY or FILE.gguf");
    tokenizer_ = text::Tokenizer::Load(model);
    if (header.tokenizer && *header.tokenizer != tokenizer_->digest()) {
      throw Error::Incompatible(model + " has the tokenizer " + HexU64(tokenizer_->digest()) + ", the stream was made with " +
                                HexU64(*header.tokenizer));
    }
  }

  std::string Of(const record::Record& record) const {
    std::string text = record::OneLine(record);
    if (const auto* prompt = std::get_if<record::Prompt>(&record)) text += Indented("prompt", prompt->prompt_tokens);
    if (const auto* rollout = std::get_if<record::Rollout>(&record)) {
      text += Indented("prompt", rollout->prompt_tokens) + Indented("response", rollout->tokens);
    }
    return text;
  }

 private:
  std::string Indented(const char* name, const std::vector<uint32_t>& tokens) const {
    std::string text = std::string("\n  ") + name + ": ";
    for (const char letter : ReplaceInvalidUtf8(tokenizer_->Decode(tokens, false))) {
      text += letter;
      if (letter == '\n') text += "    ";
    }
    return text;
  }

  std::shared_ptr<const text::Tokenizer> tokenizer_;
};

/// What is done with each record in turn, and at the end.
class StreamViewer {
 public:
  /// `io`: where a copy or the canonical form goes.
  StreamViewer(const ViewOptions& options, const stream::Endpoints& io, const std::string& header) : options_(options), io_(io), header_(header) {
    const record::Header decoded = record::DecodeHeader(header);
    if (options.text) text_.emplace(options.model, decoded);
    is_copy_ = !options.any() && !(io.out == "-" && ::isatty(STDOUT_FILENO));
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
    if (!options_.check) Print(options_.text ? text_->Of(decoded) : record::OneLine(decoded));
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
    writing.compress = io_.compress;
    writing.peer_timeout_ms = io_.peer_timeout_ms;
    return stream::Writer::Open(io_.out, header, writing);
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

  static std::string JsonLine(std::string_view record) { return record::ToJson(record).dump(-1, ' ', false, Json::error_handler_t::replace); }

  const ViewOptions options_;
  const stream::Endpoints io_;
  const std::string header_;
  std::optional<TextView> text_;
  std::unique_ptr<stream::Writer> writer_;
  std::vector<record::CanonicalRecord> canonical_;
  std::map<std::string, uint64_t> counts_;
  bool is_copy_ = false, open_ = true;
};

}  // namespace april
