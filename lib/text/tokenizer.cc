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
namespace {

constexpr size_t kCachedPieces = 1u << 16;
constexpr size_t kCachedPieceBytes = 32;

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
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view piece) const { return std::hash<std::string_view>{}(piece); }
  };
  std::unordered_map<std::string, std::vector<uint32_t>, Hash, std::equal_to<>> ids_;
};

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

std::vector<AddedToken> FoundInNormalText(const TokenizerSpec& spec) {
  std::vector<AddedToken> tokens;
  std::copy_if(spec.added.begin(), spec.added.end(), std::back_inserter(tokens), [](const AddedToken& t) { return t.normalized; });
  if (spec.nfc) {
    for (AddedToken& token : tokens) token.content = ToNfc(token.content);
  }
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
    number((token.lstrip ? 1u : 0u) | (token.rstrip ? 2u : 0u) | (token.single_word ? 4u : 0u) | (token.normalized && spec.nfc ? 8u : 0u));
  }
  for (uint32_t id = 0; id < spec.tokens.size(); ++id) {
    if (!spec.tokens[id]) continue;
    number(id);
    text(*spec.tokens[id]);
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
        digest(DigestOf(spec)) {
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

  /// `text` has no added tokens in it any more.
  void EncodePlain(std::string_view text, PieceCache* pieces, std::vector<uint32_t>* ids) const {
    std::vector<std::string_view> split;
    std::deque<std::string> storage;
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
    const std::string below = LastWith(SystemFiles(), directory, "model.safetensors");
    throw Error::Runtime(path + ": no tokenizer found there",
                         below.empty() ? "name a model directory with a tokenizer.json, that file itself, or a .gguf file; SentencePiece's "
                                         "tokenizer.model is not supported"
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
    const std::string normal = parts.spec.nfc ? ToNfc(raw) : std::string();
    Parts::Cut(parts.normal_finder, parts.spec.nfc ? std::string_view(normal) : raw, parse_special, &ids,
               [&](std::string_view plain) { parts.EncodePlain(plain, pieces, &ids); });
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

std::string Tokenizer::Decode(std::span<const uint32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const uint32_t id : ids) {
    if (!(skip_special && IsSpecial(id))) bytes += TokenBytes(id);
  }
  return bytes;
}

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
  const auto found = std::find_if(tokens.begin(), tokens.end(), [bytes](const auto& token) { return token && *token == bytes; });
  if (found == tokens.end()) return std::nullopt;
  return static_cast<uint32_t>(found - tokens.begin());
}

uint32_t Tokenizer::vocab_size() const { return static_cast<uint32_t>(parts_->spec.tokens.size()); }
std::optional<uint32_t> Tokenizer::bos_id() const { return parts_->spec.bos_id; }
std::optional<uint32_t> Tokenizer::eos_id() const { return parts_->spec.eos_id; }
const std::vector<uint32_t>& Tokenizer::stop_ids() const { return parts_->spec.stop_ids; }
uint64_t Tokenizer::digest() const { return parts_->digest; }
const TokenizerSpec& Tokenizer::spec() const { return parts_->spec; }

std::string Detokenizer::Append(uint32_t id) {
  if (!(skip_special_ && tokenizer_->IsSpecial(id))) pending_ += tokenizer_->TokenBytes(id);
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
