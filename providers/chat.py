"""OpenAI's chat completions over any chat runtime, as a LiteLLM provider."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from litellm import CustomLLM
from litellm.types.utils import ModelResponse, ModelResponseStream

from llmux.config import Settings
from llmux.errors import InvalidRequest
from llmux.request import current, errors_noted
from providers import images
from providers.completion import Completion
from providers.constraint import check_schema
from providers.download import Download
from providers.generation import Step, generate
from providers.grammar import arguments_schema
from providers.leased import Lender
from providers.parameters import Parameters
from providers.runtime import Image


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
        with errors_noted():
            parameters = Parameters.parse(optional_params)
            completion = _completion(model, parameters)
            async with aclosing(await self._steps(model, messages, parameters)) as steps:
                async for step in steps:
                    completion.add(step)
            return completion.whole()

    async def astreaming(
        self,
        *,
        model: str,
        messages: list[dict[str, Any]],
        optional_params: dict[str, Any],
        litellm_params: Mapping[str, Any],
        **_: Any,
    ) -> AsyncGenerator[ModelResponseStream, None]:
        request = current()
        with errors_noted():
            parameters = Parameters.parse(optional_params)
            completion = _completion(model, parameters, litellm_params["model_info"]["id"])
            async with aclosing(await self._steps(model, messages, parameters)) as steps:
                async for step in steps:
                    request.silent = False
                    for chunk in completion.chunks(step):
                        yield chunk
            for chunk in completion.last_chunks():
                yield chunk

    async def _steps(
        self, model: str, messages: list[dict[str, Any]], parameters: Parameters
    ) -> AsyncGenerator[Step, None]:
        if parameters.schema is not None or parameters.demanded:
            await asyncio.to_thread(_check, parameters)
        seen = await self._images(model, messages)
        return self._leased.stream(model, lambda runtime: generate(runtime, messages, parameters, seen))

    async def _images(self, model: str, messages: Sequence[Mapping[str, Any]]) -> list[Image]:
        """Before the model is leased: it need not wait for a download, and need not be loaded to be blind."""
        addresses = list(images.urls(messages))
        if addresses and "vision" not in self._settings.models[model].capabilities:
            raise InvalidRequest("this model takes no images; ask one that does, or leave them out", param="messages")
        return await images.load(addresses, self._settings.images, self._download)


def _completion(model: str, parameters: Parameters, deployment: str | None = None) -> Completion:
    told = parameters.sampling.logprobs is not None
    return Completion(model, parameters.choices, logprobs=told, deployment=deployment)


def _check(parameters: Parameters) -> None:
    """What an answer is to be held to: refused before the model is leased, not after."""
    if parameters.schema is not None:
        check_schema(parameters.schema, "response_format.json_schema.schema")
    for tool in parameters.demanded or (parameters.tools if parameters.schema is not None else ()):
        at = parameters.tools.index(tool)
        check_schema(arguments_schema(tool), f"tools[{at}].function.parameters")
