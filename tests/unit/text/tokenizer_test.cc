#include "text/tokenizer.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <map>
#include <thread>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "parity_strings.h"
#include "text/bpe.h"
#include "text/export.h"

using namespace april;
using namespace april::text;

namespace {

const std::string kData = std::string(APRIL_SOURCE_DIR) + "/tests/unit/text/data/";
const std::vector<std::string> kSmall = {"gpt2", "llama2", "llama3", "mistral", "qwen2", "smollm"};
const std::vector<std::string> kSentencePiece = {"llama2", "mistral"};

std::shared_ptr<const Tokenizer> Small(const std::string& name) { return Tokenizer::Load(kData + name + ".tokenizer.json"); }

std::string ModelPath(const char* variable) {
  const char* path = std::getenv(variable);
  if (path == nullptr) FAIL(variable << " is not set; tests/run.sh sets it, or: export " << variable << "=…");
  return path;
}

const Json& Reference() {
  static const Json reference = Json::parse(ReadFile(SystemFiles(), std::string(APRIL_SOURCE_DIR) + "/tests/parity/tokenizer_reference.json"));
  return reference;
}

/// As in tests/parity/tokenizer_reference.py.
uint64_t Fnv(const std::vector<std::vector<uint32_t>>& encodings) {
  uint64_t value = 0xCBF29CE484222325u;
  const auto number = [&value](uint32_t word) {
    for (int shift = 0; shift < 32; shift += 8) value = (value ^ ((word >> shift) & 0xFF)) * 0x100000001B3u;
  };
  for (const auto& ids : encodings) {
    number(static_cast<uint32_t>(ids.size()));
    for (const uint32_t id : ids) number(id);
  }
  return value;
}

uint64_t Fnv(const std::vector<std::string>& texts) {
  uint64_t value = 0xCBF29CE484222325u;
  for (const std::string& text : texts) {
    const auto size = static_cast<uint32_t>(text.size());
    for (int shift = 0; shift < 32; shift += 8) value = (value ^ ((size >> shift) & 0xFF)) * 0x100000001B3u;
    for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  }
  return value;
}

/// Ids of the strings, then ids that no text has. Bytes that only some neighbours make valid are left out.
std::vector<uint32_t> IdsToDecode(const Tokenizer& tokenizer, size_t i) {
  if (i < 1000) return i % 2 == 0 ? tokenizer.EncodePlainPrompt(ParityString(i)) : tokenizer.Encode(ParityString(i), true);
  const auto bits = [i](uint64_t draw) { return Mix64(1'000'000 + (i - 1000) + draw * 0x9E3779B97F4A7C15u); };
  std::vector<uint32_t> ids;
  const uint64_t count = 1 + bits(1) % 12;
  for (uint64_t j = 0; j < count; ++j) {
    const auto id = static_cast<uint32_t>(bits(j + 2) % tokenizer.vocab_size());
    const std::string_view bytes = tokenizer.TokenBytes(id);
    if (bytes.size() != 1 || static_cast<unsigned char>(bytes[0]) < 0x80) ids.push_back(id);
  }
  return ids;
}

void CheckParity(const Tokenizer& tokenizer, const Json& digests, bool parse_special) {
  for (size_t part = 0; part < digests.size(); ++part) {
    std::vector<std::vector<uint32_t>> encodings;
    for (size_t i = 0; i < 100; ++i) encodings.push_back(tokenizer.Encode(ParityString(100 * part + i), parse_special));
    INFO("strings " << 100 * part << " to " << 100 * part + 99 << (parse_special ? ", special tokens parsed" : ", special tokens as text"));
    CHECK(HexU64(Fnv(encodings)) == digests[part].get<std::string>());
  }
}

/// A folder that is gone at the end.
struct Scratch {
  std::string path;
  Scratch() {
    char name[] = "/tmp/april-text-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Scratch() {
    for (const std::string& file : SystemFiles().List(path)) SystemFiles().Remove(JoinPath(path, file));
    ::rmdir(path.c_str());
  }
};

/// BPE as its definition says it, one merge at a time over the whole piece.
std::vector<uint32_t> SlowBpe(const TokenizerSpec& spec, const std::string& piece) {
  std::vector<uint32_t> symbols;
  for (const char c : piece) {
    for (uint32_t id = 0; id < spec.tokens.size(); ++id) {
      if (spec.tokens[id] == std::string(1, c)) {
        symbols.push_back(id);
        break;
      }
    }
  }
  while (true) {
    size_t best_rank = spec.merges.size(), best = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = std::find(spec.merges.begin(), spec.merges.end(), std::pair(symbols[i], symbols[i + 1]));
      const auto rank = static_cast<size_t>(found - spec.merges.begin());
      if (rank < best_rank) {
        best_rank = rank;
        best = i;
      }
    }
    if (best_rank == spec.merges.size()) return symbols;
    symbols[best] = spec.merged[best_rank];
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

std::string KindOfError(const std::string& json, const std::string& part, const std::string& instead) {
  std::string text = json;
  const size_t at = text.find(part);
  REQUIRE(at != std::string::npos);
  text.replace(at, part.size(), instead);
  try {
    SpecFromJson("tokenizer.json", text, "", "");
  } catch (const Error& error) {
    return std::to_string(static_cast<int>(error.kind())) + " " + error.message();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("each family's ids are those of the reference") {
  for (const std::string& name : kSmall) {
    INFO(name);
    const auto tokenizer = Small(name);
    CheckParity(*tokenizer, Reference()[name]["parse_special"], true);
    CheckParity(*tokenizer, Reference()[name]["plain"], false);
  }
}

TEST_CASE("SentencePiece's texts are those of the reference") {
  for (const std::string& name : kSentencePiece) {
    const auto tokenizer = Small(name);
    for (const bool skip_special : {false, true}) {
      const Json& digests = Reference()[name][skip_special ? "decoded_without_special" : "decoded"];
      REQUIRE(digests.size() == 20);
      for (size_t part = 0; part < digests.size(); ++part) {
        INFO(name << ", part " << part << (skip_special ? ", special tokens skipped" : ""));
        std::vector<std::string> texts;
        for (size_t i = 0; i < 100; ++i) {
          const std::vector<uint32_t> ids = IdsToDecode(*tokenizer, 100 * part + i);
          texts.push_back(tokenizer->Decode(ids, skip_special));
          Detokenizer detokenizer(tokenizer, skip_special);
          std::string streamed;
          for (const uint32_t id : ids) streamed += detokenizer.Append(id);
          REQUIRE(streamed + detokenizer.Finish() == texts.back());
        }
        CHECK(HexU64(Fnv(texts)) == digests[part].get<std::string>());
      }
    }
  }
}

TEST_CASE("SentencePiece's bytes become characters when they are complete, and the space in front belongs to the beginning alone") {
  const auto tokenizer = Small("llama2");
  const std::vector<uint32_t> bytes = tokenizer->Encode("\U0001F600", false);
  REQUIRE(bytes.size() == 5);  // the space in front, and four bytes
  CHECK(tokenizer->Decode(bytes, false) == "\U0001F600");
  CHECK(tokenizer->Decode(bytes, false, false) == " \U0001F600");
  Detokenizer detokenizer(tokenizer, false);
  CHECK(detokenizer.Append(bytes[0]).empty());
  for (size_t i = 1; i < 4; ++i) CHECK(detokenizer.Append(bytes[i]).empty());
  CHECK(detokenizer.Append(bytes[4]) == "\U0001F600");
  CHECK(detokenizer.Append(bytes[0]) == " ");
  CHECK(detokenizer.Append(bytes[1]).empty());
  CHECK(detokenizer.Append(bytes[0]) == "\uFFFD ");
  CHECK(detokenizer.Append(bytes[3]) == "\uFFFD");  // goes on with nothing
  CHECK(detokenizer.Append(bytes[1]).empty());
  CHECK(detokenizer.Finish() == "\uFFFD");
  CHECK(tokenizer->TokenBytes(tokenizer->FindToken("e").value()) == "e");
  CHECK(tokenizer->FindToken("e").value() > 258);  // the letter, not the byte
  CHECK(tokenizer->FindToken("\x07").value() == 3 + 7);
  CHECK(tokenizer->Encode("a b", false) == tokenizer->Encode("a\u2581"
                                                             "b",
                                                             false));
}

TEST_CASE("where the space in front is put") {
  const auto prefixed = [](const Tokenizer& tokenizer, const char* text) {
    std::vector<std::string> pieces;
    for (const uint32_t id : tokenizer.Encode(text, true)) pieces.emplace_back(tokenizer.TokenBytes(id));
    return pieces;
  };
  using Pieces = std::vector<std::string>;
  const auto llama = Small("llama2"), mistral = Small("mistral");
  CHECK(prefixed(*llama, "x<s>x</s> x") == Pieces{" x", "<s>", " x", "</s>", "  ", "x"});
  CHECK(prefixed(*mistral, "x<s>x</s> x") == Pieces{" x", "<s>", "x", "</s>", " x"});
  CHECK(prefixed(*mistral, "<s>x") == Pieces{"<s>", "x"});
  CHECK(prefixed(*mistral, " x") == Pieces{" x"});
  TokenizerSpec spec = mistral->spec();
  spec.sentencepiece->prefix = SentencePiece::Prefix::kLacking;
  const auto lacking = Tokenizer::FromSpec(spec);
  CHECK(prefixed(*lacking, "x<s>x</s> x") == Pieces{" x", "<s>", " x", "</s>", " x"});
  spec.sentencepiece->prefix = SentencePiece::Prefix::kNone;
  const auto none = Tokenizer::FromSpec(spec);
  CHECK(prefixed(*none, "x<s> x") == Pieces{"x", "<s>", " x"});
}

TEST_CASE("SmolLM2's ids of 10,000 strings are those of the reference", "[model]") {
  const auto tokenizer = Tokenizer::Load(ModelPath("APRIL_MODEL"));
  CheckParity(*tokenizer, Reference()["smollm2"]["parse_special"], true);
  CheckParity(*tokenizer, Reference()["smollm2"]["plain"], false);
  CHECK(tokenizer->vocab_size() == 49152);
  CHECK(tokenizer->stop_ids() == std::vector<uint32_t>{2});
}

TEST_CASE("the exported directory has the GGUF file's tokenizer", "[model]") {
  const auto gguf = Tokenizer::Load(ModelPath("APRIL_MODEL")), directory = Tokenizer::Load(ModelPath("APRIL_MODEL_HF"));
  CHECK(HexU64(gguf->digest()) == HexU64(directory->digest()));
  CHECK(gguf->stop_ids() == directory->stop_ids());
  CHECK(gguf->bos_id() == directory->bos_id());
}

TEST_CASE("a tokenizer survives being written as files") {
  for (const std::string& name : kSmall) {
    INFO(name);
    TokenizerSpec spec = Small(name)->spec();
    spec.stop_ids = {spec.added[0].id, spec.added[1].id};
    spec.eos_id = spec.added[1].id;
    spec.bos_id = spec.added[0].id;
    const auto tokenizer = Tokenizer::FromSpec(std::move(spec));
    const auto chat_template = ChatTemplate::FromSource("{{ bos_token }}{{ messages[0].content }}\n");
    const Scratch scratch;
    CHECK(WriteTokenizerFiles(*tokenizer, chat_template.get(), scratch.path).size() == 4);
    const auto again = Tokenizer::Load(scratch.path);
    CHECK(again->digest() == tokenizer->digest());
    CHECK(again->stop_ids() == tokenizer->stop_ids());
    CHECK(again->eos_id() == tokenizer->eos_id());
    CHECK(again->bos_id() == tokenizer->bos_id());
    CHECK(again->EncodePlainPrompt("x") == tokenizer->EncodePlainPrompt("x"));
    CHECK(ChatTemplate::Load(scratch.path)->digest() == chat_template->digest());
    CHECK(TokenizerFilesOf(scratch.path, "/nonexistent").size() == 4);
    for (uint64_t i = 0; i < 100; ++i) REQUIRE(again->Encode(ParityString(i), true) == tokenizer->Encode(ParityString(i), true));
  }
}

TEST_CASE("the digest tells tokenizers apart and nothing else") {
  std::map<uint64_t, std::string> seen;
  for (const std::string& name : kSmall) CHECK(seen.emplace(Small(name)->digest(), name).second);
  TokenizerSpec spec = Small("qwen2")->spec();
  const uint64_t digest = Tokenizer::FromSpec(spec)->digest();
  spec.stop_ids = {1};
  spec.bos_id = 3;
  spec.source = "elsewhere";
  CHECK(Tokenizer::FromSpec(spec)->digest() == digest);
  spec.nfc = false;
  CHECK(Tokenizer::FromSpec(spec)->digest() != digest);
  spec.nfc = true;
  std::swap(spec.merges[0], spec.merges[1]);
  std::swap(spec.merged[0], spec.merged[1]);
  CHECK(Tokenizer::FromSpec(spec)->digest() != digest);
}

TEST_CASE("text comes back from its tokens") {
  const auto tokenizer = Small("llama3");
  for (uint64_t i = 0; i < 500; ++i) {
    const std::string text = ParityString(i);
    for (const bool parse_special : {false, true}) {
      const std::vector<uint32_t> ids = tokenizer->Encode(text, parse_special);
      REQUIRE(tokenizer->Decode(ids, false) == text);
      Detokenizer detokenizer(tokenizer, false);
      std::string streamed;
      for (const uint32_t id : ids) {
        const std::string piece = detokenizer.Append(id);
        REQUIRE_FALSE(FindInvalidUtf8(piece));
        streamed += piece;
      }
      REQUIRE(streamed + detokenizer.Finish() == text);
    }
  }
}

TEST_CASE("special tokens are parsed, taken as text, or skipped, as asked") {
  const auto tokenizer = Small("llama3");
  const uint32_t end = tokenizer->FindToken("<|eot_id|>").value();
  CHECK(tokenizer->IsSpecial(end));
  CHECK_FALSE(tokenizer->IsSpecial(1'000'000));
  CHECK(tokenizer->TokenBytes(end) == "<|eot_id|>");
  const std::vector<uint32_t> parsed = tokenizer->Encode("a<|eot_id|>b", true), plain = tokenizer->Encode("a<|eot_id|>b", false);
  CHECK(std::count(parsed.begin(), parsed.end(), end) == 1);
  CHECK(std::count(plain.begin(), plain.end(), end) == 0);
  CHECK(tokenizer->Decode(plain, true) == "a<|eot_id|>b");
  CHECK(tokenizer->Decode(parsed, true) == "ab");
  CHECK(tokenizer->Decode(parsed, false) == "a<|eot_id|>b");
}

TEST_CASE("an id without a token is shown as U+FFFD, and harms nothing around it") {
  const std::shared_ptr<const Tokenizer> whole = Small("llama3");
  TokenizerSpec spec = whole->spec();
  const uint32_t beyond = whole->vocab_size();
  spec.tokens.resize(beyond + 3);  // unused, as where a GGUF file has more rows than tokens
  const auto padded = Tokenizer::FromSpec(std::move(spec));
  std::vector<uint32_t> ids = whole->Encode("12", false);
  for (const uint32_t id : {beyond, beyond + 2, 4'000'000'000u}) ids.insert(ids.begin() + 1, id);
  for (const auto& tokenizer : {whole, padded}) {
    const std::string text = tokenizer->Decode(ids, false);
    CHECK(ReplaceInvalidUtf8(text) == text);
    CHECK(text.ends_with("\uFFFD\uFFFD\uFFFD" + whole->Decode(std::span(ids).subspan(4), false)));
    CHECK(tokenizer->Decode(ids, true) == text);
    Detokenizer detokenizer(tokenizer, false);
    std::string streamed;
    for (const uint32_t id : ids) streamed += detokenizer.Append(id);
    CHECK(streamed + detokenizer.Finish() == text);
  }
}

TEST_CASE("plain prompts get the model's BOS once") {
  const auto tokenizer = Small("llama3");
  const uint32_t begin = tokenizer->FindToken("<|begin_of_text|>").value();
  const std::vector<uint32_t> ids = tokenizer->EncodePlainPrompt("hello");
  CHECK(ids.front() == begin);
  CHECK(tokenizer->EncodePlainPrompt("<|begin_of_text|>hello") == ids);
  CHECK(tokenizer->Encode("hello", true).front() != begin);
  CHECK(Small("qwen2")->EncodePlainPrompt("hello") == Small("qwen2")->Encode("hello", true));
}

TEST_CASE("invalid UTF-8 is refused with its place") {
  const auto tokenizer = Small("gpt2");
  CHECK_THROWS_WITH(tokenizer->Encode("abc\xFF", true), Catch::Contains("byte 3"));
  CHECK_THROWS_WITH(tokenizer->Encode("é\xE2\x82", true), Catch::Contains("byte 2"));
  CHECK_THROWS_WITH(tokenizer->Encode("\xED\xA0\x80", true), Catch::Contains("byte 0"));  // a surrogate
  CHECK(tokenizer->Encode("", true).empty());
}

TEST_CASE("fast BPE is BPE") {
  const TokenizerSpec spec = Small("gpt2")->spec();
  const Bpe bpe(spec);
  for (uint64_t i = 0; i < 300; ++i) {
    std::string piece;
    const uint64_t length = 1 + RandomBits(3, RandomUse::kTest, i, 0) % 120;
    for (uint64_t j = 1; j <= length; ++j) piece += "etaoin  '1"[RandomBits(3, RandomUse::kTest, i, j) % 10];
    std::vector<uint32_t> ids;
    bpe.Append(piece, &ids);
    REQUIRE(ids == SlowBpe(spec, piece));
  }
}

TEST_CASE("many threads encode the same") {
  const auto tokenizer = Small("smollm");
  std::vector<std::vector<std::vector<uint32_t>>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&result, &tokenizer] {
      for (uint64_t i = 0; i < 200; ++i) result.push_back(tokenizer->Encode(ParityString(i), true));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) CHECK(result == results[0]);
}

TEST_CASE("a megabyte without a break is encoded in reasonable time") {
  const auto tokenizer = Small("llama3");
  for (const char* unit : {"a", " ", "\n", "ab", "1", "!", "é"}) {
    std::string text;
    while (text.size() < (1u << 20)) text += unit;
    CHECK(tokenizer->Decode(tokenizer->Encode(text, true), false) == text);
  }
}

TEST_CASE("components that are not supported are refused by name") {
  const std::string json = ReadFile(SystemFiles(), kData + "qwen2.tokenizer.json");
  CHECK_THAT(KindOfError(json, R"("type":"BPE")", R"("type":"Unigram")"), Catch::StartsWith("4") && Catch::Contains("Unigram"));
  CHECK_THAT(KindOfError(json, R"({"type":"NFC"})", R"({"type":"Lowercase"})"), Catch::StartsWith("4") && Catch::Contains("Lowercase"));
  CHECK_THAT(KindOfError(json, R"("behavior":"Isolated")", R"("behavior":"Removed")"), Catch::StartsWith("4") && Catch::Contains("Removed"));
  CHECK_THAT(KindOfError(json, R"({"type":"Split")", R"({"type":"Whitespace")"), Catch::StartsWith("4") && Catch::Contains("Whitespace"));
  CHECK_THAT(KindOfError(json, R"("merges":[["Ġ")", R"("merges":[["missing!")"), Catch::StartsWith("3"));
  CHECK_THAT(KindOfError(json, R"("model":)", R"("modal":)"), Catch::StartsWith("3"));
  CHECK_THAT(KindOfError(json, "}", ""), Catch::StartsWith("3"));
  CHECK_THAT(KindOfError(json, R"("merges":[["Ġ")", R"("merges":["Ġ",[)"), Catch::StartsWith("3"));
  CHECK_THROWS_AS(Tokenizer::Load("/nonexistent"), Error);

  TokenizerSpec spec = Small("qwen2")->spec();
  spec.split[0].pattern = "(";
  CHECK_THROWS_WITH(Tokenizer::FromSpec(spec), Catch::Contains("split"));
  CHECK_THROWS_WITH(SpecFromJson("t", json, "", R"({"eos_token_id": 9999})"), Catch::Contains("9999"));
  CHECK_THROWS_WITH(SpecFromJson("t", json, "", R"({"eos_token_id": -1})"), Catch::Contains("-1"));
}

TEST_CASE("SentencePiece's components that are not supported are refused by name") {
  const std::string json = ReadFile(SystemFiles(), kData + "llama2.tokenizer.json"),
                    newer = ReadFile(SystemFiles(), kData + "mistral.tokenizer.json");
  CHECK_THAT(KindOfError(json, R"({"type":"Prepend")", R"({"type":"Precompiled")"), Catch::StartsWith("4") && Catch::Contains("Precompiled"));
  CHECK_THAT(KindOfError(json, R"("prepend":"▁")", R"("prepend":"_")"), Catch::StartsWith("4") && Catch::Contains("Prepend"));
  CHECK_THAT(KindOfError(json, R"("pattern":{"String":" "})", R"("pattern":{"String":"x"})"), Catch::StartsWith("4") && Catch::Contains("Replace"));
  CHECK_THAT(KindOfError(json, R"({"type":"ByteFallback"},)", ""), Catch::StartsWith("4") && Catch::Contains("Replace, Fuse, Strip"));
  CHECK_THAT(KindOfError(json, R"("start":1)", R"("start":2)"), Catch::StartsWith("4") && Catch::Contains("Strip"));
  CHECK_THAT(KindOfError(json, R"("<0x41>":)", R"("<0x4z>":)"), Catch::StartsWith("3") && Catch::Contains("<0x41>"));
  CHECK_THAT(KindOfError(json, R"("pre_tokenizer":null)", R"("pre_tokenizer":{"type":"ByteLevel"})"),
             Catch::StartsWith("4") && Catch::Contains("ByteLevel"));
  CHECK_THAT(KindOfError(newer, R"("replacement":"▁")", R"("replacement":"_")"), Catch::StartsWith("4") && Catch::Contains("Metaspace"));
  CHECK_THAT(KindOfError(newer, R"("prepend_scheme":"first")", R"("prepend_scheme":"last")"), Catch::StartsWith("4") && Catch::Contains("last"));
  const Scratch scratch;
  ReplaceFile(SystemFiles(), JoinPath(scratch.path, "tokenizer.model"), "x", false);
  CHECK_THROWS_WITH(Tokenizer::Load(scratch.path), Catch::Contains("tokenizer.model alone"));
}

TEST_CASE("a damaged tokenizer.json is an error or a tokenizer, nothing else") {
  const std::string json = ReadFile(SystemFiles(), kData + GENERATE("llama3", "llama2") + ".tokenizer.json");
  for (uint64_t i = 0; i < 400; ++i) {
    std::string text = json;
    for (uint64_t j = 0; j < 3; ++j) {
      const uint64_t place = RandomBits(5, RandomUse::kTest, i, 2 * j) % text.size();
      const uint64_t what = RandomBits(5, RandomUse::kTest, i, 2 * j + 1);
      if (what % 3 == 0) text[place] = "09-\"{}[],x"[what / 3 % 11];
      if (what % 3 == 1) text.erase(place, 1 + what / 3 % 40);
      if (what % 3 == 2) text.insert(place, text.substr(what / 3 % text.size(), 1 + what / 7 % 40));
    }
    try {
      const auto tokenizer = Tokenizer::FromSpec(SpecFromJson("damaged", text, "", ""));
      tokenizer->EncodePlainPrompt(ParityString(i));
    } catch (const Error& error) {
      CHECK((error.kind() == ErrorKind::kData || error.kind() == ErrorKind::kIncompatible));
    }
  }
}
