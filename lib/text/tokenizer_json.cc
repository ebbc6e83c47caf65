#include <algorithm>
#include <cctype>
#include <unordered_map>

#include "base/error.h"
#include "base/json.h"
#include "text/split_patterns.h"
#include "text/tokenizer_spec.h"

namespace april::text {
namespace {

using FastJson = nlohmann::json;  // a vocabulary is an object of 100,000 keys: base/json.h's ordered kind would search them one by one

constexpr uint64_t kMostTokens = 2'000'000;

class JsonTokenizer {
 public:
  explicit JsonTokenizer(const std::string& source) { spec_.source = source; }

  TokenizerSpec Read(const FastJson& root, const FastJson& config, const FastJson& generation) {
    if (LooksLikeSentencePiece(root)) spec_.sentencepiece.emplace();
    ReadModel(root.at("model"));
    ReadAdded(root);
    ReadNormalizer(Member(root, "normalizer"));
    ReadPreTokenizer(Member(root, "pre_tokenizer"));
    if (spec_.sentencepiece) {
      if (!replaces_space_) Refuse("normalizer", "one that leaves spaces as they are");
      CheckSentencePieceDecoder(Member(root, "decoder"));
      if (spec_.sentencepiece->prefix == SentencePiece::Prefix::kAlways) PrefixNormalizedTokens();
    } else {
      if (!byte_level_) Refuse("pre_tokenizer", "one without ByteLevel");
      CheckDecoder(Member(root, "decoder"));
    }
    ReadPostProcessor(Member(root, "post_processor"));
    spec_.bos_id = NamedToken(config, "bos_token");
    spec_.eos_id = NamedToken(config, "eos_token");
    ReadStopIds(generation);
    return std::move(spec_);
  }

 private:
  static const FastJson& Member(const FastJson& object, const char* key) {
    static const FastJson null;
    const auto found = object.find(key);
    return found == object.end() ? null : *found;
  }
  static bool IsTrue(const FastJson& object, const char* key) { return Member(object, key).is_boolean() && Member(object, key).get<bool>(); }

  [[noreturn]] void Refuse(const std::string& component, const std::string& seen) const {
    throw Error::Incompatible(spec_.source + ": " + component + ": " + seen + " is not supported",
                              "byte-level BPE (SmolLM2, Llama 3, Qwen 2, 2.5 and 3) and SentencePiece's BPE (Llama 1 and 2) are");
  }

  /// By a part that byte-level tokenizers do not have.
  static bool LooksLikeSentencePiece(const FastJson& root) {
    const FastJson& model = root.at("model");
    if (IsTrue(model, "byte_fallback") && model.at("vocab").contains(TokenOfByte(0))) return true;
    return HasType(Member(root, "pre_tokenizer"), "pretokenizers", "Metaspace") || HasType(Member(root, "normalizer"), "normalizers", "Replace");
  }
  static bool HasType(const FastJson& part, const char* list, const char* type) {
    if (part.is_null()) return false;
    const FastJson& parts = Member(part, list);
    if (parts.is_array()) return std::any_of(parts.begin(), parts.end(), [&](const FastJson& inner) { return HasType(inner, list, type); });
    return Member(part, "type") == type;
  }

  void SetToken(uint64_t id, std::string bytes) {
    if (id >= kMostTokens) throw Error::Data(spec_.source + ": token id " + std::to_string(id) + " is beyond any vocabulary");
    if (id >= spec_.tokens.size()) spec_.tokens.resize(id + 1);
    spec_.tokens[id] = std::move(bytes);
  }

  void ReadModel(const FastJson& model) {
    const std::string type = model.value("type", model.contains("merges") ? "BPE" : "none");
    if (type != "BPE") Refuse("model type", type);
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (Member(model, key).is_string() && !Member(model, key).get<std::string>().empty()) Refuse("model", key);
    }
    const bool byte_fallback = spec_.sentencepiece && IsTrue(model, "byte_fallback");
    spec_.ignore_merges = IsTrue(model, "ignore_merges");
    for (const auto& [text, id] : model.at("vocab").items()) {
      const auto byte = byte_fallback ? ByteOfToken(text) : std::nullopt;
      SetToken(id.get<uint64_t>(), byte ? std::string(1, static_cast<char>(*byte)) : BytesOf(text));
      ids_.emplace(text, id.get<uint32_t>());
    }
    for (unsigned byte = 0; byte_fallback && byte < 256; ++byte) {
      spec_.sentencepiece->byte_tokens.push_back(IdOf(TokenOfByte(static_cast<unsigned char>(byte)), "byte_fallback"));
    }
    ReadMerges(model.at("merges"));
    if (Member(model, "unk_token").is_string() && (spec_.sentencepiece ? !byte_fallback : LacksBytes())) {
      spec_.unknown_id = IdOf(model["unk_token"].get<std::string>(), "unk_token");
      spec_.fuse_unknown = IsTrue(model, "fuse_unk");
    }
  }

  std::string BytesOf(const std::string& text) const { return spec_.sentencepiece ? FromSentencePiece(text) : FromByteLevel(text).value_or(text); }

  void ReadMerges(const FastJson& merges) {
    for (const FastJson& merge : merges) {
      std::string left, right;
      if (merge.is_array()) {
        left = merge.at(0).get<std::string>();
        right = merge.at(1).get<std::string>();
      } else {
        const auto text = merge.get<std::string>();
        const size_t space = text.find(' ');
        if (space == std::string::npos) throw Error::Data(spec_.source + ": merge '" + text + "' is not two tokens");
        left = text.substr(0, space);
        right = text.substr(space + 1);
      }
      spec_.merges.emplace_back(IdOf(left, "merges"), IdOf(right, "merges"));
      spec_.merged.push_back(IdOf(left + right, "merges"));
    }
  }

  uint32_t IdOf(const std::string& text, const char* where) const {
    const auto found = ids_.find(text);
    if (found == ids_.end()) throw Error::Data(spec_.source + ": " + where + " names the token '" + text + "', which the vocabulary lacks");
    return found->second;
  }

  uint32_t ExistingId(const FastJson& number) const {
    const auto id = number.get<int64_t>();
    if (id < 0 || id >= static_cast<int64_t>(spec_.tokens.size()) || !spec_.tokens[static_cast<size_t>(id)]) {
      throw Error::Data(spec_.source + ": the token id " + std::to_string(id) + " is named, but the vocabulary lacks it");
    }
    return static_cast<uint32_t>(id);
  }

  /// Otherwise unknown tokens cannot come up, and whether one is named makes no difference.
  bool LacksBytes() const {
    for (int byte = 0; byte < 256; ++byte) {
      if (!ids_.contains(ToByteLevel(std::string(1, static_cast<char>(byte))))) return true;
    }
    return false;
  }

  void ReadAdded(const FastJson& root) {
    const FastJson& tokens = Member(root, "added_tokens");
    if (tokens.is_null()) return;
    for (const FastJson& entry : tokens) {
      AddedToken token;
      token.id = entry.at("id").get<uint32_t>();
      token.content = entry.at("content").get<std::string>();
      token.special = IsTrue(entry, "special");
      token.lstrip = IsTrue(entry, "lstrip");
      token.rstrip = IsTrue(entry, "rstrip");
      token.single_word = IsTrue(entry, "single_word");
      token.normalized = IsTrue(entry, "normalized");
      SetToken(token.id, spec_.sentencepiece ? FromSentencePiece(token.content) : token.content);
      ids_[token.content] = token.id;
      spec_.added.push_back(std::move(token));
    }
    std::sort(spec_.added.begin(), spec_.added.end(), [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  }

  void ReadNormalizer(const FastJson& normalizer) {
    if (normalizer.is_null()) return;
    const auto type = normalizer.at("type").get<std::string>();
    if (type == "NFC" && !spec_.sentencepiece) {
      spec_.nfc = true;
    } else if (type == "Prepend" && spec_.sentencepiece && !replaces_space_ && normalizer.at("prepend") == kSpaceLetter) {
      spec_.sentencepiece->prefix = SentencePiece::Prefix::kAlways;
    } else if (type == "Replace" && spec_.sentencepiece && normalizer.at("pattern") == FastJson{{"String", " "}} &&
               normalizer.at("content") == kSpaceLetter) {
      replaces_space_ = true;
    } else if (type == "Sequence") {
      for (const FastJson& part : normalizer.at("normalizers")) ReadNormalizer(part);
    } else {
      Refuse("normalizer", type);
    }
  }

  void AddSplit(const std::string& pattern) { spec_.split.push_back({SplitStep::Kind::kRegex, pattern}); }

  static std::string Literally(const std::string& text) {
    std::string pattern;
    for (const char c : text) {
      if (std::ispunct(static_cast<unsigned char>(c)) != 0) pattern += '\\';
      pattern += c;
    }
    return pattern;
  }

  void ReadPreTokenizer(const FastJson& step) {
    if (step.is_null()) return;
    const auto type = step.at("type").get<std::string>();
    if (type == "Sequence") {
      for (const FastJson& part : step.at("pretokenizers")) ReadPreTokenizer(part);
      return;
    }
    if (type == "Metaspace" && spec_.sentencepiece) {
      ReadMetaspace(step);
      return;
    }
    if (spec_.sentencepiece) Refuse("pre_tokenizer", type + " of a SentencePiece tokenizer");
    if (byte_level_) Refuse("pre_tokenizer", type + " behind ByteLevel");
    if (type == "ByteLevel") {
      byte_level_ = true;
      if (step.value("add_prefix_space", true)) spec_.split.push_back({SplitStep::Kind::kPrefixSpace, {}});
      if (step.value("use_regex", true)) AddSplit(kGpt2Pattern);
    } else if (type == "Digits") {
      AddSplit(step.value("individual_digits", false) ? kDigitPattern : kDigitsPattern);
    } else if (type == "Split") {
      const auto behavior = step.at("behavior").get<std::string>();
      if (behavior != "Isolated") Refuse("pre_tokenizer", "Split with behavior " + behavior);
      const FastJson& pattern = step.at("pattern");
      AddSplit(pattern.contains("Regex") ? pattern["Regex"].get<std::string>() : Literally(pattern.at("String").get<std::string>()));
    } else {
      Refuse("pre_tokenizer", type);
    }
  }

  void ReadMetaspace(const FastJson& step) {
    if (replaces_space_) Refuse("pre_tokenizer", "Metaspace behind a normalizer that replaces spaces");
    if (step.at("replacement") != kSpaceLetter) Refuse("pre_tokenizer", "Metaspace with replacement " + step["replacement"].dump());
    replaces_space_ = true;
    // Older files say add_prefix_space alone.
    const std::string scheme = step.contains("prepend_scheme")        ? step["prepend_scheme"].get<std::string>()
                               : step.value("add_prefix_space", true) ? "always"
                                                                      : "never";
    using Prefix = SentencePiece::Prefix;
    if (scheme != "always" && scheme != "first" && scheme != "never") Refuse("pre_tokenizer", "Metaspace with prepend_scheme " + scheme);
    spec_.sentencepiece->prefix = scheme == "always" ? Prefix::kLacking : scheme == "first" ? Prefix::kFirst : Prefix::kNone;
    if (step.value("split", true)) AddSplit(kWordPattern);
  }

  /// An added token that is found in normalised text is found with the space in front, and is decoded with it.
  void PrefixNormalizedTokens() {
    for (const AddedToken& token : spec_.added) {
      if (token.normalized) SetToken(token.id, " " + *spec_.tokens[token.id]);
    }
  }

  /// Replace, ByteFallback, Fuse, and Strip or not: what turns tokens into their bytes, concatenated.
  void CheckSentencePieceDecoder(const FastJson& decoder) {
    if (decoder.is_null()) Refuse("decoder", "none");
    const FastJson& parts = Member(decoder, "decoders");
    if (!parts.is_array()) Refuse("decoder", decoder.at("type").get<std::string>());
    std::string types;
    for (const FastJson& part : parts) types += (types.empty() ? "" : ", ") + part.at("type").get<std::string>();
    const bool strips = types.ends_with(", Strip");
    const std::string wanted = spec_.sentencepiece->byte_tokens.empty() ? "Replace, Fuse" : "Replace, ByteFallback, Fuse";
    if (types != wanted + (strips ? ", Strip" : "")) Refuse("decoder", "the sequence " + types);
    if (parts[0].at("pattern") != FastJson{{"String", kSpaceLetter}} || parts[0].at("content") != " ") Refuse("decoder", parts[0].dump());
    if (strips && (parts.back().at("content") != " " || parts.back().at("start") != 1 || parts.back().at("stop") != 0)) {
      Refuse("decoder", parts.back().dump());
    }
    spec_.sentencepiece->strips_space = strips;
  }

  void CheckDecoder(const FastJson& decoder) const {
    if (decoder.is_null()) Refuse("decoder", "none");
    const auto is_byte_level = [](const FastJson& part) { return part.at("type") == "ByteLevel"; };
    const FastJson& parts = Member(decoder, "decoders");
    const bool found = parts.is_array() ? std::any_of(parts.begin(), parts.end(), is_byte_level) : is_byte_level(decoder);
    if (!found) Refuse("decoder", decoder.at("type").get<std::string>());
  }

  /// Only what stands in front of one text is of use: nothing is put behind a prompt.
  void ReadPostProcessor(const FastJson& processor) {
    if (processor.is_null()) return;
    const auto type = processor.at("type").get<std::string>();
    if (type == "ByteLevel") return;
    if (type == "Sequence") {
      for (const FastJson& part : processor.at("processors")) ReadPostProcessor(part);
      return;
    }
    if (type != "TemplateProcessing") Refuse("post_processor", type);
    for (const FastJson& part : processor.at("single")) {
      if (!part.contains("SpecialToken")) break;
      const auto name = part["SpecialToken"].at("id").get<std::string>();
      for (const FastJson& id : processor.at("special_tokens").at(name).at("ids")) spec_.plain_prefix.push_back(ExistingId(id));
    }
  }

  std::optional<uint32_t> NamedToken(const FastJson& config, const char* key) const {
    const FastJson& entry = Member(config, key);
    const FastJson& content = entry.is_object() ? Member(entry, "content") : entry;
    if (!content.is_string()) return std::nullopt;
    const auto found = ids_.find(content.get<std::string>());
    return found == ids_.end() ? std::nullopt : std::optional<uint32_t>(found->second);
  }

  void ReadStopIds(const FastJson& generation) {
    const FastJson& ids = Member(generation, "eos_token_id");
    if (ids.is_array()) {
      for (const FastJson& id : ids) spec_.stop_ids.push_back(ExistingId(id));
    } else if (ids.is_number_integer()) {
      spec_.stop_ids = {ExistingId(ids)};
    } else if (spec_.eos_id) {
      spec_.stop_ids = {*spec_.eos_id};
    }
    std::sort(spec_.stop_ids.begin(), spec_.stop_ids.end());
  }

  TokenizerSpec spec_;
  std::unordered_map<std::string, uint32_t> ids_;  // by the text in the file
  bool byte_level_ = false, replaces_space_ = false;
};

FastJson Parse(const std::string& what, const std::string& text) {
  if (text.empty()) return FastJson::object();
  try {
    return FastJson::parse(text);
  } catch (const FastJson::exception& error) {
    throw Error::Data(what + ": not valid JSON: " + JsonProblem(error));
  }
}

}  // namespace

TokenizerSpec SpecFromJson(const std::string& source, const std::string& tokenizer_json, const std::string& tokenizer_config,
                           const std::string& generation_config) {
  const FastJson root = Parse(source, tokenizer_json);
  const FastJson config = Parse("tokenizer_config.json beside " + source, tokenizer_config);
  const FastJson generation = Parse("generation_config.json beside " + source, generation_config);
  try {
    return JsonTokenizer(source).Read(root, config, generation);
  } catch (const FastJson::exception& error) {  // a key is missing or of another type
    throw Error::Data(source + ": not a tokenizer.json as expected: " + JsonProblem(error));
  }
}

}  // namespace april::text
