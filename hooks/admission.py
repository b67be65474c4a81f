"""Who may enter: LiteLLM asks here once per request, before routing, retries and fallbacks.

Cheap refusals only. The wait for the model, its load and its lease belong to the provider, which alone knows when the
work has ended.
"""

from collections.abc import Collection, Mapping
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import UserAPIKeyAuth

from hooks.body import refuse_malformed
from hooks.form import complete
from hooks.overrides import refuse_overrides
from hooks.permission import Permission
from hooks.tool_choice import narrow
from llmux.config import Config, Task
from llmux.errors import InvalidRequest, ModelNotFound, PermissionDenied, WrongTask, of_refusal
from llmux.request import current, errors_noted
from llmux.weights import require_weights
from vram.arbiter import Arbiter

TASK_OF_CALL: Mapping[str, Task] = {
    "completion": "llm",
    "acompletion": "llm",
    "text_completion": "llm",
    "atext_completion": "llm",
    "responses": "llm",
    "aresponses": "llm",
    "anthropic_messages": "llm",
    "transcription": "asr",
    "atranscription": "asr",
    "speech": "tts",
    "aspeech": "tts",
}

_TASK_NAMES: Mapping[Task, str] = {"llm": "chat", "asr": "transcription", "tts": "speech"}


class Admission(CustomLogger):
    """LiteLLM's pre-call hook.

    other_models: names in model_list that other providers of LiteLLM's serve; they pass
    """

    def __init__(
        self, config: Config, arbiter: Arbiter[Any], may_use: Permission, other_models: Collection[str] = ()
    ) -> None:
        super().__init__()
        self._may_use = may_use
        self._config = config
        self._arbiter = arbiter
        self._other_models = other_models
        self._aliases = config.aliases

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: object, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        with errors_noted():
            if (problem := current().problem) is not None:
                raise problem
            if TASK_OF_CALL.get(call_type) == "asr":
                complete(data)
            refuse_overrides(data)
            name = data.get("model")
            if not isinstance(name, str) or not name:
                raise InvalidRequest("model is missing; GET /v1/models lists the names", param="model")
            # LiteLLM looked at the body's model; a route's own may have taken its place since.
            if not await self._may_use(user_api_key_dict, name):
                raise PermissionDenied(f"this key may not use {name}; GET /v1/models lists what it may", param="model")
            if TASK_OF_CALL.get(call_type) == "llm":
                refuse_malformed(data, call_type)
            model = self._aliases.get(name, name)
            if model not in self._other_models:
                if TASK_OF_CALL.get(call_type) == "llm":
                    narrow(data)
                self._admit(model, call_type)
                current().model = name
                current().silent = TASK_OF_CALL.get(call_type) == "llm" and data.get("stream") is True
                current().streams = TASK_OF_CALL[call_type] != "tts" and data.get("stream") in (True, "true")
        return data

    def _admit(self, name: str, call_type: str) -> None:
        virtual = self._config.named(name)
        if virtual is None:
            raise ModelNotFound(f"there is no model {name!r}; GET /v1/models lists the names", param="model")
        model = self._config.settings.models[virtual.physical]
        wanted = TASK_OF_CALL.get(call_type)
        if model.task != wanted:
            here = f"; this route is for {_TASK_NAMES[wanted]}" if wanted else "; this route is not served"
            raise WrongTask(f"{name} is a model for {_TASK_NAMES[model.task]}{here}", param="model")
        if not self._arbiter.is_resident(virtual.physical):  # the index of a large model takes a while to read
            require_weights(virtual.physical, self._config)
        refused = self._arbiter.refusal(virtual.physical)
        if refused is not None:
            raise of_refusal(refused)
