#include <unistd.h>

#include <catch2/catch.hpp>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "text/chat_template.h"
#include "text/context.h"
#include "text/export.h"
#include "text/tokenizer.h"

using namespace april;
using namespace april::text;

namespace {

/// A GGUF file of metadata alone.
class GgufWriter {
 public:
  void Text(const std::string& key, const std::string& value) {
    Key(key, 8);
    Append(value);
  }
  void Number(const std::string& key, uint32_t value) {
    Key(key, 4);
    AppendLe<uint32_t>(body_, value);
  }
  void Texts(const std::string& key, const std::vector<std::string>& values) {
    Key(key, 9);
    AppendLe<uint32_t>(body_, 8);
    AppendLe<uint64_t>(body_, values.size());
    for (const std::string& value : values) Append(value);
  }
  void Flag(const std::string& key, bool value) {
    Key(key, 7);
    body_ += value ? '\1' : '\0';
  }
  void Reals(const std::string& key, const std::vector<float>& values) {
    Key(key, 9);
    AppendLe<uint32_t>(body_, 6);
    AppendLe<uint64_t>(body_, values.size());
    for (const float value : values) AppendLe<float>(body_, value);
  }
  void Numbers(const std::string& key, const std::vector<int32_t>& values) {
    Key(key, 9);
    AppendLe<uint32_t>(body_, 5);
    AppendLe<uint64_t>(body_, values.size());
    for (const int32_t value : values) AppendLe<int32_t>(body_, value);
  }
  void Write(const std::string& path) const {
    std::string file = "GGUF";
    AppendLe<uint32_t>(file, 3);
    AppendLe<uint64_t>(file, 0);
    AppendLe<uint64_t>(file, count_);
    file += body_;
    file.resize((file.size() + 31) / 32 * 32);
    ReplaceFile(SystemFiles(), path, file, false);
  }

 private:
  void Append(const std::string& text) {
    AppendLe<uint64_t>(body_, text.size());
    body_ += text;
  }
  void Key(const std::string& key, uint32_t type) {
    ++count_;
    Append(key);
    AppendLe<uint32_t>(body_, type);
  }
  std::string body_;
  uint64_t count_ = 0;
};

/// The tokenizer as converters write it; with two unused tokens behind, as where the model has more rows than the tokenizer tokens.
GgufWriter AsGguf(const TokenizerSpec& spec, const std::string& pre) {
  std::vector<std::string> tokens(spec.tokens.size() + 2, "[PAD]");
  std::vector<int32_t> types(tokens.size(), 5);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (!spec.tokens[id]) continue;
    tokens[id] = ToByteLevel(*spec.tokens[id]);
    types[id] = 1;
  }
  for (const AddedToken& token : spec.added) {
    tokens[token.id] = token.content;
    types[token.id] = token.special ? 3 : 4;
  }
  std::vector<std::string> merges;
  for (const auto& [left, right] : spec.merges) merges.push_back(tokens[left] + " " + tokens[right]);
  GgufWriter writer;
  writer.Text("tokenizer.ggml.model", "gpt2");
  writer.Text("tokenizer.ggml.pre", pre);
  writer.Texts("tokenizer.ggml.tokens", tokens);
  writer.Numbers("tokenizer.ggml.token_type", types);
  writer.Texts("tokenizer.ggml.merges", merges);
  writer.Number("tokenizer.ggml.bos_token_id", spec.added[0].id);
  writer.Number("tokenizer.ggml.eos_token_id", spec.added[1].id);
  writer.Number("tokenizer.ggml.eot_token_id", spec.added[2].id);
  writer.Text("tokenizer.chat_template", "{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}");
  return writer;
}

/// A SentencePiece tokenizer as converters write it: no merges, but scores, which fall with the id.
GgufWriter AsGgufOfScores(const TokenizerSpec& spec) {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<float> scores;
  for (const auto& token : spec.tokens) {
    tokens.push_back(ToSentencePiece(token.value()));
    types.push_back(1);
    scores.push_back(-static_cast<float>(scores.size()));
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    const uint32_t id = spec.sentencepiece->byte_tokens[byte];
    tokens[id] = TokenOfByte(static_cast<unsigned char>(byte));
    types[id] = 6;
    scores[id] = 0;
  }
  for (const AddedToken& token : spec.added) {
    tokens[token.id] = token.content;
    types[token.id] = token.id == 0 ? 2 : token.special ? 3 : 4;
    scores[token.id] = 0;
  }
  GgufWriter writer;
  writer.Text("tokenizer.ggml.model", "llama");
  writer.Text("tokenizer.ggml.pre", "default");
  writer.Texts("tokenizer.ggml.tokens", tokens);
  writer.Reals("tokenizer.ggml.scores", scores);
  writer.Numbers("tokenizer.ggml.token_type", types);
  writer.Number("tokenizer.ggml.bos_token_id", 1);
  writer.Number("tokenizer.ggml.eos_token_id", 2);
  return writer;
}

std::shared_ptr<const Tokenizer> SmallModel(const std::string& name) {
  return Tokenizer::Load(std::string(APRIL_SOURCE_DIR) + "/tests/unit/text/data/" + name + ".tokenizer.json");
}

struct ScratchFile {
  std::string path;
  ScratchFile() {
    char name[] = "/tmp/april-gguf-XXXXXX";
    ::close(::mkstemp(name));
    path = name;
  }
  ~ScratchFile() { SystemFiles().Remove(path); }
};

}  // namespace

TEST_CASE("a tokenizer from GGUF is the one from tokenizer.json") {
  for (const auto& [name, pre] : std::vector<std::pair<std::string, std::string>>{{"llama3", "llama-bpe"}, {"qwen2", "qwen2"}}) {
    INFO(name);
    TokenizerSpec spec = SmallModel(name)->spec();
    for (AddedToken& token : spec.added) token.normalized = false;  // which GGUF cannot say
    const auto wanted = Tokenizer::FromSpec(spec);
    const ScratchFile file;
    AsGguf(spec, pre).Write(file.path);
    const auto tokenizer = Tokenizer::Load(file.path);
    CHECK(HexU64(tokenizer->digest()) == HexU64(wanted->digest()));
    CHECK(tokenizer->vocab_size() == wanted->vocab_size());
    CHECK(tokenizer->stop_ids() == std::vector<uint32_t>{spec.added[1].id, spec.added[2].id});
    CHECK(tokenizer->EncodePlainPrompt("a 12 b") == wanted->EncodePlainPrompt("a 12 b"));
    CHECK(ChatTemplate::Load(file.path)->Render({{"user", "x"}}, true) == spec.added[0].content + "x" + spec.added[1].content);
  }
}

TEST_CASE("a SentencePiece tokenizer from GGUF is the one from tokenizer.json") {
  TokenizerSpec spec = SmallModel("llama2")->spec();
  for (AddedToken& token : spec.added) {
    token.normalized = token.lstrip = token.rstrip = false;  // which GGUF cannot say
    spec.tokens[token.id] = token.content;
  }
  const auto wanted = Tokenizer::FromSpec(spec);
  const ScratchFile file;
  GgufWriter writer = AsGgufOfScores(spec);
  writer.Write(file.path);
  const auto tokenizer = Tokenizer::Load(file.path);
  CHECK(HexU64(tokenizer->digest()) == HexU64(wanted->digest()));
  CHECK(tokenizer->stop_ids() == std::vector<uint32_t>{2});
  CHECK(tokenizer->EncodePlainPrompt("a 12 b") == wanted->EncodePlainPrompt("a 12 b"));
  CHECK(tokenizer->EncodePlainPrompt("a")[0] == 1);
  CHECK(tokenizer->Decode(tokenizer->Encode("a\nb", true), true) == "a\nb");
  writer.Flag("tokenizer.ggml.add_space_prefix", false);
  writer.Flag("tokenizer.ggml.add_bos_token", false);
  writer.Write(file.path);
  CHECK(Tokenizer::Load(file.path)->EncodePlainPrompt("a").size() == 1);
}

TEST_CASE("the length of a model's context is known from both kinds of model") {
  const ScratchFile file;
  GgufWriter writer;
  writer.Text("general.architecture", "qwen2");
  writer.Number("llama.context_length", 5);
  writer.Write(file.path);
  CHECK(ContextTokens(file.path) == std::nullopt);
  writer.Number("qwen2.context_length", 4096);
  writer.Write(file.path);
  CHECK(ContextTokens(file.path) == 4096);
  CHECK(ContextTokens(std::string(APRIL_SOURCE_DIR) + "/tests/data/tiny-model") == 256);
  CHECK(ContextTokens(std::string(APRIL_SOURCE_DIR) + "/tests/unit/text/data") == std::nullopt);
  char name[] = "/tmp/april-context-XXXXXX";
  const std::string directory = ::mkdtemp(name), config = directory + "/config.json";
  const auto context = [&](const char* json) {
    ReplaceFile(SystemFiles(), config, json, false);
    return ContextTokens(directory);
  };
  const char yarn[] = R"({"max_position_embeddings": 100, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}})";
  CHECK(context(yarn) == 256);
  CHECK(context(R"({"max_position_embeddings": 100, "rope_scaling": null, "rope_parameters": {"rope_type": "llama3", "factor": 4}})") == 100);
  CHECK(context(R"({"max_position_embeddings": 100, "rope_scaling": {"rope_type": "yarn", "factor": null}})") == 100);
  SystemFiles().Remove(config);
  ::rmdir(directory.c_str());
}

TEST_CASE("GGUF metadata that cannot be used is refused") {
  const TokenizerSpec spec = SmallModel("llama3")->spec();
  const ScratchFile file;
  AsGguf(spec, "falcon").Write(file.path);
  CHECK_THROWS_WITH(Tokenizer::Load(file.path), Catch::Contains("'falcon' is not supported"));

  GgufWriter sentencepiece;
  sentencepiece.Text("tokenizer.ggml.model", "t5");
  sentencepiece.Write(file.path);
  CHECK_THROWS_WITH(Tokenizer::Load(file.path), Catch::Contains("'t5' is not supported"));
  CHECK_THROWS_WITH(ChatTemplate::Load(file.path), Catch::Contains("no chat template"));
  CHECK(ChatTemplate::TryLoad(file.path) == nullptr);

  GgufWriter no_scores;
  no_scores.Text("tokenizer.ggml.model", "llama");
  no_scores.Texts("tokenizer.ggml.tokens", {"a"});
  no_scores.Numbers("tokenizer.ggml.token_type", {1});
  no_scores.Write(file.path);
  CHECK_THROWS_WITH(Tokenizer::Load(file.path), Catch::Contains("no token <0x00>"));

  GgufWriter unusable;
  unusable.Text("tokenizer.chat_template", "{% dance %}");
  unusable.Write(file.path);
  CHECK_THROWS_AS(ChatTemplate::TryLoad(file.path), Error);

  GgufWriter none;
  none.Text("general.name", "x");
  none.Write(file.path);
  CHECK_THROWS_WITH(Tokenizer::Load(file.path), Catch::Contains("no tokenizer"));

  TokenizerSpec broken = spec;
  broken.tokens[spec.merged[5]] = "zzz";
  AsGguf(broken, "llama-bpe").Write(file.path);
  CHECK_THROWS_AS(Tokenizer::Load(file.path), Error);
}
