// Safetensors and GGUF: what was written is read, and nothing that is damaged is.
#include <catch2/catch.hpp>
#include <cstring>

#include "base/bytes.h"
#include "fixtures.h"
#include "weights/gguf.h"
#include "weights/safetensors.h"

namespace april::weights {
namespace {

using test::ErrorOf;
using test::Scratch;

std::string File(const std::string& header, const std::string& data) {
  std::string out;
  AppendLe<uint64_t>(out, header.size());
  return out + header + data;
}

TEST_CASE("safetensors: tensors of random dtypes and shapes come back, aligned, in the same file whatever their order") {
  Scratch scratch;
  std::mt19937_64 rng(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::pair<TensorView, std::string>> tensors;
    const auto count = rng() % 12;
    for (uint64_t i = 0; i < count; ++i) {
      TensorView view;
      view.name = "tensor \"" + std::to_string(i * 7 % 12) + "\" é";
      view.dtype = std::vector{DType::kF32, DType::kF16, DType::kBf16, DType::kI32, DType::kI64, DType::kU8}[rng() % 6];
      for (uint64_t d = rng() % 4; d > 0; --d) view.shape.push_back(static_cast<int64_t>(rng() % 5));
      std::string data(static_cast<size_t>(view.NumElements()) * BlockOf(view.dtype).num_bytes, '\0');
      for (char& c : data) c = static_cast<char>(rng());
      view.num_bytes = data.size();
      tensors.emplace_back(view, data);
    }
    const std::string bytes = test::SafetensorsBytes(tensors);
    test::WriteText(scratch / "a.safetensors", bytes);
    const SafetensorsFile file(scratch / "a.safetensors");
    REQUIRE(file.tensors().size() == tensors.size());
    REQUIRE(file.metadata() == SafetensorsMetadata{{"format", "pt"}});
    for (const TensorView& seen : file.tensors()) {
      const auto it = std::find_if(tensors.begin(), tensors.end(), [&](const auto& entry) { return entry.first.name == seen.name; });
      REQUIRE(it != tensors.end());
      REQUIRE(seen.dtype == it->first.dtype);
      REQUIRE(seen.shape == it->first.shape);
      REQUIRE(std::string(static_cast<const char*>(seen.data), seen.num_bytes) == it->second);
      REQUIRE(reinterpret_cast<uintptr_t>(seen.data) % BlockOf(seen.dtype).num_bytes == 0);
    }
    std::shuffle(tensors.begin(), tensors.end(), rng);
    REQUIRE(test::SafetensorsBytes(tensors) == bytes);
  }
}

TEST_CASE("safetensors: every broken promise of the format is refused") {
  Scratch scratch;
  const std::string four(4, 'x'), eight(8, 'x');
  struct Case {
    std::string bytes, part;
    ErrorKind kind = ErrorKind::kData;
  };
  const auto tensor = [](const std::string& name, const std::string& shape, int begin, int end, const std::string& dtype = "F32") {
    return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":[" + std::to_string(begin) + "," +
           std::to_string(end) + "]}";
  };
  std::string huge = File("{}", "");
  StoreLe<uint64_t>(huge.data(), uint64_t{1} << 60);
  const std::vector<Case> cases = {
      {"", "only 0 bytes"},
      {"1234567", "only 7 bytes"},
      {huge, "claims"},
      {File("{}", "").substr(0, 9), "claims"},
      {File(" {}", ""), "does not start with {"},
      {File("{} x", ""), "JSON"},
      {File("{\"a\":", ""), "JSON"},
      {File("{\"a\xff\":1}", ""), "JSON"},
      {File("{" + tensor("a", "[1]", 0, 4) + "}", "xxx"), "lies at bytes"},
      {File("{" + tensor("a", "[1]", 0, 4) + "}", "xxxxx"), "its tensors take 4 bytes"},
      {File("{}", "x"), "its tensors take 0 bytes"},
      {File("{" + tensor("a", "[2]", 0, 4) + "}", four), "needs 8"},
      {File("{" + tensor("a", "[1]", 4, 8) + "}", eight), "leave a hole"},
      {File("{" + tensor("a", "[1]", 0, 4) + "," + tensor("b", "[1]", 0, 4) + "}", four), "overlap"},
      {File("{" + tensor("a", "[1]", 0, 4) + "," + tensor("a", "[1]", 4, 8) + "}", eight), "appears twice"},
      {File("{" + tensor("a", "[4611686018427387904,4]", 0, 4) + "}", four), "impossible shape"},
      {File("{" + tensor("a", "[9223372036854775807]", 0, 4) + "}", four), "impossible shape"},
      {File("{" + tensor("a", "[18446744073709551615]", 0, 4) + "}", four), "impossible shape"},
      {File("{" + tensor("a", "[-1]", 0, 4) + "}", four), "negative"},
      {File("{" + tensor("a", "[1.5]", 0, 4) + "}", four), "1.5"},
      {File("{" + tensor("a", "[\"1\"]", 0, 4) + "}", four), "unexpected string"},
      {File("{" + tensor("a", "[[1]]", 0, 4) + "}", four), "unexpected array"},
      {File("{" + tensor("a", "[1]", 4, 0) + "}", four), "lies at bytes"},
      {File("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", four), "lacks"},
      {File("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", four), "lacks"},
      {File("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", four), "appears twice"},
      {File("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":1}}", four), "unknown key"},
      {File("{\"a\":{\"dtype\":{},\"shape\":[1],\"data_offsets\":[0,4]}}", four), "nested"},
      {File("{\"a\":7}", ""), "unexpected number"},
      {File("{\"a\":null}", ""), "null"},
      {File("{\"__metadata__\":{\"k\":1}}", ""), "unexpected number"},
      {File("{\"__metadata__\":[]}", ""), "unexpected array"},
      {File("{" + tensor("a", "[1]", 0, 1, "F8_E4M3") + "}", "x"), "F8_E4M3", ErrorKind::kIncompatible},
      {File("{" + tensor("a", "[32]", 0, 34, "Q8_0") + "}", std::string(34, 'x')), "Q8_0", ErrorKind::kIncompatible},
      {File("{\"a\":" + std::string(200000, '['), ""), "unexpected array"},
  };
  const std::string path = scratch / "bad.safetensors";
  for (const Case& c : cases) {
    test::WriteText(path, c.bytes);
    const Error error = ErrorOf([&] { SafetensorsFile file(path); });
    INFO(c.bytes.substr(0, 120) << "\n" << error.message());
    CHECK(error.kind() == c.kind);
    CHECK(error.message().find(c.part) != std::string::npos);
    CHECK(error.message().find(path) != std::string::npos);
  }
}

TEST_CASE("safetensors: the writer refuses what no reader would take") {
  TensorView view{"a", DType::kF32, {2}, nullptr, 8};
  REQUIRE(LayOutSafetensors({view}, {}).data_bytes == 8);
  REQUIRE(ErrorOf([&] { LayOutSafetensors({view, view}, {}); }).kind() == ErrorKind::kUsage);
  view.num_bytes = 7;
  REQUIRE(ErrorOf([&] { LayOutSafetensors({view}, {}); }).kind() == ErrorKind::kUsage);
  view = {"__metadata__", DType::kF32, {}, nullptr, 4};
  REQUIRE(ErrorOf([&] { LayOutSafetensors({view}, {}); }).kind() == ErrorKind::kUsage);
}

test::GgufBuilder SampleGguf() {
  test::GgufBuilder builder;
  builder.Text("general.architecture", "llama");
  builder.Uint32("count", 7);
  builder.Float32("ratio", 0.25f);
  builder.Bool("on", true);
  builder.Texts("tokens", {"a", "", "longer than a short string is"});
  builder.Int32s("types", {1, -3, 2});
  std::string nested;
  AppendLe<uint32_t>(nested, 9);
  AppendLe<uint64_t>(nested, 1);
  AppendLe<uint32_t>(nested, 0);
  AppendLe<uint64_t>(nested, 2);
  builder.Raw("nested", 9, nested + "\x05\x06");
  builder.Tensor("w", {2, 3}, 0, std::string(24, 'w'));
  builder.Tensor("q", {2, 32}, 8, std::string(68, 'q'));
  builder.Tensor("k", {256}, 12, std::string(144, 'k'));  // a type that is not read
  return builder;
}

TEST_CASE("gguf: metadata and tensors come back, versions 2 and 3") {
  Scratch scratch;
  for (const uint32_t version : {2u, 3u}) {
    test::WriteText(scratch / "a.gguf", SampleGguf().Bytes(version));
    REQUIRE(GgufFile::LooksLikeOne(scratch / "a.gguf"));
    const GgufFile file(scratch / "a.gguf");
    REQUIRE(file.version() == version);
    REQUIRE(file.metadata().size() == 7);
    REQUIRE(*file.Text("general.architecture") == "llama");
    REQUIRE(file.Integer("count") == 7);
    REQUIRE(file.Real("ratio") == 0.25);
    REQUIRE(file.Real("count") == 7.0);
    REQUIRE(file.Flag("on") == true);
    REQUIRE(*file.Texts("tokens") == std::vector<std::string>{"a", "", "longer than a short string is"});
    REQUIRE(*file.Integers("types") == std::vector<int64_t>{1, -3, 2});
    const auto& nested = std::get<GgufValue::Values>(file.Find("nested")->held);
    REQUIRE(std::get<GgufValue::Integers>(nested.at(0).held) == std::vector<int64_t>{5, 6});
    REQUIRE(file.Text("absent") == nullptr);
    REQUIRE(file.Integer("absent") == std::nullopt);
    const Error error = ErrorOf([&] { file.Text("count"); });
    REQUIRE(error.kind() == ErrorKind::kData);
    REQUIRE(error.message().find("count is a whole number, expected a string") != std::string::npos);
    REQUIRE(file.tensors().size() == 3);
    const GgufTensor* q = file.FindTensor("q");
    REQUIRE(q->shape == std::vector<int64_t>{2, 32});
    REQUIRE(q->dtype == DType::kQ8_0);
    REQUIRE(std::string(static_cast<const char*>(q->data), q->num_bytes) == std::string(68, 'q'));
    REQUIRE(file.FindTensor("k")->dtype == std::nullopt);
  }
  REQUIRE_FALSE(GgufFile::LooksLikeOne(scratch / "missing"));
  REQUIRE_FALSE(GgufFile::LooksLikeOne(scratch.path()));
}

TEST_CASE("gguf: damaged files are refused with the place") {
  Scratch scratch;
  const std::string path = scratch / "bad.gguf";
  const auto refused = [&](const test::GgufBuilder& builder, const std::string& part) {
    test::WriteText(path, builder.Bytes());
    const Error error = ErrorOf([&] { GgufFile file(path); });
    INFO(error.message());
    CHECK(error.kind() == ErrorKind::kData);
    CHECK(error.message().find(part) != std::string::npos);
    CHECK(error.message().find(path) != std::string::npos);
  };
  const auto with = [](const std::string& key, uint32_t type, const std::string& bytes) {
    test::GgufBuilder builder;
    builder.Raw(key, type, bytes);
    return builder;
  };
  const auto u64 = [](uint64_t value) {
    std::string bytes;
    AppendLe(bytes, value);
    return bytes;
  };
  refused(with("a", 99, ""), "unknown value type 99");
  refused(with("a", 8, u64(UINT64_MAX)), "bytes");
  refused(with("a", 9, std::string("\x04\0\0\0", 4) + u64(uint64_t{1} << 62)), "cannot fit");
  refused(with("a", 9, std::string("\x63\0\0\0", 4) + u64(1)), "unknown array type 99");
  refused(with("a", 7, "\x02"), "truth value of 2");
  std::string deep;
  for (int i = 0; i < 50; ++i) deep += std::string("\x09\0\0\0", 4) + u64(1);
  refused(with("a", 9, deep), "nested");
  test::GgufBuilder builder = SampleGguf();
  builder.Uint32("count", 8);
  refused(builder, "metadata key count appears twice");
  builder = SampleGguf();
  builder.Tensor("w", {1}, 0, "1234");
  refused(builder, "tensor w appears twice");
  builder = SampleGguf();
  builder.Tensor("x", {33}, 8, std::string(68, 'q'));
  refused(builder, "no multiple of 32");
  builder = SampleGguf();
  builder.Tensor("x", {INT64_MAX, INT64_MAX}, 0, "");
  refused(builder, "impossible shape");
  builder = SampleGguf();
  builder.Tensor("x", {1, 1, 1, 1, 1}, 0, "1234");
  refused(builder, "5 dimensions");
  builder = SampleGguf();
  builder.Tensor("x", {64}, 0, "too short");
  refused(builder, "needs 256 bytes");
  builder = SampleGguf();
  builder.Tensor("x", {64}, 0, "too short");
  builder.Tensor("y", {64}, 0, std::string(256, 'y'));
  refused(builder, "tensor y overlaps tensor x");
  builder = SampleGguf();
  builder.Uint32("general.alignment", 0);
  refused(builder, "general.alignment");
  builder = SampleGguf();
  builder.Uint32("general.alignment", 64);  // offsets were made for 32
  refused(builder, "not a multiple of 64");
}

/// Reads the file in full; any Error will do, anything else (a crash, a sanitizer's report, another exception) will not.
template <typename File>
void ReadOrRefuse(const std::string& path) {
  try {
    const File file(path);
    uint64_t sum = 0;
    for (const auto& tensor : file.tensors()) {
      const auto* bytes = static_cast<const unsigned char*>(tensor.data);
      for (uint64_t i = 0; i < tensor.num_bytes; ++i) sum += bytes[i];
    }
    REQUIRE(sum != 1);
  } catch (const Error& error) {
    REQUIRE((error.kind() == ErrorKind::kData || error.kind() == ErrorKind::kIncompatible));
  }
}

TEST_CASE("random damage never crashes a reader") {
  Scratch scratch;
  std::mt19937_64 rng(99);
  const std::string path = scratch / "f";
  const std::string gguf = SampleGguf().Bytes();
  const std::string safetensors =
      test::SafetensorsBytes(test::TinyTensors({.vocab = 4, .hidden = 4, .layers = 1, .heads = 2, .kv_heads = 1, .intermediate = 4}, 1));
  for (const bool is_gguf : {true, false}) {
    const std::string& good = is_gguf ? gguf : safetensors;
    for (int round = 0; round < 2000; ++round) {
      std::string bad = good;
      if (round % 3 == 0) {
        bad.resize(rng() % bad.size());
      } else {
        const size_t range = round % 3 == 1 ? std::min<size_t>(bad.size(), 700) : bad.size();
        for (uint64_t flips = 1 + rng() % 4; flips > 0; --flips) bad[rng() % range] = static_cast<char>(rng() % 4 == 0 ? 0xff : rng());
      }
      test::WriteText(path, bad);
      is_gguf ? ReadOrRefuse<GgufFile>(path) : ReadOrRefuse<SafetensorsFile>(path);
    }
  }
}

}  // namespace
}  // namespace april::weights
