"""Loads the runtime that a model's configuration names, and nothing of any other: importing one costs seconds."""

import importlib
from collections.abc import Mapping
from typing import cast

from llmux.config import Config, RuntimeName, Task
from llmux.errors import RuntimeMissing
from llmux.weights import require_weights
from providers.runtime import Runtime

MODULES: Mapping[tuple[Task, RuntimeName], str] = {
    ("llm", "llama.cpp"): "providers.llamacpp",
    ("llm", "transformers"): "providers.transformers_chat",
    ("asr", "transformers"): "providers.transformers_asr",
    ("tts", "chatterbox"): "providers.chatterbox",
    ("tts", "hibari"): "providers.hibari",
}
"""Each offers `async def load(model, folder) -> Runtime`; those of speech `def voices() -> Sequence[str]` too, the names
that it answers to beside "default", for whoever asks before it is loaded.
"""


class Loading:
    """What the arbiter calls to load and unload a model."""

    def __init__(self, config: Config) -> None:
        self._config = config

    async def load(self, model: str) -> Runtime:
        """Raises WeightsMissing, RuntimeMissing, or what the runtime raises."""
        entry = self._config.settings.models[model]
        require_weights(model, self._config)
        module = MODULES.get((entry.task, entry.runtime))
        if module is None:
            raise RuntimeMissing(f"{model} runs on {entry.runtime}, which this version cannot load yet", param="model")
        runtime = importlib.import_module(module)
        return cast(Runtime, await runtime.load(entry, self._config.models_dir / (entry.weights or ".")))

    async def unload(self, model: str, runtime: Runtime) -> None:
        await runtime.close()
