// export: rollouts as JSON lines.
#include <filesystem>
#include <memory>

#include "base/clock.h"
#include "base/error.h"
#include "base/printing.h"
#include "base/utf8.h"
#include "buffer/listing.h"
#include "record/view.h"
#include "text/tokenizer.h"

namespace april::buffer {
namespace {

/// Standard output, or a file that has its name once it is whole.
class LineWriter {
 public:
  explicit LineWriter(const std::string& path) : path_(path) {
    if (path_ == "-") return;
    if (std::filesystem::is_directory(path_)) throw Error::Usage("cannot write lines to " + path_ + ": it is a directory");
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
    json["prompt"] = ReplaceInvalidUtf8(tokenizer->Decode(rollout.prompt_tokens, false));
    json["text"] = ReplaceInvalidUtf8(tokenizer->Decode(rollout.tokens, false));
  }
  if (!options.tokens) {
    for (const char* key : {"prompt_tokens", "tokens", "logprobs", "sampled_logprobs", "per_token"}) json.erase(key);
    json["num_prompt_tokens"] = rollout.prompt_tokens.size();
    json["num_tokens"] = rollout.tokens.size();
  }
  return json;
}

}  // namespace

void RunExport(const ExportOptions& options, Invocation& invocation) {
  if (!options.text && invocation.given("model")) throw Error::Usage("--model has no effect with --no-text", "leave one of them out");
  Store store(SystemFiles(), SystemClock(), options.store.store);
  const Filter<RolloutRow> checked(RolloutColumns(), options.select);  // before a file is made
  std::shared_ptr<const text::Tokenizer> tokenizer;
  if (options.text) tokenizer = text::Tokenizer::Load(options.model.empty() ? store.state().config().model : options.model);
  LineWriter out(options.out);
  int64_t rollouts = 0, tokens = 0;
  ForEachRollout(store, options.select, [&](const RolloutRow& row) {
    const record::Rollout rollout = store.ReadRollout(row.key);
    out.Write(LineOf(row, rollout, options, tokenizer.get()).dump() + "\n");
    ++rollouts;
    tokens += static_cast<int64_t>(rollout.tokens.size());
  });
  out.Finish();
  invocation.summary = "exported " + std::to_string(rollouts) + " rollouts with " + std::to_string(tokens) + " response tokens";
}

}  // namespace april::buffer
