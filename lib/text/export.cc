#include "text/export.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "text/split_patterns.h"
#include "weights/gguf.h"

namespace april::text {
namespace {

using FastJson = nlohmann::json;  // for the vocabulary: base/json.h's ordered kind searches its keys one by one

Json Normalizer(const TokenizerSpec& spec) {
  if (spec.nfc) return {{"type", "NFC"}};
  using Prefix = SentencePiece::Prefix;
  if (!spec.sentencepiece || spec.sentencepiece->prefix == Prefix::kFirst || spec.sentencepiece->prefix == Prefix::kLacking) return nullptr;
  if (!spec.split.empty()) return nullptr;  // Metaspace cuts, and replaces spaces, too
  Json steps = Json::array();
  if (spec.sentencepiece->prefix == Prefix::kAlways) steps.push_back({{"type", "Prepend"}, {"prepend", kSpaceLetter}});
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpaceLetter}});
  return {{"type", "Sequence"}, {"normalizers", steps}};
}

Json Metaspace(const TokenizerSpec& spec) {
  using Prefix = SentencePiece::Prefix;
  const Prefix prefix = spec.sentencepiece->prefix;
  const char* scheme = prefix == Prefix::kFirst ? "first" : prefix == Prefix::kNone ? "never" : "always";
  return {{"type", "Metaspace"}, {"replacement", kSpaceLetter}, {"prepend_scheme", scheme}, {"split", !spec.split.empty()}};
}

Json Decoder(const TokenizerSpec& spec) {
  if (!spec.sentencepiece) return {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  Json steps = Json::array({{{"type", "Replace"}, {"pattern", {{"String", kSpaceLetter}}}, {"content", " "}}});
  if (!spec.sentencepiece->byte_tokens.empty()) steps.push_back({{"type", "ByteFallback"}});
  steps.push_back({{"type", "Fuse"}});
  if (spec.sentencepiece->strips_space) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", steps}};
}

Json PreTokenizer(const TokenizerSpec& spec) {
  if (spec.sentencepiece) return Normalizer(spec).is_null() ? Metaspace(spec) : Json();
  Json steps = Json::array();
  Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
  for (size_t i = 0; i < spec.split.size(); ++i) {
    const SplitStep& step = spec.split[i];
    if (step.kind == SplitStep::Kind::kPrefixSpace) {
      byte_level["add_prefix_space"] = true;
    } else if (step.pattern == kGpt2Pattern && i + 1 == spec.split.size()) {
      byte_level["use_regex"] = true;
    } else if (step.pattern == kDigitPattern || step.pattern == kDigitsPattern) {
      steps.push_back({{"type", "Digits"}, {"individual_digits", step.pattern == kDigitPattern}});
    } else {
      steps.push_back({{"type", "Split"}, {"pattern", {{"Regex", step.pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
    }
  }
  if (steps.empty()) return byte_level;
  steps.push_back(byte_level);
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

Json PostProcessor(const TokenizerSpec& spec) {
  if (spec.plain_prefix.empty()) return nullptr;
  Json single = Json::array(), tokens = Json::object();
  for (const uint32_t id : spec.plain_prefix) {
    const std::string& text = spec.tokens[id].value();
    single.push_back({{"SpecialToken", {{"id", text}, {"type_id", 0}}}});
    tokens[text] = {{"id", text}, {"ids", Json::array({id})}, {"tokens", Json::array({text})}};
  }
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  Json pair = single;
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", tokens}};
}

Json AddedTokens(const TokenizerSpec& spec) {
  Json list = Json::array();
  for (const AddedToken& token : spec.added) {
    list.push_back({{"id", token.id},
                    {"content", token.content},
                    {"single_word", token.single_word},
                    {"lstrip", token.lstrip},
                    {"rstrip", token.rstrip},
                    {"normalized", token.normalized},
                    {"special", token.special}});
  }
  return list;
}

/// Whether the added tokens come right behind all others: only then does `tokenizers` give them their ids without finding them in the vocabulary.
bool AddedComeLast(const TokenizerSpec& spec) {
  const size_t first = spec.tokens.size() - spec.added.size();
  if (!std::all_of(spec.tokens.begin(), spec.tokens.end(), [](const auto& token) { return token.has_value(); })) return false;
  return std::all_of(spec.added.begin(), spec.added.end(), [first](const AddedToken& token) { return token.id >= first; });
}

FastJson Model(const TokenizerSpec& spec) {
  std::vector<const AddedToken*> added(spec.tokens.size());
  for (const AddedToken& token : spec.added) added[token.id] = &token;
  std::vector<bool> is_byte(spec.tokens.size());
  if (spec.sentencepiece) {
    for (const uint32_t id : spec.sentencepiece->byte_tokens) is_byte[id] = true;
  }
  const bool leave_out_added = AddedComeLast(spec);
  std::vector<std::string> texts(spec.tokens.size());
  FastJson vocabulary = FastJson::object();
  for (uint32_t id = 0; id < spec.tokens.size(); ++id) {
    if (!spec.tokens[id]) continue;
    texts[id] = added[id] != nullptr ? added[id]->content : spec.sentencepiece ? ToSentencePiece(*spec.tokens[id]) : ToByteLevel(*spec.tokens[id]);
    if (is_byte[id]) texts[id] = TokenOfByte(static_cast<unsigned char>((*spec.tokens[id])[0]));
    if (added[id] != nullptr && leave_out_added) continue;
    if (!vocabulary.emplace(texts[id], id).second) {
      throw Error::Incompatible(spec.source + ": two tokens read '" + texts[id] + "', which tokenizer.json cannot hold");
    }
  }
  FastJson merges = FastJson::array();
  for (const auto& [left, right] : spec.merges) merges.push_back(texts[left] + " " + texts[right]);
  FastJson model = {{"type", "BPE"},
                    {"dropout", nullptr},
                    {"unk_token", nullptr},
                    {"continuing_subword_prefix", nullptr},
                    {"end_of_word_suffix", nullptr},
                    {"fuse_unk", spec.fuse_unknown},
                    {"byte_fallback", spec.sentencepiece && !spec.sentencepiece->byte_tokens.empty()},
                    {"ignore_merges", spec.ignore_merges},
                    {"vocab", std::move(vocabulary)},
                    {"merges", std::move(merges)}};
  if (spec.unknown_id) model["unk_token"] = texts[*spec.unknown_id];
  return model;
}

std::string TokenizerJson(const TokenizerSpec& spec) {
  // Written by hand at the top, so that the small parts stand before the vocabulary.
  const auto member = [](const char* name, const std::string& json) { return "  \"" + std::string(name) + "\": " + json; };
  return "{\n" + member("version", "\"1.0\"") + ",\n" + member("truncation", "null") + ",\n" + member("padding", "null") + ",\n" +
         member("added_tokens", AddedTokens(spec).dump()) + ",\n" + member("normalizer", Normalizer(spec).dump()) + ",\n" +
         member("pre_tokenizer", PreTokenizer(spec).dump()) + ",\n" + member("post_processor", PostProcessor(spec).dump()) + ",\n" +
         member("decoder", Decoder(spec).dump()) + ",\n" + member("model", Model(spec).dump()) + "\n}\n";
}

std::string TokenizerConfig(const TokenizerSpec& spec) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
  if (spec.bos_id) config["bos_token"] = spec.tokens[*spec.bos_id].value();
  if (spec.eos_id) config["eos_token"] = spec.tokens[*spec.eos_id].value();
  return config.dump(2) + "\n";
}

std::string GenerationConfig(const TokenizerSpec& spec) {
  Json config = Json::object();
  if (spec.bos_id) config["bos_token_id"] = *spec.bos_id;
  if (spec.stop_ids.size() == 1) config["eos_token_id"] = spec.stop_ids[0];
  if (spec.stop_ids.size() > 1) config["eos_token_id"] = spec.stop_ids;
  return config.dump(2) + "\n";
}

}  // namespace

std::vector<std::string> WriteTokenizerFiles(const Tokenizer& tokenizer, const ChatTemplate* chat_template, const std::string& directory) {
  std::vector<std::string> paths;
  const auto write = [&](const char* name, const std::string& contents) {
    paths.push_back(JoinPath(directory, name));
    ReplaceFile(SystemFiles(), paths.back(), contents, false);
  };
  SystemFiles().MakeDirectory(directory);
  write("tokenizer.json", TokenizerJson(tokenizer.spec()));
  write("tokenizer_config.json", TokenizerConfig(tokenizer.spec()));
  write("generation_config.json", GenerationConfig(tokenizer.spec()));
  if (chat_template != nullptr) write("chat_template.jinja", chat_template->source());
  return paths;
}

std::vector<std::string> TokenizerFilesOf(const std::string& path, const std::string& directory) {
  if (weights::GgufFile::LooksLikeOne(path)) {
    const std::string* source = nullptr;
    const weights::GgufFile file(path);
    source = file.Text("tokenizer.chat_template");
    const std::shared_ptr<const ChatTemplate> chat_template = source == nullptr ? nullptr : ChatTemplate::Load(path);
    return WriteTokenizerFiles(*Tokenizer::Load(path), chat_template.get(), directory);
  }
  std::vector<std::string> paths;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja", "special_tokens_map.json",
                           "added_tokens.json", "vocab.json", "merges.txt"}) {
    if (SystemFiles().Exists(JoinPath(path, name))) paths.push_back(JoinPath(path, name));
  }
  return paths;
}

}  // namespace april::text
