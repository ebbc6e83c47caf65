"""Makes chat_reference.json: chats as transformers renders them. python tests/parity/chat_reference.py MODEL.gguf > tests/parity/chat_reference.json

MODEL.gguf is SmolLM2: its own template and token ids (needs transformers and gguf; its tokenizer is the one of tokenizer_reference.py). The other templates are
written for this test; each uses what the templates of a family use. As april has it, templates see no clock: strftime_now is taken away.
"""
import json
import sys

import gguf
import jinja2
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
    # Llama 2's means: turns in brackets, a BOS and an EOS for each, roles that must alternate, no white space control at all.
    "llama2": """{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set rules = messages[0]['content'] %}{% else %}{% set turns = messages %}{% set rules = false %}{% endif %}{% for turn in turns %}{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('user and assistant must take turns') }}{% endif %}{% if loop.index0 == 0 and rules != false %}{% set content = '<<SYS>>\\n' + rules + '\\n<</SYS>>\\n\\n' + turn['content'] %}{% else %}{% set content = turn['content'] %}{% endif %}{% if turn['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif turn['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}""",
    # Llama 3.1's means: tools in the system's or the first user's turn, as indented JSON; a call is a function's name and items of its arguments.
    "llama3-tools": """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{%- if builtin_tools is defined %}
    {{- "Tools: " + builtin_tools | reject('equalto', 'code_interpreter') | join(", ") + "\\n\\n"}}
{%- endif %}
{%- if tools is not none and not tools_in_user_message %}
    {{- "You may call these functions:\\n\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("no first user's turn to put tools into") }}
    {%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' -}}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {%- if builtin_tools is defined and tool_call.name in builtin_tools %}
            {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
            {{- "<|python_tag|>" + tool_call.name + ".call(" }}
            {%- for arg_name, arg_val in tool_call.arguments | items %}
                {{- arg_name + '="' + arg_val + '"' }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- endif %}
            {%- endfor %}
            {{- ")" }}
        {%- else  %}
            {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
            {{- '{"name": "' + tool_call.name + '", ' }}
            {{- '"parameters": ' }}
            {{- tool_call.arguments | tojson }}
            {{- "}" }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    # Qwen 2.5's means: calls and answers of tools, those of one turn together.
    "qwen2.5": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You help.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\nin <tools></tools>:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n<tool_call>\\n{\\"name\\": <name>, \\"arguments\\": <json>}\\n</tool_call><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    # The rest of Qwen 3's: thoughts beside the content, arguments that are text already, thoughts of earlier turns left out.
    "qwen3-thoughts": """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
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
{{ messages | map(attribute='role') | join(',') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ [1, 2, 3, 4] | select('odd') | list | tojson }} {{ messages | rejectattr('content') | list | length }}
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
    [{"role": "system", "content": "Use tools."}, {"role": "user", "content": "Weather in Köln and Rome?"},
     {"role": "assistant", "content": "", "reasoning_content": "\nLook it up.\n", "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln"}}}]},
     {"role": "tool", "content": "7 °C", "name": "weather"}, {"role": "tool", "content": "19 °C"},
     {"role": "assistant", "content": "7 and 19.", "reasoning_content": "Both known."}],
    [{"role": "user", "content": "q"}, {"role": "assistant", "content": "first look", "tool_calls": [{"name": "f", "arguments": "{\"a\": 1}"}, {"name": "g", "arguments": {"x": "y\"z"}}]},
     {"role": "user", "content": "<tool_response>\n3\n</tool_response>"}, {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "h", "arguments": {}}}]}],
    [{"role": "user", "content": "one"}, {"role": "user", "content": "two in a row"}],
]
TOOLS = [{"type": "function", "function": {"name": "f", "description": "é \"quoted\"", "parameters": {"a": [1, 2.5, None, True], "b": {}}}}]
SPECIAL = {"bos_token": "<|bos|>", "eos_token": "<|eos|>"}


def render(template, case, special):
    try:
        return template.render(**special, **{"tools": None, "documents": None, **case["variables"]}, messages=case["messages"],
                               add_generation_prompt=case["add_generation_prompt"])
    except jinja2.exceptions.TemplateError as error:
        return {"error": str(error) if type(error) is jinja2.exceptions.TemplateError else None}  # of raise_exception's own type; others: the messages do not fit
    except TypeError:
        return {"error": None}


VARIABLES = [{}, {"enable_thinking": False}, {"tools": TOOLS, "date": "2 Feb"}, {"tools": TOOLS, "tools_in_user_message": False, "builtin_tools": ["weather", "code_interpreter"]}]
cases = [{"messages": chat, "add_generation_prompt": prompt, "variables": variables} for chat in CHATS for prompt, variables in [(True, v) for v in VARIABLES] + [(False, {})]]
reference = {"made_by": "tests/parity/chat_reference.py", "transformers": transformers.__version__, "special_tokens": SPECIAL, "cases": cases, "templates": {}}
for name, source in TEMPLATES.items():
    template = _compile_jinja_template(source)
    template.environment.globals.pop("strftime_now", None)
    reference["templates"][name] = {"source": source, "rendered": [render(template, case, SPECIAL) for case in cases]}
model = _compile_jinja_template(gguf.GGUFReader(sys.argv[1]).fields["tokenizer.chat_template"].contents())
tokenizer = smollm2(sys.argv[1])
rendered = [render(model, case, {}) for case in cases]
reference["smollm2"] = {"rendered": rendered, "ids": [tokenizer.encode(text, add_special_tokens=False).ids if isinstance(text, str) else None for text in rendered]}
json.dump(reference, sys.stdout, ensure_ascii=False, indent=0)
print()
