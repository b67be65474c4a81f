"""Chat templates of the families that llmux knows, written for these tests after the formats as they are published.

Shorter than the models' own, with the same markup and the same demands: Qwen 3.5 wants a user and no later system
message, gpt-oss takes one call a message and no reasoning beside it.
"""

CHATML = """\
{% for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{% endfor %}
{% if add_generation_prompt %}{{- '<|im_start|>assistant\\n' -}}{% endif %}"""
"""SmolLM2 and many others: no tools, no reasoning."""

HERMES = """\
{% if tools %}
{{- '<|im_start|>system\\n' -}}
{% if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' -}}{% endif %}
{{- '# Tools\\n\\n<tools>\\n' -}}
{% for tool in tools %}{{- tool | tojson -}}{{- '\\n' -}}{% endfor %}
{{- '</tools>\\n\\nReturn <tool_call>\\n{"name": <name>, "arguments": <object>}\\n</tool_call><|im_end|>\\n' -}}
{% endif %}
{% for message in messages %}
{% if message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' -}}
{% elif message.role != 'system' or not tools %}
{{- '<|im_start|>' + message.role + '\\n' + message.content -}}
{% for call in message.tool_calls or [] %}
{% set written = {'name': call.function.name, 'arguments': call.function.arguments} %}
{{- '\\n<tool_call>\\n' + written | tojson + '\\n</tool_call>' -}}
{% endfor %}
{{- '<|im_end|>\\n' -}}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' -}}
{% if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' -}}{% endif %}
{% endif %}"""
"""Hermes, Qwen 2.5 and 3."""

QWEN = """\
{% macro shown(content) %}
{% if content is string %}{{- content -}}{% else %}{% for part in content %}
{% if part.type == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}{% else %}{{- part.text -}}{% endif %}
{% endfor %}{% endif %}
{% endmacro %}
{% set last = namespace(user=-1) %}
{% for message in messages %}{% if message.role == 'user' %}{% set last.user = loop.index0 %}{% endif %}{% endfor %}
{% if last.user < 0 %}{{- raise_exception('No user query found in messages.') -}}{% endif %}
{% if tools %}
{{- '<|im_start|>system\\n# Tools\\n\\n<tools>' -}}
{% for tool in tools %}{{- '\\n' + tool | tojson -}}{% endfor %}
{{- '\\n</tools>\\n\\nReply with <tool_call>\\n<function=name>\\n<parameter=name>\\nvalue\\n</parameter>' -}}
{{- '\\n</function>\\n</tool_call>' -}}
{% if messages[0].role == 'system' %}{{- '\\n\\n' + messages[0].content -}}{% endif %}
{{- '<|im_end|>\\n' -}}
{% endif %}
{% for message in messages %}
{% if message.role == 'system' %}
{% if not loop.first %}{{- raise_exception('System message must be at the beginning.') -}}{% endif %}
{% if not tools %}{{- '<|im_start|>system\\n' + message.content + '<|im_end|>\\n' -}}{% endif %}
{% elif message.role == 'tool' %}
{% if messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' -}}{% endif %}
{{- '\\n<tool_response>\\n' + shown(message.content) + '\\n</tool_response>' -}}
{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' -}}{% endif %}
{% else %}
{{- '<|im_start|>' + message.role + '\\n' -}}
{% if message.reasoning_content and loop.index0 > last.user %}
{{- '<think>\\n' + message.reasoning_content | trim + '\\n</think>\\n\\n' -}}
{% endif %}
{{- shown(message.content) | trim -}}
{% for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n<function=' + call.function.name + '>\\n' -}}
{% for name, value in call.function.arguments | items %}
{{- '<parameter=' + name + '>\\n' + (value | tojson if value is mapping else value | string) + '\\n</parameter>\\n' -}}
{% endfor %}
{{- '</function>\\n</tool_call>' -}}
{% endfor %}
{{- '<|im_end|>\\n' -}}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' -}}
{% if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' -}}
{% else %}{{- '<think>\\n' -}}{% endif %}
{% endif %}"""
"""Qwen 3.5."""

GPT_OSS = """\
{{- '<|start|>system<|message|>Reasoning: ' + (reasoning_effort or 'medium') -}}
{{- '\\n# Valid channels: analysis, commentary, final.<|end|>' -}}
{% set first = messages[0].content if messages[0].role == 'system' else '' %}
{% if first or tools %}
{{- '<|start|>developer<|message|>' + first -}}
{% for tool in tools or [] %}{{- '\\n// ' + tool.function.description + '\\ntype ' + tool.function.name -}}{% endfor %}
{{- '<|end|>' -}}
{% endif %}
{% set call = namespace(name=none) %}
{% for message in messages %}
{% if message.role == 'assistant' %}
{% if '<|channel|>analysis<|message|>' in message.content %}{{- raise_exception('channels in content') -}}{% endif %}
{% if 'tool_calls' in message %}
{% if message.content and message.thinking %}{{- raise_exception('Cannot pass both content and thinking') -}}{% endif %}
{% if message.content or message.thinking %}
{{- '<|start|>assistant<|channel|>analysis<|message|>' + (message.content or message.thinking) + '<|end|>' -}}
{% endif %}
{% set called = message.tool_calls[0].function %}
{{- '<|start|>assistant to=functions.' + called.name + '<|channel|>commentary json<|message|>' -}}
{{- called.arguments | tojson + '<|call|>' -}}
{% set call.name = called.name %}
{% else %}
{{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|end|>' -}}
{% set call.name = none %}
{% endif %}
{% elif message.role == 'tool' %}
{% if call.name is none %}{{- raise_exception('Message has tool role, but there was no previous call') -}}{% endif %}
{{- '<|start|>functions.' + call.name + ' to=assistant<|channel|>commentary<|message|>' -}}
{{- message.content | tojson + '<|end|>' -}}
{% elif message.role == 'user' %}
{{- '<|start|>user<|message|>' + message.content + '<|end|>' -}}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}{{- '<|start|>assistant' -}}{% endif %}"""
"""gpt-oss: OpenAI's harmony response format."""
