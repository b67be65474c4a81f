"""One chat completion in OpenAI's shapes, whole or chunk by chunk."""

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from litellm.types.utils import (
    ChatCompletionDeltaToolCall,
    ChatCompletionMessageToolCall,
    ChatCompletionTokenLogprob,
    ChoiceLogprobs,
    Choices,
    CompletionTokensDetailsWrapper,
    Delta,
    Function,
    Message,
    ModelResponse,
    ModelResponseStream,
    PromptTokensDetailsWrapper,
    StreamingChoices,
    TopLogprob,
    Usage,
)

from llmux.errors import LlmuxError
from providers.generation import Step
from providers.markup import ToolCall
from providers.reply import Part, Text
from providers.runtime import FinishReason, TokenLogprob
from providers.text_chunk import TextChunk, text_chunk


@dataclass(slots=True)
class _Choice:
    """What is known of one answer. calls: how many were streamed; role: what the next chunk still has to say;
    chunk: like those that say its text, and never sent
    """

    parts: list[Part] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    role: str | None = "assistant"
    calls: int = 0
    chunk: TextChunk | None = None


class Completion:
    """The same id and time on each chunk. Each step is either told to `add` or to `chunks`.

    choices: how many answers there are
    logprobs: whether they were asked for
    deployment: LiteLLM's id of the entry that is asked; for each chunk without it LiteLLM looks through all entries
    """

    def __init__(self, model: str, choices: int, *, logprobs: bool, deployment: str | None = None) -> None:
        self._identity = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._hidden = {} if deployment is None else {"model_id": deployment}
        self._choices = [_Choice() for _ in range(choices)]
        self._logprobs = logprobs
        self._prompt_tokens = self._cached_tokens = self._completion_tokens = self._reasoning_tokens = 0

    def add(self, step: Step) -> None:
        self._count(step)
        choice = self._choices[step.choice]
        choice.parts += step.parts
        choice.logprobs += step.logprobs

    def whole(self) -> ModelResponse:
        choices = [self._whole(index, choice) for index, choice in enumerate(self._choices)]
        return ModelResponse(**self._identity, choices=choices, usage=self._usage())

    def chunks(self, step: Step) -> Iterator[ModelResponseStream]:
        self._count(step)
        choice, logprobs = self._choices[step.choice], list(step.logprobs)
        parts = list(step.parts)
        if logprobs and not any(_is_said(part) for part in parts):
            parts.append(Text(""))
        for part in parts:
            told = logprobs if logprobs and _is_said(part) else []
            if isinstance(part, Text) and not told and choice.role is None:
                yield self._text_chunk(step.choice, part)
            else:
                yield self._chunk(step.choice, self._delta(choice, part), _logprobs(told) if told else None)
            logprobs = [] if told else logprobs
        if step.finish_reason and step.choice:
            # LiteLLM takes the end of a chunk's first choice for that of the stream; hooks/usage.py takes the silent
            # one away.
            silent = StreamingChoices(index=step.choice, delta=Delta())
            yield self._stream(silent, self._end(step.choice))

    def last_chunks(self) -> tuple[ModelResponseStream, ModelResponseStream]:
        """Usage first: LiteLLM looks at nothing that follows a finish reason, and would count tokens by itself."""
        usage = self._stream(StreamingChoices(index=0, delta=Delta()), usage=self._usage())
        return usage, self._stream(self._end(0))

    def _count(self, step: Step) -> None:
        self._prompt_tokens, self._cached_tokens = step.prompt_tokens, step.cached_tokens
        self._completion_tokens += step.tokens
        self._reasoning_tokens += step.reasoning_tokens
        self._choices[step.choice].finish_reason = step.finish_reason

    def _whole(self, index: int, choice: _Choice) -> Choices:
        texts = [part for part in choice.parts if isinstance(part, Text)]
        calls = [part for part in choice.parts if isinstance(part, ToolCall)]
        message: dict[str, Any] = {"content": "".join(text.text for text in texts if not text.reasoning)}
        if reasoning := "".join(text.text for text in texts if text.reasoning):
            message["reasoning_content"] = reasoning
        if calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [
                ChatCompletionMessageToolCall(id=call.id, type="function", function=_function(call)) for call in calls
            ]
        told = {"logprobs": _logprobs(choice.logprobs)} if self._logprobs else {}
        return Choices(
            finish_reason=_finished(choice), index=index, message=Message(role="assistant", **message), **told
        )

    def _delta(self, choice: _Choice, part: Part) -> Delta:
        said: dict[str, Any]
        if isinstance(part, ToolCall):
            call = ChatCompletionDeltaToolCall(
                index=choice.calls, id=part.id, type="function", function=_function(part)
            )
            said = {"tool_calls": [call]}
            choice.calls += 1
        else:
            said = {_field(part): part.text}
        delta, choice.role = Delta(role=choice.role, **said), None
        return delta

    def _text_chunk(self, index: int, part: Text) -> ModelResponseStream:
        choice = self._choices[index]
        if choice.chunk is None:
            choice.chunk = text_chunk(self._identity, {**self._hidden}, index)
        return choice.chunk.saying(_field(part), part.text)

    def _chunk(self, index: int, delta: Delta, logprobs: ChoiceLogprobs | None) -> ModelResponseStream:
        return self._stream(StreamingChoices(index=index, delta=delta, logprobs=logprobs))

    def _end(self, index: int) -> StreamingChoices:
        return StreamingChoices(index=index, delta=Delta(), finish_reason=_finished(self._choices[index]))

    def _stream(self, *choices: StreamingChoices, **more: Any) -> ModelResponseStream:
        chunk = ModelResponseStream(**self._identity, choices=list(choices), **more)
        chunk.hidden_params = {**self._hidden}
        return chunk

    def _usage(self) -> Usage:
        return Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            total_tokens=self._prompt_tokens + self._completion_tokens,
            prompt_tokens_details=PromptTokensDetailsWrapper(cached_tokens=self._cached_tokens),
            completion_tokens_details=CompletionTokensDetailsWrapper(reasoning_tokens=self._reasoning_tokens),
        )


def _finished(choice: _Choice) -> FinishReason:
    if choice.finish_reason is None:
        raise LlmuxError("the model ended its answer without a reason")
    return choice.finish_reason


def _field(part: Text) -> str:
    return "reasoning_content" if part.reasoning else "content"


def _is_said(part: Part) -> bool:
    return isinstance(part, Text) and not part.reasoning


def _function(call: ToolCall) -> Function:
    return Function(name=call.name, arguments=call.arguments)


def _logprobs(tokens: Sequence[TokenLogprob]) -> ChoiceLogprobs:
    return ChoiceLogprobs(
        content=[
            ChatCompletionTokenLogprob(
                token=token.token,
                bytes=list(token.bytes),
                logprob=token.logprob,
                top_logprobs=[
                    TopLogprob(token=text, bytes=list(spelled), logprob=logprob) for text, spelled, logprob in token.top
                ],
            )
            for token in tokens
        ]
    )
