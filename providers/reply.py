"""The answer as it is generated, told apart: reasoning, calls of tools, and what is said.

transformers' ResponseParser finds where regions begin and end, whatever the borders of the pieces. It is given the
delimiters alone; what they mean, and whether a call is whole, is decided here, because what is no call after all must
come back as the model wrote it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from transformers.utils.chat_parsing import ResponseParser
from transformers.utils.chat_parsing.response_templates import ResponseTemplate, load_response_template

from providers.markup import Calls, Markup, ToolCall, function_call, harmony_call, json_call

_OPENS = {"think": "<think>", "call": "<tool_call>", "start": "<|start|>", "channel": "<|channel|>"}
_CLOSES = {"think": "</think>", "call": "</tool_call>", "start": "<|message|>", "channel": "<|message|>"}
_FUNCTION_CLOSES = ["</function>\n</tool_call>", "</function></tool_call>"]
"""So that an argument may hold </tool_call>."""

_HARMONY_START = "<|start|>assistant"
"""What the template ends a prompt with. The answer goes on in the middle of the message's header."""

_HARMONY_ENDS = ["<|end|>", "<|call|>", "<|return|>"]
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT = re.compile(r"\bto=functions\.([^\s<]+)")
_LONGEST_HEADER = 512
"""Characters after which the header of a message is none: the model has left the format."""


@dataclass(frozen=True, slots=True)
class Text:
    """Something said. reasoning: to itself"""

    text: str
    reasoning: bool = False


Part = Text | ToolCall


class Reply:
    """Parses one answer.

    prompt: what the answer continues; it may have opened the reasoning
    tools: what may be called; without any, the markup of a call is text
    """

    def __init__(self, markup: Markup, prompt: str, *, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        self._harmony = markup.calls == "harmony"
        self._calls: Calls | None = markup.calls if tools else None
        self._tools = tools
        thinks = markup.thinks and prompt.rstrip().endswith(_OPENS["think"])
        prefix = _HARMONY_START if self._harmony else _OPENS["think"] if thinks else ""
        delimiters = _delimiters(self._harmony, self._calls, markup.thinks)
        self._parser = None if delimiters is None else ResponseParser(delimiters, prefix)
        self._spoken = _Spoken(trim=thinks)
        self._source = _HARMONY_START if self._harmony else ""
        """The markup that is open now, as it came."""
        self._header = ""
        self._recipient = ""
        self._in_markup = self._harmony
        self.reasoning = thinks

    def feed(self, text: str) -> list[Part]:
        """What is certain now. What may be the beginning of markup is held back, and so is a call until its end."""
        if self._parser is None:
            return list(self._say(text))
        return list(self._parts(self._parser.feed(text), ended=False))

    @property
    def speaking(self) -> bool:
        """Whether what comes now is said, as far as it is no markup."""
        return not (self.reasoning or self._in_markup or self._recipient)

    def says(self, text: str) -> bool:
        """Whether this text would be said, were it fed now, as far as it is no markup."""
        return self.speaking and not self._spoken.drops(text, self.reasoning)

    def finish(self) -> list[Part]:
        """The rest, once the answer is over. What was begun and is no whole call is text."""
        events = [] if self._parser is None else self._parser.finalize()[1]
        return [*self._parts(events, ended=True), *self._close_message(), *self._spoken.flush()]

    def _parts(self, events: Iterable[Mapping[str, Any]], *, ended: bool) -> Iterator[Part]:
        for event in events:
            field, kind = event["field"], event["type"]
            if kind == "region_chunk":
                yield from self._chunk(field, event["text"])
            elif field == "content":
                if kind == "region_close":
                    self._in_markup = self._harmony
                    yield from self._close_message()
            elif kind == "region_open":
                yield from self._open(field)
            else:
                yield from self._close(field, ended)

    def _open(self, field: str) -> Iterator[Part]:
        if field == "think":
            if self._spoken.anything:  # reasoning comes first: later on, <think> is only a word
                yield from self._say(_OPENS["think"])
            else:
                self.reasoning = True
            return
        yield from self._close_message()
        self._in_markup = True
        self._source = _OPENS[field]

    def _chunk(self, field: str, text: str) -> Iterator[Part]:
        if field in ("content", "think") and not self._recipient:
            yield from self._say(text)
            return
        self._source += text
        if field in ("start", "channel") and len(self._source) > _LONGEST_HEADER:
            yield from self._say(self._take_source().removeprefix(_HARMONY_START))

    def _close(self, field: str, ended: bool) -> Iterator[Part]:
        self._in_markup = False
        if field == "think":
            if self.reasoning:
                self.reasoning = ended
            elif not ended:
                yield from self._say(_CLOSES["think"])
        elif field == "call":
            yield from self._close_call(ended)
        elif not ended:
            self._header = self._take_source() + _CLOSES[field]
            channel, recipient = _CHANNEL.search(self._header), _RECIPIENT.search(self._header)
            self._recipient = recipient[1] if recipient and self._calls else ""
            self.reasoning = not self._recipient and channel is not None and channel[1] == "analysis"
        elif "<|" not in (unmarked := self._take_source().removeprefix(_HARMONY_START)):
            yield from self._say(unmarked)

    def _close_call(self, ended: bool) -> Iterator[Part]:
        source = self._take_source()
        body = source.removeprefix(_OPENS["call"])
        if self._calls == "json":
            call, close = json_call(body), _CLOSES["call"]
        else:
            call, close = function_call(body + ("" if ended else "</function>"), self._tools), _FUNCTION_CLOSES[0]
        yield from self._made(call, source + ("" if ended else close))

    def _close_message(self) -> Iterator[Part]:
        """The end of a message in harmony, which may have been a call."""
        if self._harmony:
            self.reasoning = False
        if self._recipient:
            body, name, self._recipient = self._take_source(), self._recipient, ""
            yield from self._made(harmony_call(name, body), self._header.removeprefix(_HARMONY_START) + body)

    def _made(self, call: ToolCall | None, source: str) -> Iterator[Part]:
        if call is None:
            yield from self._say(source)
        else:
            self._spoken.border()
            yield call

    def _say(self, text: str) -> Iterator[Part]:
        yield from self._spoken.say(text, self.reasoning)

    def _take_source(self) -> str:
        taken, self._source = self._source, ""
        return taken


class _Spoken:
    """Text on its way out. White space at a border between reasoning, text and calls belongs to the markup."""

    def __init__(self, *, trim: bool) -> None:
        self._trim = trim
        self._space = ""
        self._reasoned = trim
        self.anything = False
        """Whether the answer proper has begun."""

    def say(self, text: str, reasoning: bool) -> Iterator[Text]:
        if reasoning != self._reasoned:
            self._reasoned = reasoning
            self._cut()
        text = self._space + text
        if self._trim:
            text = text.lstrip()
        said = text.rstrip()
        self._space = text[len(said) :]
        if said:
            self._trim = False
            self.anything |= not reasoning
            yield Text(said, reasoning)

    def drops(self, text: str, reasoning: bool) -> bool:
        """Whether this is white space at a border."""
        return text.isspace() and (self._trim or reasoning != self._reasoned)

    def border(self) -> None:
        """A call was made here."""
        self.anything = True
        self._cut()

    def flush(self) -> Iterator[Text]:
        """The end: white space that nothing followed is as the model wrote it."""
        if self._space:
            yield Text(self._space, self._reasoned)

    def _cut(self) -> None:
        self._space = ""
        self._trim = True


@lru_cache(maxsize=64)
def _delimiters(harmony: bool, calls: Calls | None, thinks: bool) -> ResponseTemplate | None:
    """What the parser looks for, if anything. Its fields are this module's regions; `content` is whatever is in none of
    them.
    """
    names = ["start", "channel"] if harmony else []
    names += ["think"] if thinks else []
    names += ["call"] if calls in ("function", "json") else []
    if not names:
        return None
    fields: dict[str, Any] = {name: {"open": _OPENS[name], "close": _CLOSES[name], "repeats": True} for name in names}
    if calls == "function":
        fields["call"]["close"] = _FUNCTION_CLOSES
    fields["content"] = {"close": _HARMONY_ENDS} if harmony else {}
    return load_response_template({"start_anchor": "\uffff", "fields": fields})
