// Prompts from JSON lines: rendered in the model's chat template and tokenised, once.
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "base/json.h"
#include "record/records.h"
#include "stream/value.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace april::buffer {

/// The tokenizer of a model, and its chat template if it has one.
struct PromptModel {
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate> chat;  ///< null: prompts are plain text
  int64_t context_tokens = 0;                      ///< 0: not known
  static PromptModel Load(const std::string& path);
};

class PromptLines {
 public:
  /// `path`: a file, or "-". Throws Runtime.
  PromptLines(const std::string& path, const PromptModel& model, bool plain, int64_t max_prompt_tokens);
  /// nullopt at the end. Throws Data naming file and line when a line cannot be used; the next call goes on behind it.
  std::optional<record::Prompt> Next();
  /// Of the line that was read last: "prompts.jsonl:12".
  std::string Position() const { return name_ + ":" + std::to_string(line_number_); }

 private:
  record::Prompt Read(const std::string& line) const;

  std::string name_;
  PromptModel model_;
  bool plain_;
  int64_t max_prompt_tokens_;
  std::ifstream file_;
  std::istream* in_;
  int64_t line_number_ = 0;
};

/// Throws Data for a prompt whose record, or those of its rollouts, could not be read again: too long, or its meta too deeply nested.
void CheckFits(const record::Prompt& prompt);

stream::Value FromJson(const Json& json);
/// Bytes become text in hexadecimal.
Json ToJson(const stream::Value& value);

}  // namespace april::buffer
