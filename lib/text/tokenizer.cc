#include "text/tokenizer.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "base/digest.h"
#include "base/error.h"
#include "base/file.h"
#include "base/utf8.h"
#include "text/bpe.h"
#include "text/nfc.h"
#include "text/splitter.h"
#include "weights/gguf.h"

namespace april::text {

/// The ids of pieces seen before. Not for use by two threads at once.
class PieceCache {
 public:
  const std::vector<uint32_t>* Find(std::string_view piece) const {
    const auto found = ids_.find(piece);
    return found == ids_.end() ? nullptr : &found->second;
  }
  void Add(std::string_view piece, std::vector<uint32_t> ids) {
    if (ids_.size() < kCachedPieces) ids_.emplace(piece, std::move(ids));
  }

 private:
  static constexpr size_t kCachedPieces = 1u << 16;
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view piece) const { return std::hash<std::string_view>{}(piece); }
  };
  std::unordered_map<std::string, std::vector<uint32_t>, Hash, std::equal_to<>> ids_;
};

namespace {

constexpr size_t kCachedPieceBytes = 32;

std::vector<const AddedToken*> Pointers(const std::vector<AddedToken>& tokens) {
  std::vector<const AddedToken*> pointers;
  for (const AddedToken& token : tokens) pointers.push_back(&token);
  return pointers;
}

std::vector<AddedToken> FoundInRawText(const TokenizerSpec& spec) {
  std::vector<AddedToken> tokens;
  std::copy_if(spec.added.begin(), spec.added.end(), std::back_inserter(tokens), [](const AddedToken& t) { return !t.normalized; });
  return tokens;
}

/// Whether text is brought to another form before added tokens that are "normalized" are looked for.
bool Normalizes(const TokenizerSpec& spec) {
  return spec.nfc || (spec.sentencepiece && spec.sentencepiece->prefix == SentencePiece::Prefix::kAlways);
}

/// Of text that is not empty. SentencePiece's own letter for the space becomes one, whichever way it came into the text.
std::string Normalized(const TokenizerSpec& spec, std::string_view text) {
  std::string normal = spec.nfc ? ToNfc(text) : std::string(text);
  if (!spec.sentencepiece) return normal;
  normal = FromSentencePiece(normal);
  return spec.sentencepiece->prefix == SentencePiece::Prefix::kAlways ? " " + normal : normal;
}

std::vector<AddedToken> FoundInNormalText(const TokenizerSpec& spec) {
  std::vector<AddedToken> tokens;
  std::copy_if(spec.added.begin(), spec.added.end(), std::back_inserter(tokens), [](const AddedToken& t) { return t.normalized; });
  for (AddedToken& token : tokens) token.content = Normalized(spec, token.content);
  return tokens;
}

uint64_t DigestOf(const TokenizerSpec& spec) {
  DigestStream digest;
  const auto number = [&digest](uint64_t value) { digest.Update(&value, sizeof value); };
  const auto text = [&](std::string_view bytes) {
    number(bytes.size());
    digest.Update(bytes);
  };
  text("april tokenizer 1");
  number(spec.nfc);
  number(spec.ignore_merges);
  number(spec.unknown_id ? *spec.unknown_id : ~uint64_t{0});
  number(spec.fuse_unknown);
  number(spec.split.size());
  for (const SplitStep& step : spec.split) {
    number(static_cast<uint64_t>(step.kind));
    text(step.pattern);
  }
  // Whether an added token counts as special is left out: GGUF converters mark more tokens so, and the ids of parsed text do not depend on it.
  for (const AddedToken& token : spec.added) {
    number(token.id);
    number((token.lstrip ? 1u : 0u) | (token.rstrip ? 2u : 0u) | (token.single_word ? 4u : 0u) | (token.normalized && Normalizes(spec) ? 8u : 0u));
  }
  for (uint32_t id = 0; id < spec.tokens.size(); ++id) {
    if (!spec.tokens[id]) continue;
    number(id);
    text(*spec.tokens[id]);
  }
  if (spec.sentencepiece) {
    text("SentencePiece");
    number(static_cast<uint64_t>(spec.sentencepiece->prefix));
    for (const uint32_t id : spec.sentencepiece->byte_tokens) number(id);
  }
  number(spec.merges.size());
  for (const auto& [left, right] : spec.merges) number(uint64_t{left} << 32 | right);
  return digest.Value();
}

std::string ReadIfThere(const std::string& path) { return SystemFiles().Exists(path) ? ReadFile(SystemFiles(), path) : std::string(); }

}  // namespace

struct Tokenizer::Parts {
  TokenizerSpec spec;
  std::vector<AddedToken> raw_tokens, normal_tokens;
  AddedTokenFinder raw_finder, normal_finder;
  Splitter splitter;
  Bpe bpe;
  std::vector<bool> special;  // by id
  std::vector<bool> is_byte;  // by id: a byte token of SentencePiece
  uint64_t digest;
  mutable std::mutex cache_mutex;
  mutable PieceCache cache;

  explicit Parts(TokenizerSpec given)
      : spec(std::move(given)),
        raw_tokens(FoundInRawText(spec)),
        normal_tokens(FoundInNormalText(spec)),
        raw_finder(Pointers(raw_tokens)),
        normal_finder(Pointers(normal_tokens)),
        splitter(spec.split),
        bpe(spec),
        special(spec.tokens.size()),
        is_byte(spec.tokens.size()),
        digest(DigestOf(spec)) {
    if (spec.sentencepiece) {
      for (const uint32_t id : spec.sentencepiece->byte_tokens) is_byte[id] = true;
    }
    for (const AddedToken& token : spec.added) special[token.id] = token.special;
  }

  void EncodePiece(std::string_view piece, PieceCache* pieces, std::vector<uint32_t>* ids) const {
    if (pieces == nullptr || piece.size() > kCachedPieceBytes) {
      bpe.Append(piece, ids);
      return;
    }
    if (const std::vector<uint32_t>* known = pieces->Find(piece)) {
      ids->insert(ids->end(), known->begin(), known->end());
      return;
    }
    std::vector<uint32_t> fresh;
    bpe.Append(piece, &fresh);
    ids->insert(ids->end(), fresh.begin(), fresh.end());
    pieces->Add(piece, std::move(fresh));
  }

  /// `text` has no added tokens in it any more. `at_beginning`: nothing stands before it.
  void EncodePlain(std::string_view text, bool at_beginning, PieceCache* pieces, std::vector<uint32_t>* ids) const {
    using Prefix = SentencePiece::Prefix;
    std::vector<std::string_view> split;
    std::deque<std::string> storage;
    const Prefix prefix = spec.sentencepiece ? spec.sentencepiece->prefix : Prefix::kNone;
    if ((prefix == Prefix::kLacking || (prefix == Prefix::kFirst && at_beginning)) && !text.starts_with(' ')) {
      text = storage.emplace_back(" " + std::string(text));
    }
    splitter.Split(text, &split, &storage);
    for (const std::string_view piece : split) EncodePiece(piece, pieces, ids);
  }

  /// Cuts `text` at added tokens; what lies between goes to `plain`.
  template <typename Plain>
  static void Cut(const AddedTokenFinder& finder, std::string_view text, bool special, std::vector<uint32_t>* ids, Plain&& plain) {
    size_t done = 0;
    for (const AddedTokenFinder::Found& found : finder.Find(text, special)) {
      if (found.start > done) plain(text.substr(done, found.start - done));
      ids->push_back(found.token->id);
      done = found.end;
    }
    if (done < text.size()) plain(text.substr(done));
  }
};

Tokenizer::Tokenizer() = default;
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> Tokenizer::FromSpec(TokenizerSpec spec) {
  std::shared_ptr<Tokenizer> tokenizer(new Tokenizer);
  tokenizer->parts_ = std::make_unique<Parts>(std::move(spec));
  return tokenizer;
}

std::shared_ptr<const Tokenizer> Tokenizer::Load(const std::string& path) {
  if (weights::GgufFile::LooksLikeOne(path)) return FromSpec(SpecFromGguf(path));
  const bool is_file = path.ends_with(".json");
  const std::string directory = is_file ? DirectoryOf(path) : path;
  const std::string json_path = is_file ? path : JoinPath(directory, "tokenizer.json");
  if (!SystemFiles().Exists(json_path)) {
    if (!SystemFiles().Exists(path)) throw Error::Runtime("no model at " + path + ": no such file or directory");
    if (SystemFiles().Exists(JoinPath(directory, "tokenizer.model"))) {
      throw Error::Incompatible(path + ": has tokenizer.model alone, which is not read; tokenizer.json is missing",
                                "make it once: python3 -c 'from transformers import AutoTokenizer as T; T.from_pretrained(\"" + directory +
                                    "\").save_pretrained(\"" + directory + "\")' (needs transformers and sentencepiece)");
    }
    const std::string below = LastWith(SystemFiles(), directory, "model.safetensors");
    throw Error::Runtime(path + ": no tokenizer found there", below.empty()
                                                                  ? "name a model directory with a tokenizer.json, that file itself, or a .gguf file"
                                                                  : "did you mean " + below + "?");
  }
  std::string generation_config = ReadIfThere(JoinPath(directory, "generation_config.json"));
  if (generation_config.find("\"eos_token_id\"") == std::string::npos) generation_config = ReadIfThere(JoinPath(directory, "config.json"));
  return FromSpec(
      SpecFromJson(json_path, ReadFile(SystemFiles(), json_path), ReadIfThere(JoinPath(directory, "tokenizer_config.json")), generation_config));
}

std::vector<uint32_t> Tokenizer::Encode(std::string_view text, bool parse_special) const {
  if (const auto offset = FindInvalidUtf8(text)) {
    throw Error::Data("text to encode is not valid UTF-8 at byte " + std::to_string(*offset), "convert it first, e.g. with iconv -t UTF-8");
  }
  const Parts& parts = *parts_;
  std::vector<uint32_t> ids;
  // A second thread does without the cache rather than wait for it.
  const std::unique_lock<std::mutex> lock(parts.cache_mutex, std::try_to_lock);
  PieceCache* pieces = lock ? &parts.cache : nullptr;
  Parts::Cut(parts.raw_finder, text, parse_special, &ids, [&](std::string_view raw) {
    const bool changes = parts.spec.nfc || parts.spec.sentencepiece;
    const std::string changed = changes ? Normalized(parts.spec, raw) : std::string();
    const std::string_view normal = changes ? std::string_view(changed) : raw;
    Parts::Cut(parts.normal_finder, normal, parse_special, &ids,
               [&](std::string_view plain) { parts.EncodePlain(plain, raw.data() == text.data() && plain.data() == normal.data(), pieces, &ids); });
  });
  return ids;
}

std::vector<uint32_t> Tokenizer::EncodePlainPrompt(std::string_view text) const {
  std::vector<uint32_t> ids = Encode(text, true);
  const std::vector<uint32_t>& prefix = parts_->spec.plain_prefix;
  const bool has_prefix = ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
  if (!has_prefix) ids.insert(ids.begin(), prefix.begin(), prefix.end());
  return ids;
}

std::string Tokenizer::Decode(std::span<const uint32_t> ids, bool skip_special, bool at_beginning) const {
  std::string bytes;
  for (const uint32_t id : ids) {
    if (!(skip_special && IsSpecial(id))) bytes += TokenBytes(id);
  }
  if (at_beginning && StripsSpace() && bytes.starts_with(' ')) bytes.erase(0, 1);
  return bytes;
}

bool Tokenizer::StripsSpace() const { return parts_->spec.sentencepiece && parts_->spec.sentencepiece->strips_space; }

/// Shown for an id without a token: to be seen by people, and no letter or digit that a grader would take for part of an answer.
constexpr std::string_view kNoToken = "\xEF\xBF\xBD";

std::string_view Tokenizer::TokenBytes(uint32_t id) const {
  const std::vector<std::optional<std::string>>& tokens = parts_->spec.tokens;
  return id < tokens.size() && tokens[id] ? std::string_view(*tokens[id]) : kNoToken;
}

bool Tokenizer::IsSpecial(uint32_t id) const { return id < parts_->special.size() && parts_->special[id]; }

std::optional<uint32_t> Tokenizer::FindToken(std::string_view bytes) const {
  for (const AddedToken& token : parts_->spec.added) {
    if (token.content == bytes) return token.id;
  }
  const auto& tokens = parts_->spec.tokens;
  std::optional<uint32_t> found;
  for (uint32_t id = 0; id < tokens.size(); ++id) {
    if (!tokens[id] || *tokens[id] != bytes) continue;
    if (!parts_->is_byte[id]) return id;
    found = id;  // unless a letter has the same byte
  }
  return found;
}

uint32_t Tokenizer::vocab_size() const { return static_cast<uint32_t>(parts_->spec.tokens.size()); }
std::optional<uint32_t> Tokenizer::bos_id() const { return parts_->spec.bos_id; }
std::optional<uint32_t> Tokenizer::eos_id() const { return parts_->spec.eos_id; }
const std::vector<uint32_t>& Tokenizer::stop_ids() const { return parts_->spec.stop_ids; }
uint64_t Tokenizer::digest() const { return parts_->digest; }
const TokenizerSpec& Tokenizer::spec() const { return parts_->spec; }

std::string Detokenizer::Append(uint32_t id) {
  if (!(skip_special_ && tokenizer_->IsSpecial(id))) {
    std::string_view bytes = tokenizer_->TokenBytes(id);
    if (at_beginning_ && tokenizer_->StripsSpace() && bytes.starts_with(' ')) bytes.remove_prefix(1);
    at_beginning_ = at_beginning_ && tokenizer_->TokenBytes(id).empty();
    pending_ += bytes;
  }
  const size_t ready = pending_.size() - UnfinishedUtf8(pending_);
  std::string out = ReplaceInvalidUtf8(std::string_view(pending_).substr(0, ready));
  pending_.erase(0, ready);
  return out;
}

std::string Detokenizer::Finish() {
  std::string out = ReplaceInvalidUtf8(pending_);
  pending_.clear();
  return out;
}

}  // namespace april::text
