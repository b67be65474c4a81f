"""Loads the runtime that a model's configuration names, and nothing of any other: importing one costs seconds."""

import importlib
from collections.abc import Mapping, Sequence
from typing import cast

from llmux.config import Config, Model, RuntimeName, Task
from llmux.errors import RuntimeMissing
from llmux.weights import require_weights
from providers.runtime import Clip, Runtime

MODULES: Mapping[tuple[Task, RuntimeName], str] = {
    ("llm", "llama.cpp"): "providers.llamacpp",
    ("llm", "transformers"): "providers.transformers_chat",
    ("asr", "transformers"): "providers.transformers_asr",
    ("tts", "chatterbox"): "providers.chatterbox",
    ("tts", "hibari"): "providers.hibari",
}
"""Each offers `async def load(model, folder) -> Runtime`; those of speech `def voices(clips) -> Sequence[str]` too, the
names beside "default" that it answers to when it can take over these clips, for whoever asks before it is loaded.
"""


def voices_of(model: Model, clips: Mapping[str, Clip]) -> Sequence[str]:
    """What a speech model answers to beside "default", without loading it."""
    module = importlib.import_module(MODULES[model.task, model.runtime])
    return cast(Sequence[str], module.voices(clips))


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
