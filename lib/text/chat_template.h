// A model's chat template: messages to the text that the model was trained on.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace april::text {

struct Message {
  std::string role;  ///< system, user, assistant
  std::string content;
  Json more = Json::object();  ///< what else a template may look at: tool_calls, reasoning_content, name; a "content" here stands for the one above
};

/// A Jinja template, compiled. Immutable.   Thread  all const functions may be called from many threads.
class ChatTemplate {
 public:
  /// `path`: a model directory (chat_template.jinja, else tokenizer_config.json's chat_template) or a .gguf file (tokenizer.chat_template).
  /// Throws Runtime, Data, Incompatible: no template, or one with a construct that is not supported (by name, with the template's digest).
  static std::shared_ptr<const ChatTemplate> Load(const std::string& path);
  /// As Load, but nullptr for a model that has no template, as base models: one that is there and cannot be used is an error all the same.
  static std::shared_ptr<const ChatTemplate> TryLoad(const std::string& path);
  /// `special_tokens`: what the template may name, e.g. {"bos_token": "<s>"}.
  static std::shared_ptr<const ChatTemplate> FromSource(const std::string& source, const Json& special_tokens = Json::object());
  ~ChatTemplate();

  /// The rendered chat. `variables` are given to the template beside the messages, e.g. {"enable_thinking": false}. The template sees no clock:
  /// strftime_now is undefined, so a render can be repeated.
  /// Throws Usage when the template refuses the messages (raise_exception), Incompatible on a construct that is not supported.
  std::string Render(const std::vector<Message>& messages, bool add_generation_prompt, const Json& variables = Json::object()) const;
  /// Render, then the ids with special tokens parsed. The template alone decides about BOS.
  std::vector<uint32_t> RenderTokens(const Tokenizer& tokenizer, const std::vector<Message>& messages, bool add_generation_prompt,
                                     const Json& variables = Json::object()) const;

  /// Of the source without the line end at its end: the "template" of stream headers.
  uint64_t digest() const;
  const std::string& source() const;

 private:
  ChatTemplate();
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace april::text
