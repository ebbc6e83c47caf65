"""Makes chat_reference.json: chats as transformers renders them. python tests/parity/chat_reference.py MODEL.gguf > tests/parity/chat_reference.json

MODEL.gguf is SmolLM2: its own template and token ids (needs transformers and gguf; its tokenizer is the one of tokenizer_reference.py). The other templates are
written for this test; each uses what the templates of a family use. As april has it, templates see no clock: strftime_now is taken away.
"""
import json
import sys

import gguf
import transformers
from tokenizer_reference import smollm2
from transformers.utils.chat_template_utils import _compile_jinja_template

TEMPLATES = {
    # Plain ChatML: conditions inside a loop, string keys, no white space control.
    "chatml": """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
Help.<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}
""",
    # Llama 3's means: BOS, set, slices, tests, filters inside sums, raise_exception, clock.
    "llama3": """{{- bos_token }}
{%- if not date is defined %}
    {%- if strftime_now is defined %}
        {%- set date = strftime_now("%d") %}
    {%- else %}
        {%- set date = "1 Jan" %}
    {%- endif %}
{%- endif %}
{#- the first message may be the system's #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|start|>system<|end|>\\n\\nDate: " + date + "\\n" + system ~ "<|eot|>" }}
{%- if not messages %}{{ raise_exception("nobody spoke") }}{% endif %}
{%- for message in messages %}
    {%- if message.role not in ['user', "assistant", 'system'] or 'tool_calls' in message %}
        {{- raise_exception('unknown role ' + message.role) }}
    {%- elif message.content is string and message.content | length > 0 %}
        {{- '<|start|>' + message['role'] + '<|end|>\\n\\n'+ message['content'] | trim + '<|eot|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|end|>\\n\\n' }}
{%- endif %}
""",
    # Qwen 3's means: tools as JSON, a namespace set in a reversed loop, strings taken apart, is false, loop.last.
    "qwen3": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "<|im_end|>\\n" }}
{%- endif %}
{%- set ns = namespace(found=false, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.found and message.role == "user" and not(message.content.startswith('<r>') and message.content.endswith('</r>')) %}
        {%- set ns.found = true %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- set thought = '' %}
    {%- if message.thought is defined and message.thought is not none %}
        {%- set thought = message.thought %}
    {%- elif '</think>' in content %}
        {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if loop.index0 > ns.last and (loop.last or thought) %}
        {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    # White space control and what the others leave out.
    "rest": """
  {% set greeting %}
  hello {{ bos_token }}
  {% endset %}
[{{ greeting }}]
{% for m in messages if m.role != 'system' -%}
   {{ loop.index }}/{{ loop.length }} {{ m['content'][:3] }}{{ m.content[-1] if m.content else 'empty' }}
   {%- if loop.previtem is defined %} after {{ loop.previtem.role | upper }}{% endif +%}
  {# a comment #}
{% else %}
nobody
{% endfor %}
{% for key, value in {'a': 1, "b": [1, 2.5, none, true]}.items() %}{{ key }}={{ value | tojson }};{% endfor %}

{{ [1, 2, 3] | join('-') }} {{ 7 // 2 * 2 % 4 - 1 }} {{ 'x' if false }} {{ missing | default('none given') }} {{ "a\\tb" "c" }}
{% for i in range(5) %}{% if i == 1 %}{% continue %}{% elif i > 3 %}{% break %}{% endif %}{{ i }}{% endfor %}
{{- messages | first is mapping }} {{ messages is iterable and messages is not string }}   {% if true %}in a line{% endif %}   {# so #} {{ 1 == 1.0 or false }} {{ not [] }}
""",
}
CHATS = [
    [{"role": "user", "content": "What is 2 + 3?"}],
    [{"role": "system", "content": "  Be brief. \n"}, {"role": "user", "content": "Hi  "}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb "}, {"role": "user", "content": "ÄÖ 日本 {{ x }} \u3000"}],
    [{"role": "system", "content": "s"}, {"role": "user", "content": "a\r\nb"}, {"role": "assistant", "content": "d</think>e"}],
    [{"role": "user", "content": ""}, {"role": "assistant", "content": "\n\n<|im_end|> in text"}, {"role": "user", "content": "<r>x</r>"}],
    [{"role": "system", "content": "alone"}],
    [{"role": "critic", "content": "no such role"}],
]
TOOLS = [{"type": "function", "function": {"name": "f", "description": "é \"quoted\"", "parameters": {"a": [1, 2.5, None, True], "b": {}}}}]
SPECIAL = {"bos_token": "<|bos|>", "eos_token": "<|eos|>"}


def render(template, case, special):
    try:
        return template.render(**special, **{"tools": None, "documents": None, **case["variables"]}, messages=case["messages"],
                               add_generation_prompt=case["add_generation_prompt"])
    except Exception as error:
        return {"error": str(error)}


cases = [{"messages": chat, "add_generation_prompt": prompt, "variables": variables}
         for chat in CHATS for prompt in (True, False) for variables in ({}, {"enable_thinking": False}, {"tools": TOOLS, "date": "2 Feb"})]
reference = {"made_by": "tests/parity/chat_reference.py", "transformers": transformers.__version__, "special_tokens": SPECIAL, "cases": cases, "templates": {}}
for name, source in TEMPLATES.items():
    template = _compile_jinja_template(source)
    template.environment.globals.pop("strftime_now", None)
    reference["templates"][name] = {"source": source, "rendered": [render(template, case, SPECIAL) for case in cases]}
model = _compile_jinja_template(gguf.GGUFReader(sys.argv[1]).fields["tokenizer.chat_template"].contents())
tokenizer = smollm2(sys.argv[1])
rendered = [render(model, case, {}) for case in cases]
reference["smollm2"] = {"rendered": rendered, "ids": [tokenizer.encode(text, add_special_tokens=False).ids for text in rendered]}
json.dump(reference, sys.stdout, ensure_ascii=False, indent=0)
print()
