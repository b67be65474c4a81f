"""OpenAI's chat completions over any chat runtime, as a LiteLLM provider."""

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from litellm import CustomLLM
from litellm.types.utils import Choices, Delta, Message, ModelResponse, ModelResponseStream, StreamingChoices, Usage
from pydantic import ValidationError

from llmux.config import View
from llmux.errors import InvalidRequest, LlmuxError
from llmux.request import errors_noted
from providers import dialect
from providers.leased import Lender
from providers.runtime import ChatRuntime, FinishReason, Piece, Sampling

T = TypeVar("T")

_STOPS = 4
"""Stop strings that a request may name, as at OpenAI."""

_UNSUPPORTED: Mapping[str, Sequence[object]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto", "none"),
}
"""Parameters that would change the answer and are not served, with the values that ask for nothing."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a request says beside its messages.

    stop: texts that end the answer and are not part of it
    options: what the view hands to the chat template
    """

    sampling: Sampling
    stop: tuple[str, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Parameters":
        """From the body of a request. Raises InvalidRequest, naming the parameter, for what cannot be served."""
        for name, harmless in _UNSUPPORTED.items():
            if given.get(name) is not None and given[name] not in harmless:
                raise InvalidRequest(f"{name} is not supported with this value by this model", param=name)
        sampling = Sampling(
            max_tokens=_integer(given, "max_tokens", least=1),
            temperature=_number(given, "temperature", 0, 2),
            top_p=_number(given, "top_p", 0, 1),
            seed=_integer(given, "seed"),
        )
        if sampling.top_p == 0:
            raise InvalidRequest("top_p must be above 0", param="top_p")
        tools = () if given.get("tool_choice") == "none" else _tools(given)
        return cls(sampling, _stop(given), tools, _options(given))


def _integer(given: Mapping[str, Any], name: str, *, least: int | None = None) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
        raise InvalidRequest(f"{name} must be a whole number{bound}", param=name)
    return value


def _number(given: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidRequest(f"{name} must be a number from {least} to {most}", param=name)
    return float(value)


def _stop(given: Mapping[str, Any]) -> tuple[str, ...]:
    value = given.get("stop") or ()
    stops = (value,) if isinstance(value, str) else value
    if not isinstance(stops, (list, tuple)) or len(stops) > _STOPS or not all(isinstance(s, str) and s for s in stops):
        raise InvalidRequest(f"stop must be a text or a list of up to {_STOPS} texts, none of them empty", param="stop")
    return tuple(stops)


def _tools(given: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    tools = given.get("tools") or ()
    if not isinstance(tools, (list, tuple)) or not all(
        isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping) for tool in tools
    ):
        raise InvalidRequest("tools must be a list of objects with a function", param="tools")
    return tuple(tools)


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return View.model_validate(given.get("view") or {}).model_dump(exclude_none=True)
    except ValidationError:
        raise InvalidRequest("view takes enable_thinking and reasoning_effort", param="view") from None


class ChatProvider(CustomLLM):
    """What LiteLLM calls to answer a chat. `model` is the physical one; the proxy puts the client's name back."""

    def __init__(self, leased: Lender) -> None:
        super().__init__()
        self._leased = leased

    async def acompletion(
        self, *, model: str, messages: list[dict[str, Any]], optional_params: dict[str, Any], **_: Any
    ) -> ModelResponse:
        answer = _Answer(model)
        text = ""
        async with aclosing(self._pieces(model, messages, optional_params)) as pieces:
            async for piece in pieces:
                answer.count(piece)
                text += piece.text
        return answer.whole(text)

    async def astreaming(
        self, *, model: str, messages: list[dict[str, Any]], optional_params: dict[str, Any], **_: Any
    ) -> AsyncGenerator[ModelResponseStream, None]:
        answer = _Answer(model)
        async with aclosing(self._pieces(model, messages, optional_params)) as pieces:
            async for piece in pieces:
                answer.count(piece)
                if piece.text:
                    yield answer.chunk(piece.text)
        for chunk in answer.last_chunks():
            yield chunk

    async def _pieces(
        self, model: str, messages: list[dict[str, Any]], given: Mapping[str, Any]
    ) -> AsyncGenerator[Piece, None]:
        with errors_noted():
            parameters = Parameters.parse(given)
            work = self._leased.stream(model, lambda runtime: generate(runtime, messages, parameters))
            async with aclosing(work) as pieces:
                async for piece in pieces:
                    yield piece


async def generate(
    runtime: ChatRuntime, messages: Sequence[Mapping[str, Any]], parameters: Parameters
) -> AsyncGenerator[Piece, None]:
    """The answer to these messages, ended by a stop string where one comes up. The last piece has a finish reason."""
    try:
        prompt = dialect.render(
            messages,
            template=runtime.chat_template,
            special_tokens=runtime.special_tokens,
            control_tokens=runtime.control_tokens,
            tools=parameters.tools,
            options=parameters.options,
        )
    except (AttributeError, KeyError, TypeError):
        raise InvalidRequest("messages are not in the form that chat completions take", param="messages") from None
    scanner = dialect.StopScanner(parameters.stop)
    held = 0
    async with aclosing(runtime.generate(prompt, parameters.sampling)) as pieces:
        async for piece in pieces:
            text, stopped = scanner.feed(piece.text)
            held += piece.tokens
            if stopped:
                yield Piece(text, held, piece.prompt_tokens, "stop")
                return
            if piece.finish_reason:
                yield Piece(text + scanner.flush(), held, piece.prompt_tokens, piece.finish_reason)
                return
            if text:
                yield Piece(text, held, piece.prompt_tokens)
                held = 0


class _Answer:
    """One answer in OpenAI's shapes: the same id and time on each chunk."""

    def __init__(self, model: str) -> None:
        self._identity = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._role: str | None = "assistant"
        self._prompt_tokens = self._completion_tokens = 0
        self._finish_reason: FinishReason | None = None

    def count(self, piece: Piece) -> None:
        self._prompt_tokens = piece.prompt_tokens
        self._completion_tokens += piece.tokens
        self._finish_reason = piece.finish_reason

    def whole(self, text: str) -> ModelResponse:
        choice = Choices(finish_reason=self._finished(), index=0, message=Message(role="assistant", content=text))
        return ModelResponse(**self._identity, choices=[choice], usage=self._usage())

    def chunk(self, text: str) -> ModelResponseStream:
        delta, self._role = Delta(role=self._role, content=text), None
        return self._stream(StreamingChoices(index=0, delta=delta))

    def last_chunks(self) -> tuple[ModelResponseStream, ModelResponseStream]:
        """Usage first: LiteLLM looks at nothing that follows a finish reason, and would count tokens by itself."""
        usage = self._stream(StreamingChoices(index=0, delta=Delta()), usage=self._usage())
        return usage, self._stream(StreamingChoices(index=0, delta=Delta(), finish_reason=self._finished()))

    def _stream(self, choice: StreamingChoices, **more: Any) -> ModelResponseStream:
        return ModelResponseStream(**self._identity, choices=[choice], **more)

    def _usage(self) -> Usage:
        return Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            total_tokens=self._prompt_tokens + self._completion_tokens,
        )

    def _finished(self) -> FinishReason:
        if self._finish_reason is None:
            raise LlmuxError("the model ended its answer without a reason")
        return self._finish_reason
