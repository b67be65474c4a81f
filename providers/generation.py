"""The answers of a chat runtime, step by step, as the dialect has them: reasoning, calls, text, and where they end."""

import asyncio
import codecs
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from llmux.errors import InvalidRequest
from providers import dialect
from providers.grammar import grammar_of
from providers.markup import ToolCall, markup_of
from providers.parameters import Parameters
from providers.reply import Part, Reply, Text
from providers.runtime import ChatRuntime, FinishReason, Image, Piece, Sampling, TokenLogprob

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """How an answer went on.

    tokens: how many were generated for it; reasoning_tokens: those of them that were reasoning, its markup included
    prompt_tokens, cached_tokens, finish_reason: as in Piece
    logprobs: of the tokens of its text, where they were asked for
    choice: which of the answers
    """

    parts: Sequence[Part]
    tokens: int
    reasoning_tokens: int
    prompt_tokens: int
    finish_reason: FinishReason | None = None
    logprobs: Sequence[TokenLogprob] = ()
    cached_tokens: int = 0
    choice: int = 0


def generate(
    runtime: ChatRuntime, messages: Sequence[Mapping[str, Any]], parameters: Parameters, seen: Sequence[Image] = ()
) -> AsyncGenerator[Step, None]:
    """The answers to these messages, as many as are wanted, at once. The last step of each has a finish reason.

    seen: the images in the messages, in their order
    What is said ends with a stop string where one comes up in it: reasoning and calls of tools may hold one.
    """
    try:
        prompt = dialect.render(
            messages,
            template=runtime.chat_template,
            special_tokens=runtime.special_tokens,
            control_tokens=runtime.control_tokens,
            image_token=runtime.image_token,
            tools=parameters.tools,
            options=parameters.options,
        )
    except RecursionError:
        raise InvalidRequest("messages or tools are nested too deeply", param="messages") from None
    sampling = replace(parameters.sampling, grammar=_grammar(runtime, prompt, parameters))
    seed = sampling.seed
    answers = [
        _answer(
            runtime, prompt, replace(sampling, seed=seed if seed is None else seed + choice), seen, parameters, choice
        )
        for choice in range(parameters.choices)
    ]
    return answers[0] if len(answers) == 1 else _interleaved(answers)


def _grammar(runtime: ChatRuntime, prompt: str, parameters: Parameters) -> str | None:
    if parameters.schema is None and not parameters.demanded:
        return None
    markup = markup_of(runtime.chat_template)
    return grammar_of(
        markup,
        prompt,
        control_tokens=runtime.control_tokens,
        schema=None if parameters.demanded else parameters.schema,
        calls=parameters.demanded or (parameters.tools if markup.calls else ()),
        several=parameters.parallel,
    )


async def _interleaved(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """The items of all, each as soon as it is there."""
    awaited = {asyncio.ensure_future(anext(stream)): stream for stream in streams}
    try:
        while awaited:
            done, _ = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in awaited if task in done]:
                stream = awaited.pop(task)
                try:
                    item = task.result()
                except StopAsyncIteration:
                    continue
                yield item
                awaited[asyncio.ensure_future(anext(stream))] = stream
    finally:
        for task in awaited:
            task.cancel()
        await asyncio.gather(*awaited, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


async def _answer(
    runtime: ChatRuntime,
    prompt: str,
    sampling: Sampling,
    seen: Sequence[Image],
    parameters: Parameters,
    choice: int,
) -> AsyncGenerator[Step, None]:
    reply = Reply(markup_of(runtime.chat_template), prompt, tools=parameters.tools)
    end = _End(parameters)
    likelihoods = _Likelihoods()
    tokens = reasoning_tokens = 0
    async with aclosing(runtime.generate(prompt, sampling, seen)) as pieces:
        async for piece in pieces:
            parts: list[Part] = []
            for text, count, logprob in likelihoods.grains(piece):
                reasoned, said = reply.reasoning, logprob is not None and reply.says(text)
                parts += reply.feed(text)
                tokens += count
                reasoning_tokens += count if reasoned or reply.reasoning else 0
                if logprob and said and reply.speaking:
                    likelihoods.held.append((text, logprob))
            if piece.finish_reason:
                parts += reply.finish()
            shown = end.shown(_joined(parts) if len(parts) > 1 else parts)
            if piece.finish_reason and not end.reached:
                shown += end.rest()
            reason = end.reason(piece.finish_reason)
            if shown or reason:
                yield Step(
                    shown,
                    tokens,
                    reasoning_tokens,
                    piece.prompt_tokens,
                    reason,
                    likelihoods.shown(shown, cut=end.reached),
                    piece.cached_tokens,
                    choice,
                )
                tokens = reasoning_tokens = 0
            if reason:
                return


def _joined(parts: Sequence[Part]) -> list[Part]:
    """Neighbouring texts as one."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, Text) and isinstance(last, Text) and part.reasoning == last.reasoning:
            joined[-1] = Text(last.text + part.text, part.reasoning)
        else:
            joined.append(part)
    return joined


class _Likelihoods:
    """Goes with the text: a logprob is told when its token is shown."""

    def __init__(self) -> None:
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.held: list[tuple[str, TokenLogprob]] = []

    def grains(self, piece: Piece) -> Iterable[tuple[str, int, TokenLogprob | None]]:
        """A piece token by token, as far as it tells: text, how many tokens that is, the logprob."""
        if not piece.logprobs:
            return ((piece.text, piece.tokens, None),)
        return self._told(piece)

    def _told(self, piece: Piece) -> Iterator[tuple[str, int, TokenLogprob | None]]:
        *before, last = piece.logprobs
        for logprob in before:
            yield self._characters.decode(logprob.bytes), 1, logprob
        if piece.finish_reason == "stop":  # with a token that says nothing
            yield self._characters.decode(b"", final=True), 1, None
        else:
            yield self._characters.decode(last.bytes, final=piece.finish_reason is not None), 1, last

    def shown(self, parts: Sequence[Part], *, cut: bool) -> list[TokenLogprob]:
        """Those of the tokens of these parts. cut: text beyond them is never shown"""
        if not self.held:
            return []
        left = sum(len(part.text) for part in parts if isinstance(part, Text) and not part.reasoning)
        if not left and not cut:
            return []
        told, self.held = self.held, []
        if not cut:
            return [logprob for _, logprob in told]
        shown = []
        for text, logprob in told:
            if left <= 0:
                break
            shown.append(logprob)
            left -= len(text)
        return shown


class _End:
    """Finds an end that comes before the model's own: a stop string, or a call that is to be the only one."""

    def __init__(self, parameters: Parameters) -> None:
        self._stops = dialect.StopScanner(parameters.stop)
        self._parallel = parameters.parallel
        self._called = False
        self.reached = False

    def shown(self, parts: Sequence[Part]) -> list[Part]:
        """What of these comes before the end, as far as that is certain."""
        shown: list[Part] = []
        for part in parts:
            if isinstance(part, Text) and not part.reasoning:
                text, self.reached = self._stops.feed(part.text)
                if text:
                    shown.append(part if text == part.text else Text(text))
            else:
                shown += [*self.rest(), part]
                if isinstance(part, ToolCall):
                    self._called = True
                    self.reached = not self._parallel
            if self.reached:
                break
        return shown

    def rest(self) -> list[Part]:
        """What looked like the beginning of a stop string and was none."""
        text = self._stops.flush()
        return [Text(text)] if text else []

    def reason(self, of_the_model: FinishReason | None) -> FinishReason | None:
        reason = "stop" if self.reached else of_the_model
        return "tool_calls" if self._called and reason == "stop" else reason
