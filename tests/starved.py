"""A process with little memory loads a model: `python -m tests.starved MODEL SPARE_MB MODELS_DIR [CONTEXT]`.

SPARE_MB is what its address space may still grow by once the libraries are imported. Prints what the load came to.
"""

import asyncio
import resource
import sys
from pathlib import Path
from typing import Any

import llama_cpp  # noqa: F401 - imported before memory gets short
from transformers import WhisperForConditionalGeneration, WhisperProcessor  # noqa: F401

from llmux.config import Model
from providers import llamacpp, transformers_asr
from providers.runtime import Runtime

MODELS: dict[str, tuple[Any, dict[str, str]]] = {
    "smollm2": (
        llamacpp,
        {"task": "llm", "runtime": "llama.cpp", "weights": "smollm2-135m", "file": "SmolLM2-135M-Instruct.Q4_1.gguf"},
    ),
    "whisper": (transformers_asr, {"task": "asr", "runtime": "transformers", "weights": "whisper-base"}),
}


async def load(name: str, models_dir: str, context: str = "2048") -> str:
    module, entry = MODELS[name]
    model = Model.model_validate({**entry, "estimate": "1 GB", "context": int(context)})
    try:
        runtime: Runtime = await module.load(model, Path(models_dir) / entry["weights"])
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    await runtime.close()
    return "loaded"


name, spare_mb, *where = sys.argv[1:]
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(spare_mb) * 10**6
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
sys.stdout.write(asyncio.run(load(name, *where)) + "\n")
