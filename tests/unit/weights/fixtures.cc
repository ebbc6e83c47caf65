#include "fixtures.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/bytes.h"
#include "base/json.h"
#include "weights/convert.h"
#include "weights/safetensors.h"

namespace april::weights::test {

Scratch::Scratch() {
  std::string pattern = (std::filesystem::temp_directory_path() / "april-weights-XXXXXX").string();
  REQUIRE(::mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}
Scratch::~Scratch() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void WriteText(const std::string& path, const std::string& contents) {
  std::filesystem::remove(path);  // a new file: some file systems write a truncated one to disk when it is closed
  std::ofstream file(path, std::ios::binary);
  file << contents;
  file.close();
  REQUIRE(file.good());
}

Error ErrorOf(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  FAIL("no error was thrown");
  return Error::Runtime("");
}

namespace {

void AppendText(std::string& out, const std::string& text) {
  AppendLe<uint64_t>(out, text.size());
  out += text;
}

}  // namespace

void GgufBuilder::Raw(const std::string& key, uint32_t type, const std::string& bytes) {
  AppendText(metadata_, key);
  AppendLe<uint32_t>(metadata_, type);
  metadata_ += bytes;
  ++num_entries_;
}
void GgufBuilder::Text(const std::string& key, const std::string& value) {
  std::string bytes;
  AppendText(bytes, value);
  Raw(key, 8, bytes);
}
void GgufBuilder::Uint32(const std::string& key, uint32_t value) {
  std::string bytes;
  AppendLe(bytes, value);
  Raw(key, 4, bytes);
}
void GgufBuilder::Float32(const std::string& key, float value) {
  std::string bytes;
  AppendLe(bytes, value);
  Raw(key, 6, bytes);
}
void GgufBuilder::Bool(const std::string& key, bool value) { Raw(key, 7, std::string(1, static_cast<char>(value))); }
void GgufBuilder::Texts(const std::string& key, const std::vector<std::string>& values) {
  std::string bytes;
  AppendLe<uint32_t>(bytes, 8);
  AppendLe<uint64_t>(bytes, values.size());
  for (const std::string& value : values) AppendText(bytes, value);
  Raw(key, 9, bytes);
}
void GgufBuilder::Int32s(const std::string& key, const std::vector<int32_t>& values) {
  std::string bytes;
  AppendLe<uint32_t>(bytes, 5);
  AppendLe<uint64_t>(bytes, values.size());
  for (const int32_t value : values) AppendLe(bytes, value);
  Raw(key, 9, bytes);
}
void GgufBuilder::Tensor(const std::string& name, std::vector<int64_t> shape, uint32_t ggml_type, const std::string& data) {
  tensors_.push_back({name, std::move(shape), ggml_type, data});
}

std::string GgufBuilder::Bytes(uint32_t version) const {
  std::string out = "GGUF";
  AppendLe(out, version);
  AppendLe<uint64_t>(out, tensors_.size());
  AppendLe<uint64_t>(out, num_entries_);
  out += metadata_;
  std::string data;
  for (const Item& item : tensors_) {
    AppendText(out, item.name);
    AppendLe<uint32_t>(out, static_cast<uint32_t>(item.shape.size()));
    for (size_t i = item.shape.size(); i-- > 0;) AppendLe<int64_t>(out, item.shape[i]);
    AppendLe<uint32_t>(out, item.type);
    AppendLe<uint64_t>(out, data.size());
    data += item.data;
    data.resize((data.size() + kAlignment - 1) / kAlignment * kAlignment);
  }
  out.resize((out.size() + kAlignment - 1) / kAlignment * kAlignment);
  return out + data;
}

uint32_t GgmlType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ8_0:
      return 8;
    case DType::kBf16:
      return 30;
    default:
      return 26;
  }
}

std::string RandomStored(DType dtype, int64_t num_elements, std::mt19937_64& rng) {
  const auto half = [&] {  // of a usual weight's size, sometimes subnormal
    auto bits = static_cast<uint16_t>(rng());
    return static_cast<uint16_t>((bits & 0x83ffu) | ((rng() % 16) << 10));
  };
  std::string out;
  switch (dtype) {
    case DType::kF32:
      for (int64_t i = 0; i < num_elements; ++i) AppendLe<float>(out, static_cast<float>(static_cast<double>(rng() % 2000001) / 1e6 - 1));
      break;
    case DType::kF16:
      for (int64_t i = 0; i < num_elements; ++i) AppendLe<uint16_t>(out, half());
      break;
    case DType::kBf16:
      for (int64_t i = 0; i < num_elements; ++i)
        AppendLe<uint16_t>(out, F32ToBf16(static_cast<float>(static_cast<double>(rng() % 2000001) / 1e6 - 1)));
      break;
    default: {
      const BlockSize block = BlockOf(dtype);
      const size_t scales = dtype == DType::kQ4_1 ? 2 : 1;
      for (int64_t i = 0; i < num_elements; i += block.num_elements) {
        for (size_t j = 0; j < scales; ++j) AppendLe<uint16_t>(out, half());
        for (size_t j = 2 * scales; j < block.num_bytes; ++j) out += static_cast<char>(rng());
      }
    }
  }
  return out;
}

namespace {

double HalfMeaning(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

}  // namespace

std::vector<double> Meaning(DType dtype, const std::string& stored) {
  std::vector<double> out;
  const auto byte = [&](size_t i) { return static_cast<int>(static_cast<uint8_t>(stored[i])); };
  const auto half = [&](size_t i) { return HalfMeaning(LoadLe<uint16_t>(stored.data() + i)); };
  const BlockSize block = BlockOf(dtype);
  for (size_t at = 0; at < stored.size(); at += block.num_bytes) {
    if (dtype == DType::kF32) out.push_back(LoadLe<float>(stored.data() + at));
    if (dtype == DType::kF16) out.push_back(half(at));
    if (dtype == DType::kBf16) {
      const uint32_t widened = static_cast<uint32_t>(LoadLe<uint16_t>(stored.data() + at)) << 16;
      out.push_back(LoadLe<float>(&widened));
    }
    for (int64_t i = 0; block.num_elements == 32 && i < 32; ++i) {
      const auto index = static_cast<size_t>(i);
      const auto nibble = [&](size_t start) { return i < 16 ? byte(at + start + index) % 16 : byte(at + start + index - 16) / 16; };
      if (dtype == DType::kQ8_0) out.push_back(half(at) * (byte(at + 2 + index) < 128 ? byte(at + 2 + index) : byte(at + 2 + index) - 256));
      if (dtype == DType::kQ4_0) out.push_back(half(at) * (nibble(2) - 8));
      // The product is rounded to f32 before the sum, as ggml does.
      if (dtype == DType::kQ4_1) out.push_back(static_cast<double>(static_cast<float>(half(at) * nibble(4))) + half(at + 2));
    }
  }
  return out;
}

GgufBuilder TinyGguf(const std::string& architecture, DType matrices, const TinyShape& s, uint64_t seed) {
  std::mt19937_64 rng(seed);
  GgufBuilder gguf;
  const auto u32 = [](int64_t value) { return static_cast<uint32_t>(value); };
  gguf.Text("general.architecture", architecture);
  gguf.Uint32(architecture + ".block_count", u32(s.layers));
  gguf.Uint32(architecture + ".context_length", 128);
  gguf.Uint32(architecture + ".embedding_length", u32(s.hidden));
  gguf.Uint32(architecture + ".feed_forward_length", u32(s.intermediate));
  gguf.Uint32(architecture + ".attention.head_count", u32(s.heads));
  gguf.Uint32(architecture + ".attention.head_count_kv", u32(s.kv_heads));
  gguf.Float32(architecture + ".attention.layer_norm_rms_epsilon", 1e-5f);
  gguf.Float32(architecture + ".rope.freq_base", 10000.f);
  gguf.Uint32("tokenizer.ggml.eos_token_id", 2);
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    const DType dtype = shape.size() == 1 ? DType::kF32 : matrices;
    int64_t elements = 1;
    for (const int64_t dimension : shape) elements *= dimension;
    gguf.Tensor(name, std::move(shape), GgmlType(dtype), RandomStored(dtype, elements, rng));
  };
  const int64_t head = s.hidden / s.heads, kv = head * s.kv_heads;
  add("token_embd.weight", {s.vocab, s.hidden});
  for (int64_t layer = 0; layer < s.layers; ++layer) {
    const std::string blk = "blk." + std::to_string(layer) + ".";
    add(blk + "attn_norm.weight", {s.hidden});
    add(blk + "attn_q.weight", {s.hidden, s.hidden});
    add(blk + "attn_k.weight", {kv, s.hidden});
    add(blk + "attn_v.weight", {kv, s.hidden});
    if (architecture == "qwen2") {
      add(blk + "attn_q.bias", {s.hidden});
      add(blk + "attn_k.bias", {kv});
      add(blk + "attn_v.bias", {kv});
    }
    if (architecture == "qwen3") {
      add(blk + "attn_q_norm.weight", {head});
      add(blk + "attn_k_norm.weight", {head});
    }
    add(blk + "attn_output.weight", {s.hidden, s.hidden});
    add(blk + "ffn_norm.weight", {s.hidden});
    add(blk + "ffn_gate.weight", {s.intermediate, s.hidden});
    add(blk + "ffn_up.weight", {s.intermediate, s.hidden});
    add(blk + "ffn_down.weight", {s.hidden, s.intermediate});
  }
  add("output_norm.weight", {s.hidden});
  add("output.weight", {s.vocab, s.hidden});
  return gguf;
}

std::string TinyConfig(const TinyShape& s) {
  Json config;
  config["architectures"] = {"LlamaForCausalLM"};
  config["model_type"] = "llama";
  config["vocab_size"] = s.vocab;
  config["hidden_size"] = s.hidden;
  config["intermediate_size"] = s.intermediate;
  config["num_hidden_layers"] = s.layers;
  config["num_attention_heads"] = s.heads;
  config["num_key_value_heads"] = s.kv_heads;
  config["max_position_embeddings"] = 128;
  config["rms_norm_eps"] = 1e-5;
  config["tie_word_embeddings"] = true;
  config["eos_token_id"] = 2;
  return config.dump(2);
}

std::vector<std::pair<TensorView, std::string>> TinyTensors(const TinyShape& s, uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::vector<std::pair<TensorView, std::string>> out;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    TensorView view;
    view.name = name;
    view.dtype = DType::kBf16;
    view.shape = std::move(shape);
    std::string data = RandomStored(DType::kBf16, view.NumElements(), rng);
    view.num_bytes = data.size();
    out.emplace_back(view, std::move(data));
  };
  const int64_t kv = s.hidden / s.heads * s.kv_heads;
  add("model.embed_tokens.weight", {s.vocab, s.hidden});
  for (int64_t layer = 0; layer < s.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", {s.hidden});
    add(prefix + "self_attn.q_proj.weight", {s.hidden, s.hidden});
    add(prefix + "self_attn.k_proj.weight", {kv, s.hidden});
    add(prefix + "self_attn.v_proj.weight", {kv, s.hidden});
    add(prefix + "self_attn.o_proj.weight", {s.hidden, s.hidden});
    add(prefix + "post_attention_layernorm.weight", {s.hidden});
    add(prefix + "mlp.gate_proj.weight", {s.intermediate, s.hidden});
    add(prefix + "mlp.up_proj.weight", {s.intermediate, s.hidden});
    add(prefix + "mlp.down_proj.weight", {s.hidden, s.intermediate});
  }
  add("model.norm.weight", {s.hidden});
  for (auto& [view, data] : out) view.data = data.data();
  return out;
}

std::string SafetensorsBytes(const std::vector<std::pair<TensorView, std::string>>& tensors) {
  std::vector<TensorView> views;
  for (const auto& [view, data] : tensors) views.push_back(view);
  const SafetensorsLayout layout = LayOutSafetensors(views, {{"format", "pt"}});
  std::string out = layout.head;
  for (const size_t index : layout.order) out += tensors[index].second;
  return out;
}

void WriteTinyDirectory(const std::string& path, const TinyShape& shape, uint64_t seed) {
  std::filesystem::create_directories(path);
  WriteText(path + "/config.json", TinyConfig(shape));
  WriteText(path + "/model.safetensors", SafetensorsBytes(TinyTensors(shape, seed)));
}

}  // namespace april::weights::test
