#include <algorithm>
#include <cmath>
#include <tuple>
#include <unordered_map>

#include "base/error.h"
#include "base/utf8.h"
#include "text/split_patterns.h"
#include "text/tokenizer_spec.h"
#include "weights/gguf.h"

namespace april::text {
namespace {

// Token types of the file format.
constexpr int64_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5;

/// GGUF names the pre-tokeniser instead of describing it; what the name stands for is what the family's tokenizer.json says.
struct NamedPreTokenizer {
  const char* name;
  bool nfc;
  bool ignore_merges;
  bool adds_bos;  ///< when the file does not say
  std::vector<const char*> patterns;
};

const NamedPreTokenizer* FindPreTokenizer(const std::string& name) {
  static const std::vector<NamedPreTokenizer> known = {
      {"gpt-2", false, false, false, {kGpt2Pattern}},     {"smollm", false, false, false, {kDigitPattern, kGpt2Pattern}},
      {"llama-bpe", false, true, true, {kLlama3Pattern}}, {"llama3", false, true, true, {kLlama3Pattern}},
      {"qwen2", true, false, false, {kQwen2Pattern}},     {"deepseek-r1-qwen", true, false, true, {kQwen2Pattern}},
  };
  const auto found = std::find_if(known.begin(), known.end(), [&name](const NamedPreTokenizer& p) { return name == p.name; });
  return found == known.end() ? nullptr : &*found;
}

/// tokenizer.ggml.unknown_token_id is not used: it comes from the list of special tokens, the models' own tokenizers have no unknown token.
class GgufTokenizer {
 public:
  explicit GgufTokenizer(const std::string& path) : file_(path) { spec_.source = path; }

  TokenizerSpec Read() {
    const std::string* model = file_.Text("tokenizer.ggml.model");
    if (model == nullptr) throw Error::Data(file_.path() + ": has no tokenizer (no key tokenizer.ggml.model)");
    if (*model == "llama") return ReadSentencePiece();
    if (*model != "gpt2") {
      throw Error::Incompatible(file_.path() + ": tokenizer.ggml.model '" + *model + "' is not supported",
                                "byte-level BPE ('gpt2') and SentencePiece's BPE ('llama') are");
    }
    const NamedPreTokenizer& named = PreTokenizer();
    spec_.nfc = named.nfc;
    spec_.ignore_merges = named.ignore_merges;
    for (const char* pattern : named.patterns) spec_.split.push_back({SplitStep::Kind::kRegex, pattern});
    ReadTokens();
    ReadMerges();
    ReadNamedTokens(named.adds_bos);
    return std::move(spec_);
  }

 private:
  /// SentencePiece's BPE. The file does not say whether the space in front is put only at the text's beginning: as its readers do, at each stretch.
  TokenizerSpec ReadSentencePiece() {
    SentencePiece& kind = spec_.sentencepiece.emplace();
    kind.strips_space = file_.Flag("tokenizer.ggml.add_space_prefix").value_or(true);
    kind.prefix = kind.strips_space ? SentencePiece::Prefix::kAlways : SentencePiece::Prefix::kNone;
    ReadTokens();
    ReadByteTokens();
    MakeMerges();
    ReadNamedTokens(true);
    return std::move(spec_);
  }

  void ReadByteTokens() {
    std::vector<uint32_t>& bytes = spec_.sentencepiece->byte_tokens;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const std::string name = TokenOfByte(static_cast<unsigned char>(byte));
      const auto found = ids_.find(name);
      if (found == ids_.end()) throw Error::Data(file_.path() + ": the vocabulary has no token " + name);
      bytes.push_back(found->second);
      spec_.tokens[found->second] = std::string(1, static_cast<char>(byte));
    }
  }

  /// Which pairs may be merged, and in which order, from the tokens' scores.   Source  what transformers makes of a SentencePiece model
  /// (generate_merges of its convert_slow_tokenizer): the best score first; then the longer left part, then the longer right part, then the order of
  /// the vocabulary.
  void MakeMerges() {
    const auto* scores = file_.Reals("tokenizer.ggml.scores");
    const auto& types = *file_.Integers("tokenizer.ggml.token_type");
    if (scores == nullptr || scores->size() != types.size()) {
      throw Error::Data(file_.path() + ": tokenizer.ggml.scores has " + std::to_string(scores ? scores->size() : 0) +
                        " entries, tokenizer.ggml.tokens " + std::to_string(types.size()));
    }
    struct Merge {
      double score;
      size_t left_length, right_length;
      uint32_t left, right, merged;
    };
    std::vector<Merge> merges;
    const auto& texts = *file_.Texts("tokenizer.ggml.tokens");
    for (uint32_t id = 0; id < spec_.tokens.size(); ++id) {
      if (types[id] != kNormal) continue;
      if (!std::isfinite((*scores)[id])) throw Error::Data(file_.path() + ": tokenizer.ggml.scores has no number for token " + std::to_string(id));
      const std::string& text = texts[id];
      std::vector<size_t> starts;
      for (size_t offset = 0; offset < text.size(); NextChar(text, &offset)) starts.push_back(offset);
      for (size_t i = 1; i < starts.size(); ++i) {
        const auto left = ids_.find(text.substr(0, starts[i])), right = ids_.find(text.substr(starts[i]));
        if (left == ids_.end() || right == ids_.end() || types[left->second] != kNormal || types[right->second] != kNormal) continue;
        merges.push_back({(*scores)[id], i, starts.size() - i, left->second, right->second, id});
      }
    }
    std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
      return std::tie(a.score, a.left_length, a.right_length) > std::tie(b.score, b.left_length, b.right_length);
    });
    for (const Merge& merge : merges) {
      spec_.merges.emplace_back(merge.left, merge.right);
      spec_.merged.push_back(merge.merged);
    }
  }

  const NamedPreTokenizer& PreTokenizer() const {
    const std::string* name = file_.Text("tokenizer.ggml.pre");
    const NamedPreTokenizer* found = name == nullptr ? nullptr : FindPreTokenizer(*name);
    if (found == nullptr) {
      throw Error::Incompatible(file_.path() + ": tokenizer.ggml.pre '" + (name == nullptr ? "(absent)" : *name) + "' is not supported",
                                "gpt-2, smollm, llama-bpe and qwen2 are; or use the model's Hugging Face directory");
    }
    return *found;
  }

  void ReadTokens() {
    const auto* tokens = file_.Texts("tokenizer.ggml.tokens");
    const auto* types = file_.Integers("tokenizer.ggml.token_type");
    if (tokens == nullptr || types == nullptr || tokens->size() != types->size()) {
      throw Error::Data(file_.path() + ": tokenizer.ggml.tokens has " + std::to_string(tokens ? tokens->size() : 0) +
                        " entries, tokenizer.ggml.token_type " + std::to_string(types ? types->size() : 0));
    }
    spec_.tokens.resize(tokens->size());
    for (uint32_t id = 0; id < tokens->size(); ++id) {
      const std::string& text = (*tokens)[id];
      const int64_t type = (*types)[id];
      if (FindInvalidUtf8(text)) throw Error::Data(file_.path() + ": token " + std::to_string(id) + " is not valid UTF-8");
      if (type == kUnused) continue;
      if (type == kUnknown || type == kControl || type == kUserDefined) {
        AddedToken token;
        token.id = id;
        token.content = text;
        token.special = type != kUserDefined;
        spec_.added.push_back(token);
        spec_.tokens[id] = spec_.sentencepiece ? FromSentencePiece(text) : text;
      } else if (spec_.sentencepiece) {
        spec_.tokens[id] = FromSentencePiece(text);
      } else {
        spec_.tokens[id] = FromByteLevel(text).value_or(text);
      }
      ids_.emplace(text, id);
    }
    while (!spec_.tokens.empty() && !spec_.tokens.back()) spec_.tokens.pop_back();  // padding up to the model's rows
  }

  void ReadMerges() {
    const auto* merges = file_.Texts("tokenizer.ggml.merges");
    if (merges == nullptr) throw Error::Data(file_.path() + ": has no tokenizer.ggml.merges");
    for (const std::string& merge : *merges) {
      const size_t space = merge.find(' ', 1);
      const auto left = ids_.find(merge.substr(0, space));
      const auto right = space == std::string::npos ? ids_.end() : ids_.find(merge.substr(space + 1));
      if (left == ids_.end() || right == ids_.end()) throw Error::Data(file_.path() + ": merge '" + merge + "' is not two tokens of the vocabulary");
      const auto merged = ids_.find(left->first + right->first);
      if (merged == ids_.end()) throw Error::Data(file_.path() + ": merge '" + merge + "' makes a token that the vocabulary lacks");
      spec_.merges.emplace_back(left->second, right->second);
      spec_.merged.push_back(merged->second);
    }
  }

  std::optional<uint32_t> TokenId(const char* key) const {
    const std::optional<int64_t> id = file_.Integer(key);
    if (!id) return std::nullopt;
    if (*id < 0 || *id >= static_cast<int64_t>(spec_.tokens.size())) {
      throw Error::Data(file_.path() + ": " + key + " is " + std::to_string(*id) + ", the vocabulary has " + std::to_string(spec_.tokens.size()) +
                        " tokens");
    }
    return static_cast<uint32_t>(*id);
  }

  void ReadNamedTokens(bool adds_bos) {
    spec_.bos_id = TokenId("tokenizer.ggml.bos_token_id");
    spec_.eos_id = TokenId("tokenizer.ggml.eos_token_id");
    if (spec_.bos_id && file_.Flag("tokenizer.ggml.add_bos_token").value_or(adds_bos)) spec_.plain_prefix = {*spec_.bos_id};
    for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
      if (const auto id = TokenId(key)) spec_.stop_ids.push_back(*id);
    }
    std::sort(spec_.stop_ids.begin(), spec_.stop_ids.end());
    spec_.stop_ids.erase(std::unique(spec_.stop_ids.begin(), spec_.stop_ids.end()), spec_.stop_ids.end());
  }

  weights::GgufFile file_;
  TokenizerSpec spec_;
  std::unordered_map<std::string, uint32_t> ids_;  // by the text in the file
};

}  // namespace

TokenizerSpec SpecFromGguf(const std::string& path) { return GgufTokenizer(path).Read(); }

}  // namespace april::text
