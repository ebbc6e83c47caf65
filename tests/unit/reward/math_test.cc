#include <catch2/catch.hpp>

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "reward/expression.h"
#include "reward/latex_text.h"
#include "reward/math_answer.h"
#include "reward/scorer.h"

using namespace april;
using namespace april::reward;

namespace {

const MathAnswers kMath(0);

}  // namespace

TEST_CASE("the last boxed answer is found by counting braces") {
  CHECK(LastBoxed("a \\boxed{1} b \\boxed{\\frac{1}{2}} c") == "\\frac{1}{2}");
  CHECK(LastBoxed("\\boxed{}") == "");
  CHECK(LastBoxed("no answer") == std::nullopt);
  CHECK(LastBoxed("\\boxed{1} and then \\boxed {5}") == std::nullopt);
  CHECK(LastBoxed("\\boxed{5") == std::nullopt);
  CHECK(LastBoxed("\\fbox{5}") == std::nullopt);
}

TEST_CASE("math agrees with the golden vectors") {
  const Json file = Json::parse(ReadFile(SystemFiles(), std::string(APRIL_SOURCE_DIR) + "/tests/parity/reward_vectors.json"));
  ScorerOptions options;
  options.scorer = "math";
  const auto scorer = MakeScorer(options);
  int judged = 0;
  for (const Json& vector : file["vectors"]) {
    if (vector["scorer"] != "math") continue;
    const auto response = vector["response"].get<std::string>(), label = vector["label"].get<std::string>();
    INFO(response << " against " << label);
    const record::Reward reward = scorer->Score({response, &label});
    CHECK(reward.status == "ok");
    CHECK(reward.value == vector["value"].get<double>());
    ++judged;
  }
  CHECK(judged == 25);
}

TEST_CASE("answers are compared as written, as numbers and as expressions") {
  const std::vector<std::pair<std::string, std::string>> same = {
      {"\\dfrac{3}{4}", "\\frac34"},
      {"\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt{2}}"},
      {"\\frac{x+1}{2}", "\\frac{x}{2}+\\frac{1}{2}"},
      {".5", "0.5"},
      {"\\left(3, \\frac{\\pi}{2}\\right)", "(3,\\pi/2)"},
      {"2\\cdot 3\\pi", "6\\pi"},
      {"\\text{east}", "east"},
      {"\\$18.00", "18"},
      {"10{,}000", "10000"},
      {"007", "7"},
      {"2\\theta", "\\theta+\\theta"},
      {"12345678901234567890", "12,345,678,901,234,567,890"},
      {"\\sqrt3", "\\sqrt{3}"},
      {"1/(1-x)", "-1/(x-1)"},
  };
  for (const auto& [answer, label] : same) {
    INFO(answer << " against " << label);
    CHECK(kMath.Same(answer, label));
    CHECK(kMath.Same(label, answer));
  }
  const std::vector<std::pair<std::string, std::string>> different = {
      {"12345678901234567891", "12345678901234567890"},
      {"0.3333333333", "\\frac{1}{3}"},
      {"x", "-x"},
      {"\\sqrt{x^2}", "x"},
      {"(1,2,3)", "(1,2)"},
      {"(1,2]", "(1,2)"},
      {"", "5"},
      {"x+y+z", "z+y+x+0"},
      {"1/0", "2/0"},
      {"\\frac", "1"},
      {"\\sqrt", "2"},
  };
  for (const auto& [answer, label] : different) {
    INFO(answer << " against " << label);
    CHECK_FALSE(kMath.Same(answer, label));
  }
}

TEST_CASE("LaTeX becomes plain text") {
  CHECK(LatexToText("\\frac{\\pi}{2}") == "pi/2");
  CHECK(LatexToText("\\frac{x+1}{2y}") == "(x+1)/(2y)");
  CHECK(LatexToText("\\sqrt[3]{8}") == "(8)^(1/3)");
  CHECK(LatexToText("2\\times 10^{3}") == "2* 10^3");
  CHECK(LatexToText("\\unknown{a}\\{b\\}") == "a{b}");
  CHECK(LatexToText("\\frac{1") == "1/()");
}

TEST_CASE("values of expressions") {
  CHECK(SameValue("2(x+1)", "2x+2"));
  CHECK(SameValue("-x^2", "0-x*x"));
  CHECK(SameValue("2^-1", "1/2"));
  CHECK(SameValue("1/2x", "x/2"));
  CHECK(SameValue("sqrt2*sqrt(2)", "2"));
  CHECK(SameValue("ln(2)", "ln2"));
  CHECK_FALSE(SameValue("ln(x)", "lnx"));  // three letters
  CHECK_FALSE(SameValue("x", "y"));
  CHECK_FALSE(SameValue("2^10", "1024"));    // exponents of several digits are not evaluated
  CHECK_FALSE(SameValue("a+b+c", "c+b+a"));  // nor more than two letters
  CHECK_FALSE(SameValue("(1", "1"));
  CHECK_FALSE(SameValue("1)", "1"));
  CHECK_FALSE(SameValue("", ""));
  CHECK_FALSE(SameValue(std::string(500, '(') + "1", "1"));
  CHECK_FALSE(SameValue(std::string(1000, '-') + "x", std::string(1001, '-') + "x"));
}

TEST_CASE("no answer breaks the comparison") {
  // Random strings of what answers are made of: every call returns, and what is equal to itself stays so from both sides.
  const std::vector<std::string> parts = {"\\frac", "\\sqrt", "{", "}", "(",    ")",        "[",        "]",       ",",      "^",
                                          "1",      "23",     ".", "x", "\\pi", "\\text{ ", "%",        "\\",      "=",      " ",
                                          "-",      "/",      "π", "é", "\n",   "e",        "\\boxed{", "million", "\\left", "\\!"};
  for (uint64_t i = 0; i < 20'000; ++i) {
    std::string texts[2];
    for (uint64_t side = 0; side < 2; ++side) {
      const uint64_t length = 1 + RandomBits(7, RandomUse::kTest, i, 100 * side) % 12;
      for (uint64_t j = 1; j <= length; ++j) texts[side] += parts[RandomBits(7, RandomUse::kTest, i, 100 * side + j) % parts.size()];
    }
    INFO(texts[0] << " against " << texts[1]);
    REQUIRE_FALSE(FindInvalidUtf8(kMath.NormaliseExpression(texts[0])));
    REQUIRE_FALSE(FindInvalidUtf8(kMath.NormaliseLatex(texts[0])));
    kMath.Same(texts[0], texts[1]);
    LastBoxed(texts[0]);
    REQUIRE(kMath.Same(texts[0], texts[0]));
  }
}
