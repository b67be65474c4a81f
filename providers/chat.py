"""OpenAI's chat completions over any chat runtime, as a LiteLLM provider."""

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from litellm import CustomLLM
from litellm.types.utils import (
    ChatCompletionDeltaToolCall,
    ChatCompletionMessageToolCall,
    Choices,
    CompletionTokensDetailsWrapper,
    Delta,
    Function,
    Message,
    ModelResponse,
    ModelResponseStream,
    StreamingChoices,
    Usage,
)

from llmux.config import Settings
from llmux.errors import InvalidRequest, LlmuxError
from llmux.request import errors_noted
from providers import dialect, images
from providers.download import Download
from providers.leased import Lender
from providers.markup import ToolCall, markup_of
from providers.parameters import Parameters
from providers.reply import Part, Reply, Text
from providers.runtime import ChatRuntime, FinishReason, Image


@dataclass(frozen=True, slots=True)
class Step:
    """How an answer went on.

    tokens: how many were generated for it; reasoning_tokens: those of them that were reasoning, its markup included
    prompt_tokens, finish_reason: as in Piece
    """

    parts: Sequence[Part]
    tokens: int
    reasoning_tokens: int
    prompt_tokens: int
    finish_reason: FinishReason | None = None


class ChatProvider(CustomLLM):
    """What LiteLLM calls to answer a chat. `model` is the physical one; the proxy puts the client's name back."""

    def __init__(self, leased: Lender, settings: Settings) -> None:
        super().__init__()
        self._leased = leased
        self._settings = settings
        self._download = Download(settings.images)

    async def acompletion(
        self, *, model: str, messages: list[dict[str, Any]], optional_params: dict[str, Any], **_: Any
    ) -> ModelResponse:
        answer = _Answer(model)
        parts: list[Part] = []
        async with aclosing(self._steps(model, messages, optional_params)) as steps:
            async for step in steps:
                answer.count(step)
                parts += step.parts
        return answer.whole(parts)

    async def astreaming(
        self, *, model: str, messages: list[dict[str, Any]], optional_params: dict[str, Any], **_: Any
    ) -> AsyncGenerator[ModelResponseStream, None]:
        answer = _Answer(model)
        async with aclosing(self._steps(model, messages, optional_params)) as steps:
            async for step in steps:
                answer.count(step)
                for part in step.parts:
                    yield answer.chunk(part)
        for chunk in answer.last_chunks():
            yield chunk

    async def _steps(
        self, model: str, messages: list[dict[str, Any]], given: Mapping[str, Any]
    ) -> AsyncGenerator[Step, None]:
        with errors_noted():
            parameters = Parameters.parse(given)
            seen = await self._images(model, messages)
            work = self._leased.stream(model, lambda runtime: generate(runtime, messages, parameters, seen))
            async with aclosing(work) as steps:
                async for step in steps:
                    yield step

    async def _images(self, model: str, messages: Sequence[Mapping[str, Any]]) -> list[Image]:
        """Before the model is leased: it need not wait for a download, and need not be loaded to be blind."""
        addresses = list(images.urls(messages))
        if addresses and "vision" not in self._settings.models[model].capabilities:
            raise InvalidRequest("this model takes no images; ask one that does, or leave them out", param="messages")
        return await images.load(addresses, self._settings.images, self._download)


async def generate(
    runtime: ChatRuntime, messages: Sequence[Mapping[str, Any]], parameters: Parameters, seen: Sequence[Image] = ()
) -> AsyncGenerator[Step, None]:
    """The answer to these messages. The last step has a finish reason.

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
    reply = Reply(markup_of(runtime.chat_template), prompt, tools=parameters.tools)
    end = _End(parameters)
    tokens = reasoning_tokens = 0
    async with aclosing(runtime.generate(prompt, parameters.sampling, seen)) as pieces:
        async for piece in pieces:
            reasoned = reply.reasoning
            parts = reply.feed(piece.text)
            tokens += piece.tokens
            reasoning_tokens += piece.tokens if reasoned or reply.reasoning else 0
            if piece.finish_reason:
                parts += reply.finish()
            shown = end.shown(parts)
            if piece.finish_reason and not end.reached:
                shown += end.rest()
            reason = end.reason(piece.finish_reason)
            if shown or reason:
                yield Step(shown, tokens, reasoning_tokens, piece.prompt_tokens, reason)
                tokens = reasoning_tokens = 0
            if reason:
                return


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
                shown += [Text(text)] if text else []
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


class _Answer:
    """One answer in OpenAI's shapes: the same id and time on each chunk."""

    def __init__(self, model: str) -> None:
        self._identity = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._role: str | None = "assistant"
        self._calls = 0
        self._prompt_tokens = self._completion_tokens = self._reasoning_tokens = 0
        self._finish_reason: FinishReason | None = None

    def count(self, step: Step) -> None:
        self._prompt_tokens = step.prompt_tokens
        self._completion_tokens += step.tokens
        self._reasoning_tokens += step.reasoning_tokens
        self._finish_reason = step.finish_reason

    def whole(self, parts: Sequence[Part]) -> ModelResponse:
        texts = [part for part in parts if isinstance(part, Text)]
        calls = [part for part in parts if isinstance(part, ToolCall)]
        message: dict[str, Any] = {"content": "".join(text.text for text in texts if not text.reasoning)}
        if reasoning := "".join(text.text for text in texts if text.reasoning):
            message["reasoning_content"] = reasoning
        if calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [
                ChatCompletionMessageToolCall(id=call.id, type="function", function=_function(call)) for call in calls
            ]
        choice = Choices(finish_reason=self._finished(), index=0, message=Message(role="assistant", **message))
        return ModelResponse(**self._identity, choices=[choice], usage=self._usage())

    def chunk(self, part: Part) -> ModelResponseStream:
        said: dict[str, Any]
        if isinstance(part, ToolCall):
            call = ChatCompletionDeltaToolCall(index=self._calls, id=part.id, type="function", function=_function(part))
            said = {"tool_calls": [call]}
            self._calls += 1
        else:
            said = {"reasoning_content" if part.reasoning else "content": part.text}
        delta, self._role = Delta(role=self._role, **said), None
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
            completion_tokens_details=CompletionTokensDetailsWrapper(reasoning_tokens=self._reasoning_tokens),
        )

    def _finished(self) -> FinishReason:
        if self._finish_reason is None:
            raise LlmuxError("the model ended its answer without a reason")
        return self._finish_reason


def _function(call: ToolCall) -> Function:
    return Function(name=call.name, arguments=call.arguments)
