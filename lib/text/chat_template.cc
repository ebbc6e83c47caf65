#include "text/chat_template.h"

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "text/jinja.h"
#include "weights/gguf.h"

namespace april::text {
namespace {

constexpr char kNoTemplateHint[] = "give a model that has one (an -Instruct or -Chat model), or prompts that are token ids or plain text already";

/// bos_token, eos_token and their like as tokenizer_config.json names them: a string or {"content": …}.
Json SpecialTokens(const Json& config) {
  Json tokens = Json::object();
  for (const char* key : {"bos_token", "eos_token", "pad_token", "unk_token"}) {
    const auto found = config.find(key);
    if (found == config.end()) continue;
    if (found->is_string()) tokens[key] = *found;
    if (found->is_object() && found->contains("content")) tokens[key] = (*found)["content"];
  }
  return tokens;
}

std::string TemplateOfConfig(const std::string& path, const Json& config) {
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return {};
  if (found->is_string()) return found->get<std::string>();
  for (const Json& named : *found) {  // a list of named templates
    if (named.is_object() && named.value("name", "") == "default") return named.value("template", "");
  }
  throw Error::Incompatible(path + ": chat_template is a list without a template named 'default'");
}

}  // namespace

struct ChatTemplate::Parts {
  std::string source;
  uint64_t digest = 0;
  Json special_tokens;
  std::vector<jinja::Statement> program;
};

ChatTemplate::ChatTemplate() = default;
ChatTemplate::~ChatTemplate() = default;

std::shared_ptr<const ChatTemplate> ChatTemplate::FromSource(const std::string& source, const Json& special_tokens) {
  std::shared_ptr<ChatTemplate> made(new ChatTemplate);
  made->parts_ = std::make_unique<Parts>();
  Parts& parts = *made->parts_;
  parts.source = source;
  const std::string_view whole = source;
  parts.digest = Digest(whole.ends_with('\n') ? whole.substr(0, whole.size() - 1) : whole);
  parts.special_tokens = special_tokens;
  try {
    if (const auto offset = FindInvalidUtf8(source)) throw Error::Data("chat template: not valid UTF-8 at byte " + std::to_string(*offset));
    parts.program = jinja::Parse(source);
  } catch (const Error& error) {
    throw error.Within("template " + HexU64(parts.digest));
  }
  return made;
}

std::shared_ptr<const ChatTemplate> ChatTemplate::Load(const std::string& path) {
  auto found = TryLoad(path);
  if (!found) throw Error::Incompatible(path + ": the model has no chat template", kNoTemplateHint);
  return found;
}

std::shared_ptr<const ChatTemplate> ChatTemplate::TryLoad(const std::string& path) {
  std::string source;
  Json special_tokens = Json::object();
  if (weights::GgufFile::LooksLikeOne(path)) {
    const weights::GgufFile file(path);
    if (const std::string* text = file.Text("tokenizer.chat_template")) source = *text;
    const auto* tokens = file.Texts("tokenizer.ggml.tokens");
    for (const char* name : {"bos", "eos"}) {
      const auto id = file.Integer("tokenizer.ggml." + std::string(name) + "_token_id");
      if (id && tokens != nullptr && *id >= 0 && *id < static_cast<int64_t>(tokens->size()))
        special_tokens[std::string(name) + "_token"] = (*tokens)[*id];
    }
  } else {
    const std::string config_path = JoinPath(path, "tokenizer_config.json"), jinja_path = JoinPath(path, "chat_template.jinja");
    try {
      const Json config = SystemFiles().Exists(config_path) ? Json::parse(ReadFile(SystemFiles(), config_path)) : Json::object();
      special_tokens = SpecialTokens(config);
      source = SystemFiles().Exists(jinja_path) ? ReadFile(SystemFiles(), jinja_path) : TemplateOfConfig(config_path, config);
    } catch (const Json::exception& error) {
      throw Error::Data(config_path + ": " + JsonProblem(error));
    }
  }
  if (source.empty()) return nullptr;
  try {
    return FromSource(source, special_tokens);
  } catch (const Error& error) {
    throw error.Within(path);
  }
}

std::string ChatTemplate::Render(const std::vector<Message>& messages, bool add_generation_prompt, const Json& variables) const {
  Json given = parts_->special_tokens;
  given["tools"] = nullptr;  // transformers passes both, as None
  given["documents"] = nullptr;
  for (const auto& [name, value] : variables.items()) given[name] = value;
  Json list = Json::array();
  for (const Message& message : messages) {
    for (const std::string* text : {&message.role, &message.content}) {
      if (const auto offset = FindInvalidUtf8(*text)) throw Error::Data("a message is not valid UTF-8 at byte " + std::to_string(*offset));
    }
    Json entry = {{"role", message.role}, {"content", message.content}};
    for (const auto& [key, value] : message.more.items()) entry[key] = value;
    list.push_back(std::move(entry));
  }
  given["messages"] = std::move(list);
  given["add_generation_prompt"] = add_generation_prompt;
  try {
    return jinja::Render(parts_->program, given);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kIncompatible) throw;
    throw error.Within("template " + HexU64(parts_->digest));
  }
}

std::vector<uint32_t> ChatTemplate::RenderTokens(const Tokenizer& tokenizer, const std::vector<Message>& messages, bool add_generation_prompt,
                                                 const Json& variables) const {
  return tokenizer.Encode(Render(messages, add_generation_prompt, variables), true);
}

uint64_t ChatTemplate::digest() const { return parts_->digest; }
const std::string& ChatTemplate::source() const { return parts_->source; }

}  // namespace april::text
