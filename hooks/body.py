"""The shape of a request's body, before LiteLLM stumbles over it: what it cannot read it answers with 500."""

from collections.abc import Mapping, Sequence

from llmux.errors import InvalidRequest

_KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "input": ((str, list), "a text or a list of items"),
    "instructions": (str, "a text"),
    "messages": (list, "a list of at least one message"),
    "metadata": (dict, "an object"),
    "prompt": ((str, list), "a text"),
    "reasoning": (dict, "an object"),
    "response_format": (dict, "an object"),
    "stream": (bool, "true or false"),
    "stream_options": (dict, "an object"),
    "system": ((str, list), "a text or a list of parts"),
    "text": (dict, "an object"),
    "thinking": (dict, "an object"),
    "tool_choice": ((str, dict), "a text or an object"),
    "tools": (list, "a list of objects"),
    "user": (str, "a text"),
}
"""What the fields of chat completions, completions, responses and messages hold: a name means the same in each."""

_OBJECTS = ("input", "messages", "system", "tools")
"""Fields whose items, where they are lists, are objects."""

_UNSERVED: Mapping[str, str] = {
    "background": "answers are given while the client waits",
    "conversation": "answers are not kept; send the whole conversation as input",
    "previous_response_id": "answers are not kept; send the whole conversation as input",
}
"""Fields that ask for what there is not, and would be passed over in silence."""

_OF_COMPLETIONS: Mapping[str, tuple[Sequence[object], str]] = {
    "best_of": ((0, 1), "ask chat completions for n answers and choose"),
    "echo": ((False,), "the prompt is known"),
    "logprobs": ((), "chat completions tell them"),
    "suffix": (("",), "text is not filled in"),
}
"""Fields of completions that are not translated into a chat, the values that ask for nothing, and what to do."""

_PARTS = ("text", "image_url")
"""Of what a user's message may consist in chat completions."""


def refuse_malformed(data: Mapping[str, object], call_type: str = "acompletion") -> None:
    """Raises InvalidRequest, naming the field, for a body of a chat that cannot be read.

    call_type: LiteLLM's name for the route
    """
    for name, (kind, wanted) in _KINDS.items():
        if data.get(name) is not None and not isinstance(data[name], kind):
            raise InvalidRequest(f"{name} must be {wanted}", param=name)
    for name, why in _UNSERVED.items():
        if data.get(name):
            raise InvalidRequest(f"{name} is not served: {why}", param=name)
    for name in _OBJECTS:
        items = data.get(name)
        if isinstance(items, list) and not all(isinstance(item, dict) for item in items):
            raise InvalidRequest(f"{name} must hold objects, and nothing else", param=name)
    _refuse_prompts(data.get("prompt"))
    if call_type.endswith("text_completion"):
        _refuse_untranslated(data)
    messages = data.get("messages")
    if isinstance(messages, list):
        _refuse_messages(messages)
        if call_type.endswith("acompletion"):
            _refuse_parts(messages)


def _refuse_prompts(prompt: object) -> None:
    if isinstance(prompt, list) and not (len(prompt) == 1 and isinstance(prompt[0], str)):
        raise InvalidRequest("prompt must be one text; token ids and several prompts are not taken", param="prompt")


def _refuse_untranslated(data: Mapping[str, object]) -> None:
    for name, (harmless, instead) in _OF_COMPLETIONS.items():
        if data.get(name) is not None and data[name] not in harmless:
            raise InvalidRequest(f"{name} is not served here: {instead}", param=name)
    if data.get("stream") and data.get("n") not in (None, 1):
        raise InvalidRequest("several completions are not streamed; chat completions are", param="n")


def _refuse_messages(messages: list[dict[str, object]]) -> None:
    if not messages:
        raise InvalidRequest("messages must be a list of at least one message", param="messages")
    for message in messages:
        if not isinstance(message.get("role"), str):
            raise InvalidRequest("each message must be an object with a role", param="messages")
        content = message.get("content")
        if not isinstance(content, str | list | None):
            raise InvalidRequest("the content of a message must be a text or a list of parts", param="messages")
        if isinstance(content, list) and not all(isinstance(part, dict) for part in content):
            raise InvalidRequest("the parts of a message's content must be objects", param="messages")
        calls = message.get("tool_calls")
        if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
            raise InvalidRequest("the tool_calls of a message must be a list of objects", param="messages")


def _refuse_parts(messages: list[dict[str, object]]) -> None:
    for message in messages:
        content = message.get("content")
        if message["role"] == "user" and isinstance(content, list):
            for part in content:
                if part.get("type") not in _PARTS:
                    raise InvalidRequest(
                        "the parts of a user's message are of type text or image_url", param="messages"
                    )
