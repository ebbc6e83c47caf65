// export: rollouts as JSON lines, or as a stream that a scorer reads.
#include <filesystem>
#include <memory>
#include <system_error>

#include "base/clock.h"
#include "base/error.h"
#include "base/printing.h"
#include "buffer/listing.h"
#include "buffer/printed_lines.h"
#include "buffer/readable.h"
#include "record/io.h"
#include "record/view.h"

namespace april::buffer {
namespace {

/// Standard output, or a file that has its name once it is whole.
class LineWriter {
 public:
  explicit LineWriter(const std::string& path) : path_(path) {
    if (path_ == "-") return;
    std::error_code unknown;  // what cannot be looked at, opening it tells why
    if (std::filesystem::is_directory(path_, unknown)) throw Error::Usage("cannot write lines to " + path_ + ": it is a directory");
    file_ = SystemFiles().Create(path_ + ".tmp");
  }
  void Write(const std::string& line) {
    if (!file_) return PrintOut(line);
    pending_ += line;
    if (pending_.size() >= 1u << 20) Flush();
  }
  void Finish() {
    if (!file_) return;
    Flush();
    file_->Sync();
    file_->Close();
    SystemFiles().Rename(path_ + ".tmp", path_);
    SystemFiles().SyncDirectory(DirectoryOf(path_));
  }

 private:
  void Flush() {
    file_->Append(pending_);
    pending_.clear();
  }

  std::string path_, pending_;
  std::unique_ptr<WritableFile> file_;
};

Json LineOf(const RolloutRow& row, const record::Rollout& rollout, const ExportOptions& options, const text::Tokenizer* tokenizer) {
  Json json = record::ToJson(record::EncodeRecord(rollout));
  json["state"] = Name(row.rollout.state);
  json["group_state"] = Name(row.group.state);
  if (tokenizer) {
    json["prompt"] = PromptText(*tokenizer, rollout);
    json["text"] = ResponseText(*tokenizer, rollout);
  }
  if (!options.tokens) {
    for (const char* key : {"prompt_tokens", "tokens", "logprobs", "sampled_logprobs", "per_token"}) json.erase(key);
    json["num_prompt_tokens"] = rollout.prompt_tokens.size();
    json["num_tokens"] = rollout.tokens.size();
  }
  return json;
}

/// Rollouts that were written, and their response tokens.
struct Written {
  int64_t rollouts = 0, tokens = 0;
  void Add(const record::Rollout& rollout) {
    ++rollouts;
    tokens += static_cast<int64_t>(rollout.tokens.size());
  }
};

Written WriteLines(Store& store, const ExportOptions& options) {
  std::shared_ptr<const text::Tokenizer> tokenizer;
  if (options.text) tokenizer = LoadTokenizer(options.model, store);
  LineWriter out(options.out);
  Written written;
  ForEachRollout(store, options.select, [&](const RolloutRow& row) {
    const record::Rollout rollout = store.ReadRollout(row.key);
    out.Write(LineOf(row, rollout, options, tokenizer.get()).dump() + "\n");
    written.Add(rollout);
  });
  out.Finish();
  return written;
}

/// Without their leases: a put that reads them takes new scores, and ends the work of nobody who holds the others of a lease.
Written WriteStream(Store& store, const ExportOptions& options, const Invocation& invocation) {
  record::RecordWriter out(options.out, record::Signed(StreamHeader(store.state().config()), invocation), {});
  Written written;
  ForEachRollout(store, options.select, [&](const RolloutRow& row) {
    record::Rollout rollout = store.ReadRollout(row.key);
    rollout.lease.reset();
    out.Write(rollout);
    written.Add(rollout);
  });
  out.Finish();
  return written;
}

}  // namespace

void RunExport(const ExportOptions& options, Invocation& invocation) {
  if (!options.text && invocation.given("model")) throw Error::Usage("--model has no effect with --no-text", "leave one of them out");
  for (const char* name : {"tokens", "text", "model"}) {
    if (options.stream && invocation.given(name))
      throw Error::Usage(std::string("--") + name + " has no effect with --stream", "leave one of them out");
  }
  Store store(SystemFiles(), SystemClock(), options.store.store);
  const Filter<RolloutRow> checked(RolloutColumns(), options.select);  // before a file is made
  const Written written = options.stream ? WriteStream(store, options, invocation) : WriteLines(store, options);
  invocation.summary = "exported " + Count(written.rollouts, "rollout") + " with " + Count(written.tokens, "response token");
}

}  // namespace april::buffer
