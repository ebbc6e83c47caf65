#include "buffer/prompts.h"

#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <iostream>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "stream/scanner.h"
#include "text/context.h"

namespace april::buffer {
namespace {

// A prompt's record becomes that of each of its rollouts, which still has to fit a record with all that is generated.
constexpr stream::DecodeLimits kLimits = {16u << 20, stream::DecodeLimits{}.max_depth, 1u << 20};

/// JSON as nested as a record may be: what is deeper is refused before anything has to walk down there.
Json ParseLine(const std::string& line) {
  return Json::parse(line, [](int depth, Json::parse_event_t, const Json&) {
    if (depth > kLimits.max_depth) throw Error::Data("nested deeper than " + std::to_string(kLimits.max_depth) + " levels");
    return true;
  });
}

std::string BaseName(const std::string& path) { return path == "-" ? "stdin" : path.substr(path.rfind('/') + 1); }

std::string Need(const Json& json, const char* key) {
  if (!json.is_object() || !json.contains(key) || !json[key].is_string()) throw Error::Data("a message without \"" + std::string(key) + "\" as text");
  return json[key].get<std::string>();
}

/// A key that nobody reads may be a slip, or something that its writer will miss.
void WarnOfOthers(const Json& object, std::initializer_list<std::string_view> known, const char* hint, const std::string& position) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string what = "unknown key \"" + key + "\"";
    log::WarnOnce(what, position + ": " + what + " is not kept; " + hint);
  }
}

std::string IdOf(const Json& id) {
  const std::string text = id.is_string() ? id.get<std::string>() : id.dump();
  if (!(id.is_string() || id.is_number()) || text.empty()) {
    throw Error::Data("\"id\" is " + std::string(id.is_string() ? "empty" : id.type_name()) + ", which is no id",
                      "an id is a text or a number, another one for each prompt; without \"id\" it is the file's name and the line");
  }
  return text;
}

std::vector<text::Message> Messages(const Json& json) {
  if (!json.is_array() || json.empty()) throw Error::Data("\"messages\" is no list of messages");
  std::vector<text::Message> messages;
  for (const Json& message : json) {
    // Only a call of a tool may be without content; what else a message has is for the template.
    const bool calls_tool = message.is_object() && message.contains("tool_calls");
    const bool has_content = !calls_tool || (message.contains("content") && !message["content"].is_null());
    text::Message read{Need(message, "role"), has_content ? Need(message, "content") : "", Json::object()};
    for (const auto& [key, value] : message.items()) {
      if (key != "role" && !(key == "content" && has_content)) read.more[key] = value;
    }
    messages.push_back(std::move(read));
  }
  return messages;
}

}  // namespace

PromptModel PromptModel::Load(const std::string& path) {
  PromptModel model;
  model.tokenizer = text::Tokenizer::Load(path);
  model.chat = text::ChatTemplate::TryLoad(path);
  model.context_tokens = text::ContextTokens(path).value_or(0);
  return model;
}

PromptLines::PromptLines(const std::string& path, const PromptModel& model, bool plain, int64_t max_prompt_tokens)
    : name_(path == "-" ? "stdin" : path), model_(model), plain_(plain), max_prompt_tokens_(max_prompt_tokens), in_(&std::cin) {
  if (path == "-") return;
  file_.open(path);
  if (!file_) throw Error::System("cannot open", path, errno);
  in_ = &file_;
}

std::optional<record::Prompt> PromptLines::Next() {
  std::string line;
  while (std::getline(*in_, line)) {
    ++line_number_;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      record::Prompt prompt = Read(line);
      CheckFits(prompt);
      return prompt;
    } catch (const Json::exception& error) {
      throw Error::Data(Position() + ": " + JsonProblem(error));
    } catch (const Error& error) {
      throw error.Within(Position());
    }
  }
  if (in_->bad()) throw Error::Runtime("cannot read " + name_);
  return std::nullopt;
}

record::Prompt PromptLines::Read(const std::string& line) const {
  const Json json = ParseLine(line);
  if (!json.is_object()) throw Error::Data("expected an object with \"prompt\" or \"messages\"");
  record::Prompt prompt;
  prompt.prompt_id = json.contains("id") ? IdOf(json["id"]) : BaseName(name_) + ":" + std::to_string(line_number_);
  if (json.contains("messages") == json.contains("prompt")) throw Error::Data("expected either \"prompt\" or \"messages\"");
  if (json.contains("messages")) {
    if (!model_.chat) throw Error::Data("\"messages\" need a chat template, but the model has none");
    prompt.prompt_tokens = model_.chat->RenderTokens(*model_.tokenizer, Messages(json["messages"]), true);
  } else {
    const std::string text = json["prompt"].get<std::string>();
    const bool chat = model_.chat && !plain_;
    prompt.prompt_tokens = chat ? model_.chat->RenderTokens(*model_.tokenizer, {{"user", text}}, true) : model_.tokenizer->EncodePlainPrompt(text);
  }
  if (prompt.prompt_tokens.empty()) throw Error::Data("the prompt has no token");
  if (const auto length = static_cast<int64_t>(prompt.prompt_tokens.size()); max_prompt_tokens_ > 0 && length > max_prompt_tokens_) {
    throw Error::Data(
        "the prompt has " + std::to_string(length) + " tokens, more than the " + std::to_string(max_prompt_tokens_) + " that are allowed",
        "shorten it, or raise --max-prompt-tokens, or skip such lines with --skip-bad");
  }
  if (json.contains("label") && !json["label"].is_null())
    prompt.label = json["label"].is_string() ? json["label"].get<std::string>() : json["label"].dump();
  if (json.contains("meta")) {
    if (!json["meta"].is_object()) throw Error::Data("\"meta\" is no object");
    prompt.meta = FromJson(json["meta"]).AsMap();
  }
  WarnOfOthers(json, {"prompt", "messages", "label", "id", "meta"},
               "known are prompt, messages, label, id, and meta for whatever else is to go along", Position());
  return prompt;
}

void CheckFits(const record::Prompt& prompt) {
  const std::string bytes = record::EncodeRecord(prompt);
  try {
    stream::Scanner(kLimits).Scan(bytes);
  } catch (const Error& error) {
    throw error.Within("prompt \"" + prompt.prompt_id.substr(0, 100) + "\" does not fit into a record with its label and meta");
  }
}

stream::Value FromJson(const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
      return json.get<int64_t>();
    case Json::value_t::number_unsigned:
      return json.get<uint64_t>();
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return json.get<std::string>();
    case Json::value_t::array: {
      stream::Array array;
      for (const Json& element : json) array.push_back(FromJson(element));
      return array;
    }
    case Json::value_t::object: {
      stream::Map map;
      for (const auto& [key, value] : json.items()) map.emplace_back(key, FromJson(value));
      return map;
    }
    default:
      return {};
  }
}

Json ToJson(const stream::Value& value) {
  return std::visit(
      [](const auto& held) -> Json {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, std::monostate>) {
          return nullptr;
        } else if constexpr (std::is_same_v<Held, stream::Bin>) {
          return HexBytes(held.bytes);
        } else if constexpr (std::is_same_v<Held, stream::Array>) {
          Json array = Json::array();
          for (const stream::Value& element : held) array.push_back(ToJson(element));
          return array;
        } else if constexpr (std::is_same_v<Held, stream::Map>) {
          Json object = Json::object();
          for (const auto& [key, element] : held) object[key] = ToJson(element);
          return object;
        } else {
          return held;
        }
      },
      value.held());
}

}  // namespace april::buffer
