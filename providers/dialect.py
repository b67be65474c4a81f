"""How a model is spoken to: messages in, prompt text out, and where the answer ends.

The same for every chat runtime. A model's own template says how messages become a prompt. What the client wrote
stays text in it: a control token such as <|im_end|> inside a message is cut by a `SEAM`, which no token spans.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from llmux.errors import InvalidRequest

SEAM = "\uffff"
"""Where a prompt is cut before it is tokenised. A Unicode noncharacter, so that no text misses it."""

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

_IMAGES = frozenset({"image_url", "input_image", "image"})


def spans(prompt: str) -> Iterator[str]:
    """The parts of a rendered prompt that are to be tokenised each for itself."""
    return (span for span in prompt.split(SEAM) if span)


def render(
    messages: Sequence[Mapping[str, Any]],
    *,
    template: str,
    special_tokens: Mapping[str, str],
    control_tokens: Collection[str] = (),
    tools: Sequence[Mapping[str, Any]] | None = None,
    options: Mapping[str, Any] | None = None,
) -> str:
    """The prompt that asks for the next assistant message.

    options: what else the template may ask for, such as enable_thinking

    Leading system and developer messages become one, and where a template insists on alternating turns, so do
    consecutive messages of the user. Raises InvalidRequest for what the template refuses.
    """
    marked = _Marks(tuple(control_tokens))
    turns = marked.apply(_merged(_plain(messages), "system", leading=True))
    variables = {**special_tokens, **marked.apply(dict(options or {}))}
    described = marked.apply(list(tools)) if tools else None
    try:
        return _apply(template, turns, described, variables)
    except InvalidRequest:
        alternating = _merged(turns, "user")
        if len(alternating) == len(turns):
            raise
        return _apply(template, alternating, described, variables)


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
    if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
        raise InvalidRequest(f"{at}.role must be one of {', '.join(sorted(_ROLES))}", param=f"{at}.role")
    plain = {key: value for key, value in message.items() if value is not None}
    plain["content"] = _text(message.get("content"), f"{at}.content")
    if plain["role"] == "developer":
        plain["role"] = "system"
    if calls := plain.get("tool_calls"):
        plain["tool_calls"] = [_plain_call(call) for call in calls]
    return plain


def _text(content: object, at: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"{at} must be text or a list of parts", param=at)
    return "".join(_part_text(part, f"{at}[{index}]") for index, part in enumerate(content))


def _part_text(part: object, at: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if isinstance(part, Mapping) and kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind in _IMAGES:
        raise InvalidRequest("this model takes no images", param=at)
    raise InvalidRequest(f"{at} must be a part of type text", param=at)


def _plain_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """Templates walk through a call's arguments; clients send them as JSON."""
    function = dict(call.get("function") or {})
    if isinstance(arguments := function.get("arguments"), str):
        with suppress(ValueError):  # models err: the template then gets what the model once wrote
            function["arguments"] = json.loads(arguments)
    return {**call, "function": function}


def _merged(turns: Iterable[dict[str, Any]], role: str, *, leading: bool = False) -> list[dict[str, Any]]:
    """Runs of this role as one message each; with `leading`, only the run that stands first."""
    merged: list[dict[str, Any]] = []
    for turn in turns:
        if merged and turn["role"] == merged[-1]["role"] == role and not (leading and len(merged) > 1):
            merged[-1] = {**merged[-1], "content": f"{merged[-1]['content']}\n\n{turn['content']}"}
        else:
            merged.append(turn)
    return merged


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
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0
