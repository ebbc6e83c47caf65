#include <catch2/catch.hpp>
#include <cmath>

#include "base/error.h"
#include "model/policy.h"
#include "model/rope.h"

namespace april::model {
namespace {

Json SmallJson() {
  return Json::parse(R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 576, "num_hidden_layers": 2, "num_attention_heads": 9,
    "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49152, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    "max_position_embeddings": 8192, "rope_theta": 100000, "eos_token_id": [2, 5]})");
}

std::string MessageOf(const Json& json) {
  try {
    Config::FromJson(json);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kIncompatible);
    return error.message();
  }
  return "accepted";
}

TEST_CASE("config.json becomes a configuration") {
  const Config config = Config::FromJson(SmallJson());
  CHECK(config.head_dim == 64);
  CHECK(config.group() == 3);
  CHECK(config.rope_theta == 100000);
  CHECK(config.tied_embeddings);
  CHECK(config.eos_tokens == std::vector<uint32_t>{2, 5});
  CHECK(Parameters(config).size() == 1 + 2 * 9 + 1);
}

TEST_CASE("rope_parameters of newer files are read like the older keys") {
  Json json = SmallJson();
  json.erase("rope_theta");
  json["rope_parameters"] = Json::parse(R"({"rope_theta": 5000.0, "rope_type": "default"})");
  CHECK(Config::FromJson(json).rope_theta == 5000);
}

TEST_CASE("YaRN extends the context, whether or not max_position_embeddings says so, and only its own") {
  Json json = SmallJson();
  json["rope_scaling"] = Json::parse(R"({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192})");
  CHECK(Config::FromJson(json).max_positions == 32768);
  json["max_position_embeddings"] = 131072;
  CHECK(Config::FromJson(json).max_positions == 131072);
  json["rope_scaling"]["factor"] = nullptr;  // then it follows from the lengths
  CHECK(Config::FromJson(json).rope_scaling.factor == 16);
  json["rope_scaling"] = Json::parse(R"({"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8192})");
  CHECK(Config::FromJson(json).max_positions == 131072);
}

TEST_CASE("Qwen2 has biases, Qwen3 has head norms, untied models have their own last matrix") {
  Json json = SmallJson();
  json["tie_word_embeddings"] = false;
  json["architectures"] = {"Qwen2ForCausalLM"};
  CHECK(Parameters(Config::FromJson(json)).size() == 1 + 2 * 12 + 2);
  json["architectures"] = {"Qwen3ForCausalLM"};
  CHECK(Parameters(Config::FromJson(json)).size() == 1 + 2 * 11 + 2);
}

TEST_CASE("what is not supported is refused by its key") {
  const auto message = [](const char* key, const Json& value) {
    Json json = SmallJson();
    json[key] = value;
    return MessageOf(json);
  };
  CHECK(MessageOf(SmallJson()) == "accepted");
  CHECK_THAT(message("architectures", {"MambaForCausalLM"}), Catch::Contains("architectures is \"MambaForCausalLM\""));
  CHECK_THAT(message("hidden_act", "gelu"), Catch::Contains("hidden_act"));
  CHECK_THAT(message("hidden_size", -4), Catch::Contains("hidden_size is -4"));
  CHECK_THAT(message("hidden_size", nullptr), Catch::Contains("hidden_size is missing"));
  CHECK_THAT(message("num_key_value_heads", 2), Catch::Contains("num_key_value_heads is 2"));
  CHECK_THAT(message("attention_bias", true), Catch::Contains("attention_bias"));
  CHECK_THAT(message("rope_scaling", {{"rope_type", "longrope"}}), Catch::Contains("longrope"));
  CHECK_THAT(message("rope_scaling", {{"rope_type", "yarn"}, {"factor", 4}, {"mscale", 1}}), Catch::Contains("mscale"));
  CHECK_THAT(message("rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}), Catch::Contains("partial_rotary_factor is 0.5"));
  CHECK_THAT(message("use_sliding_window", true), Catch::Contains("use_sliding_window"));
  CHECK_THAT(message("layer_types", {"full_attention", "sliding_attention"}), Catch::Contains("layer_types is \"sliding_attention\""));
  CHECK(message("layer_types", {"full_attention", "full_attention"}) == "accepted");
  CHECK_THAT(message("eos_token_id", 50000), Catch::Contains("eos_token_id"));
}

// Source: transformers 5.17 ROPE_INIT_FUNCTIONS, tests/parity/rope_reference.py.
TEST_CASE("scaled rotation frequencies are transformers'") {
  Config config;
  config.head_dim = 16;
  config.rope_theta = 10000;
  config.rope_scaling.factor = 8;
  config.rope_scaling.original_positions = 64;
  const auto compare = [&](const std::vector<double>& expected) {
    const std::vector<double> seen = RopeFrequencies(config);
    REQUIRE(seen.size() == expected.size());
    for (size_t i = 0; i < seen.size(); ++i) CHECK(seen[i] == Approx(expected[i]).epsilon(1e-5));
  };
  SECTION("Llama 3") {
    config.rope_scaling.kind = RopeScaling::Kind::kLlama3;
    compare({1, 0.244384587, 0.0130422562, 0.00395284733, 0.00124999997, 0.000395284733, 0.000125000006, 3.95284733e-05});
  }
  SECTION("YaRN") {
    config.rope_scaling.kind = RopeScaling::Kind::kYarn;
    compare({1, 0.223994657, 0.0416666642, 0.00395284733, 0.00124999997, 0.000395284733, 0.000125000006, 3.95284733e-05});
  }
}

}  // namespace
}  // namespace april::model
