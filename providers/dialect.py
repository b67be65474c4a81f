"""How a model is spoken to: messages in, prompt text out, and where the answer ends.

The same for every chat runtime. A model's own template says how messages become a prompt. What the client wrote
stays text in it: a control token such as <|im_end|> inside a message is cut by a `SEAM`, which no token spans.
"""

import json
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from llmux.errors import InvalidRequest
from providers.markup import markup_of

SEAM = "\uffff"
"""Where a prompt is cut before it is tokenised. A Unicode noncharacter, so that no text misses it."""

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

_KEPT = ("role", "name", "tool_call_id", "reasoning_content")

_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})

IMAGE_PARTS = frozenset({"image_url", "input_image"})
"""Types of the parts of a message that are images."""


def spans(prompt: str) -> Iterator[str]:
    """The parts of a rendered prompt that are to be tokenised each for itself."""
    return (span for span in prompt.split(SEAM) if span)


def render(
    messages: Sequence[Mapping[str, Any]],
    *,
    template: str,
    special_tokens: Mapping[str, str],
    control_tokens: Collection[str] = (),
    image_token: str | None = None,
    tools: Sequence[Mapping[str, Any]] = (),
    options: Mapping[str, Any] | None = None,
) -> str:
    """The prompt that asks for the next assistant message.

    image_token: what the template writes for an image; None: the model takes none
    options: what else the template may ask for, such as enable_thinking

    Leading system and developer messages become one. Where a template insists on alternating turns, or on nothing but
    one system message at the beginning, it gets that. Raises InvalidRequest for what the template refuses.
    """
    marked = _Marks((*control_tokens, image_token) if image_token else tuple(control_tokens))
    turns = _merged(_plain(messages), "system", leading=True)
    images = sum(
        part["type"] == "image" for turn in turns if not isinstance(turn["content"], str) for part in turn["content"]
    )
    if images and image_token is None:
        raise InvalidRequest("this model takes no images; ask one that does, or leave them out", param="messages")
    if markup_of(template).calls == "harmony":
        turns, tools = _for_harmony(turns), [_described(tool) for tool in tools]
    turns = marked.apply(turns)
    variables = {**special_tokens, **marked.apply(dict(options or {}))}
    described = marked.apply(list(tools)) or None
    try:
        prompt = _apply(template, turns, described, variables)
    except InvalidRequest:
        alternating = _merged(_one_system(turns), "user")
        if alternating == turns:
            raise
        prompt = _apply(template, alternating, described, variables)
    if image_token and prompt.count(image_token) != images:
        raise InvalidRequest("the model's chat template has no place for these images", param="messages")
    return prompt


def _apply(template: str, turns: list[dict[str, Any]], tools: Any, variables: Mapping[str, Any]) -> str:
    try:
        rendered, _ = render_jinja_template(
            [turns], tools=tools, chat_template=template, add_generation_prompt=True, **variables
        )
    except Exception as error:
        # Only what the template raises by itself is meant to be read; other errors may quote the messages.
        said = str(error) if type(error) is TemplateError else type(error).__name__
        raise InvalidRequest(f"the model's chat template refuses these messages: {said}", param="messages") from None
    prompt: str = rendered[0]
    return prompt


def _plain(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not messages:
        raise InvalidRequest("messages must hold at least one message", param="messages")
    return [_plain_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _plain_message(message: Mapping[str, Any], at: str) -> dict[str, Any]:
    """What templates know of a message, and nothing that they would trip over, such as keys without a value."""
    if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
        raise InvalidRequest(f"{at}.role must be one of {', '.join(sorted(_ROLES))}", param=f"{at}.role")
    plain: dict[str, Any] = {key: message[key] for key in _KEPT if isinstance(message.get(key), str)}
    if plain["role"] == "developer":
        plain["role"] = "system"
    plain["content"] = _content(message.get("content"), f"{at}.content")
    if calls := message.get("tool_calls"):
        plain["tool_calls"] = _plain_calls(calls, f"{at}.tool_calls")
    return plain


def _content(content: object, at: str) -> str | list[dict[str, str]]:
    """Text, or parts where there are images among it."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"{at} must be text or a list of parts", param=at)
    parts = [_part(part, f"{at}[{index}]") for index, part in enumerate(content)]
    if any(part["type"] == "image" for part in parts):
        return parts
    return "".join(part["text"] for part in parts)


def _part(part: object, at: str) -> dict[str, str]:
    if isinstance(part, Mapping):
        if part.get("type") in IMAGE_PARTS:
            return {"type": "image"}
        if part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str):
            return {"type": "text", "text": part["text"]}
    raise InvalidRequest(f"{at} must be a part of type text or image_url", param=at)


def _plain_calls(calls: object, at: str) -> list[dict[str, Any]]:
    """Templates walk through a call's arguments; clients send them as JSON."""
    if not isinstance(calls, list):
        raise InvalidRequest(f"{at} must be a list", param=at)
    plain = []
    for index, call in enumerate(calls):
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InvalidRequest(f"{at}[{index}] must be an object with a function that has a name", param=at)
        arguments = function.get("arguments") or {}
        if isinstance(arguments, str):
            with suppress(ValueError, RecursionError):  # models err: the template gets what the model once wrote
                arguments = json.loads(arguments)
        named = {"name": function["name"], "arguments": arguments}
        identity = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
        plain.append({**identity, "type": "function", "function": named})
    return plain


def _merged(turns: Iterable[dict[str, Any]], role: str, *, leading: bool = False) -> list[dict[str, Any]]:
    """Runs of this role as one message each; with `leading`, only the run that stands first."""
    merged: list[dict[str, Any]] = []
    for turn in turns:
        if merged and turn["role"] == merged[-1]["role"] == role and not (leading and len(merged) > 1):
            merged[-1] = {**merged[-1], "content": _joined(merged[-1]["content"], turn["content"])}
        else:
            merged.append(turn)
    return merged


def _joined(first: Any, second: Any) -> str | list[dict[str, str]]:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    texts = [[{"type": "text", "text": part}] if isinstance(part, str) else part for part in (first, second)]
    return [*texts[0], {"type": "text", "text": "\n\n"}, *texts[1]]


def _one_system(turns: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Later system messages as the user's: said where they were said."""
    return [
        {**turn, "role": "user"} if index and turn["role"] == "system" else turn for index, turn in enumerate(turns)
    ]


def _for_harmony(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """gpt-oss' template leaves out later system messages and all calls but a message's first, and takes a tool's
    result for the last call's: so each call becomes a message of its own, with its result behind it.
    """
    shaped: list[dict[str, Any]] = []
    later = deque(_one_system(turns))
    while later:
        turn = later.popleft()
        if not turn.get("tool_calls"):
            shaped.append(turn)
            continue
        results = []
        while later and later[0]["role"] == "tool":
            results.append(later.popleft())
        shaped += _calls_apart(turn, results)
    return shaped


def _calls_apart(turn: Mapping[str, Any], results: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each call of a message, followed by its results: those that name its id, or else stand in its place."""
    calls = turn["tool_calls"]
    numbers = {call["id"]: number for number, call in enumerate(calls) if "id" in call}
    owners = [
        numbers.get(result.get("tool_call_id"), min(place, len(calls) - 1)) for place, result in enumerate(results)
    ]
    # The template refuses a message with both, and writes either as the reasoning that led to the call.
    thought = "\n\n".join(text for text in (turn.get("reasoning_content"), turn["content"]) if text)
    for number, call in enumerate(calls):
        yield {"role": "assistant", "content": "" if number else thought, "tool_calls": [call]}
        yield from (result for result, owner in zip(results, owners, strict=True) if owner == number)


def _described(tool: Mapping[str, Any]) -> dict[str, Any]:
    """gpt-oss' template cannot do without a description."""
    return {**tool, "function": {**tool["function"], "description": tool["function"].get("description") or ""}}


class _Marks:
    """Cuts every control token in what the client wrote, after its first character."""

    def __init__(self, control_tokens: tuple[str, ...]) -> None:
        self._starts = _starts(control_tokens)

    def apply(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._starts.sub(rf"\g<0>{SEAM}", value)
        if isinstance(value, Mapping):
            return {self.apply(key): self.apply(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.apply(item) for item in value]
        return value


@lru_cache(maxsize=64)
def _starts(control_tokens: tuple[str, ...]) -> re.Pattern[str]:
    """Matches the first character wherever a control token begins, also inside another one."""
    tokens = [token for token in control_tokens if len(token) > 1]
    if not tokens:
        return re.compile(r"(?!)")
    begins = "".join(sorted({re.escape(token[0]) for token in tokens}))
    token = "|".join(map(re.escape, tokens))
    # Looking at the first character alone before is 15 times faster for vocabularies with a thousand of these.
    return re.compile(rf"(?=[{begins}])(?={token}).", re.DOTALL)


class StopScanner:
    """Finds stop strings in text that arrives piece by piece, whatever the borders of the pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """What may be shown now, and whether a stop string is complete; nothing is to be fed after one.

        Text that may be the beginning of a stop string is held back.
        """
        if not self._stops:
            return text, False
        self._held += text
        found = [(start + len(stop), start) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        cut = min(found)[1] if found else len(self._held) - self._beginning()
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown, bool(found)

    def flush(self) -> str:
        """What was held back in vain."""
        shown, self._held = self._held, ""
        return shown

    def _beginning(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = max(len(stop) - 1 for stop in self._stops)
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0
