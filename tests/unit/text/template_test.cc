#include "text/chat_template.h"

#include <catch2/catch.hpp>
#include <cstdlib>

#include "base/error.h"
#include "base/file.h"
#include "text/jinja.h"

using namespace april;
using namespace april::text;

namespace {

const Json& ChatReference() {
  static const Json reference = Json::parse(ReadFile(SystemFiles(), std::string(APRIL_SOURCE_DIR) + "/tests/parity/chat_reference.json"));
  return reference;
}

std::vector<Message> Messages(const Json& chat) {
  std::vector<Message> messages;
  for (const Json& message : chat["messages"]) {
    Message& added = messages.emplace_back();
    for (const auto& [key, value] : message.items()) {
      if (key == "role") added.role = value;
      if (key == "content" && value.is_string()) added.content = value;
      if ((key != "role" && key != "content") || value.is_null()) added.more[key] = value;
    }
  }
  return messages;
}

Json Render(const ChatTemplate& chat_template, const Json& chat) {
  try {
    return chat_template.Render(Messages(chat), chat["add_generation_prompt"], chat["variables"]);
  } catch (const Error& error) {
    return {{"error", error.message()}, {"kind", static_cast<int>(error.kind())}};
  }
}

ErrorKind KindOf(const std::string& source) {
  try {
    ChatTemplate::FromSource(source)->Render({{"user", "x"}}, true);
  } catch (const Error& error) {
    return error.kind();
  }
  FAIL("accepted: " << source);
  return ErrorKind::kRuntime;
}

}  // namespace

TEST_CASE("chats are rendered as transformers renders them") {
  const Json& cases = ChatReference()["cases"];
  for (const auto& [name, wanted] : ChatReference()["templates"].items()) {
    const auto chat_template = ChatTemplate::FromSource(wanted["source"], ChatReference()["special_tokens"]);
    for (size_t i = 0; i < cases.size(); ++i) {
      INFO(name << ", case " << i);
      const Json rendered = Render(*chat_template, cases[i]);
      const Json& expected = wanted["rendered"][i];
      if (expected.is_string()) {
        CHECK(rendered == expected);
      } else if (expected["error"].is_null()) {  // messages that the template cannot work with
        CHECK(rendered["kind"] == static_cast<int>(ErrorKind::kIncompatible));
      } else {
        CHECK(rendered["kind"] == static_cast<int>(ErrorKind::kUsage));
        CHECK_THAT(rendered["error"].get<std::string>(), Catch::EndsWith(expected["error"].get<std::string>()));
      }
    }
  }
}

TEST_CASE("SmolLM2's chats have the reference's text and ids", "[model]") {
  const char* path = std::getenv("APRIL_MODEL");
  if (path == nullptr) FAIL("APRIL_MODEL is not set; tests/run.sh sets it, or: export APRIL_MODEL=…/smollm2.gguf");
  const auto tokenizer = Tokenizer::Load(path);
  const auto chat_template = ChatTemplate::Load(path);
  const Json& cases = ChatReference()["cases"];
  for (size_t i = 0; i < cases.size(); ++i) {
    INFO("case " << i);
    if (ChatReference()["smollm2"]["ids"][i].is_null()) continue;  // a content that is null
    CHECK(Render(*chat_template, cases[i]) == ChatReference()["smollm2"]["rendered"][i]);
    const bool prompt = cases[i]["add_generation_prompt"];
    CHECK(Json(chat_template->RenderTokens(*tokenizer, Messages(cases[i]), prompt, cases[i]["variables"])) == ChatReference()["smollm2"]["ids"][i]);
  }
}

TEST_CASE("the digest does not depend on a line end at the end") {
  CHECK(ChatTemplate::FromSource("a")->digest() == ChatTemplate::FromSource("a\n")->digest());
  CHECK(ChatTemplate::FromSource("a")->digest() != ChatTemplate::FromSource("b")->digest());
}

TEST_CASE("what a template may not do is refused, by kind", "[heavy]") {
  for (const char* source : {"{% macro f() %}{% endmacro %}",
                             "{% if x %}",
                             "{% endif %}",
                             "{{ x",
                             "{{ 'x }}",
                             "{{ x | nonsense }}",
                             "{{ x is nonsense }}",
                             "{{ f(1) }}",
                             "{{ x.y }}",
                             "{{ 1 + 'a' }}",
                             "{{ messages.nonsense() }}",
                             "{{ [1] }}",
                             "{{ 1 // 0 }}",
                             "{{ (1, 2) }}",
                             "{% for a, b in [1] %}{% endfor %}",
                             "{{ 9223372036854775807 + 1 }}",
                             "{{ 99999999999999999999 }}",
                             "{# open",
                             "{{ ) }}",
                             "{% else %}",
                             "{{ 1 if }}",
                             "{% set %}"}) {
    INFO(source);
    CHECK(KindOf(source) == ErrorKind::kIncompatible);
  }
  CHECK(KindOf("{{ raise_exception('no') }}") == ErrorKind::kUsage);
  CHECK(KindOf("{% for a in range(3000) %}{% for b in range(3000) %}{% endfor %}{% endfor %}") == ErrorKind::kData);
  CHECK(KindOf("{{ range(99999999999) }}") == ErrorKind::kData);
  CHECK(KindOf(std::string(100'000, '{')) == ErrorKind::kIncompatible);
  CHECK(KindOf("{{" + std::string(100'000, '(')) == ErrorKind::kIncompatible);
  CHECK(KindOf("{{" + std::string(100'000, '-') + "1}}") == ErrorKind::kIncompatible);
  CHECK(KindOf("\xFF") == ErrorKind::kData);
}

TEST_CASE("messages cannot become template code") {
  const auto chat_template = ChatTemplate::FromSource("{{ messages[0].content }}");
  CHECK(chat_template->Render({{"user", "{{ 1 + 1 }}{% if %}"}}, true) == "{{ 1 + 1 }}{% if %}");
  CHECK_THROWS_AS(chat_template->Render({{"user", "\xFF"}}, true), Error);
}
