"""The arbiter as the configuration wants it: which models, what device, how long anybody waits."""

from collections.abc import Callable, Mapping
from pathlib import Path

from llmux.config import Config, Model
from llmux.weights import needed_files
from providers.loading import Loading
from providers.runtime import Runtime
from vram.arbiter import Arbiter
from vram.device import find_device, open_context
from vram.ledger import Ledger
from vram.model import Files, ModelSpec
from vram.observer import Observer


def arbiter_of(
    config: Config, observer: Observer | None = None, on_failure: Callable[[], None] = lambda: None
) -> Arbiter[Runtime]:
    """The arbiter for a configuration's models. Raises vram.device.DeviceError without GPU and without budget.

    on_failure: called once when the GPU has failed under this process
    """
    settings = config.settings
    device = find_device(settings.budget)
    on_gpu = device.read() is not None
    if on_gpu:
        open_context()
    wait = settings.max_wait_s
    return Arbiter(
        specs(config, on_gpu=on_gpu),
        device,
        Ledger(config.state_dir / "ledger.json", device.name),
        Loading(config),
        max_wait_s={"asr": wait.asr, "tts": wait.tts, "llm": wait.llm},
        queue_per_model=settings.queue.per_model,
        queue_total=settings.queue.total,
        load_s=settings.limits.load_s,
        observer=observer,
        on_failure=on_failure,
    )


def specs(config: Config, *, on_gpu: bool) -> Mapping[str, ModelSpec]:
    """What the arbiter knows of each physical model, by id.

    on_gpu: predict first loads from the weights. Where there is none, the budget is a sum that somebody chose for the
    estimates, and nothing is ever measured that would correct a prediction of what a GPU would hold.
    """
    return {
        name: ModelSpec(
            name,
            model.task,
            model.estimate,
            max_concurrency=model.max_concurrency,
            ledger_key=_key(model),
            pinned=model.pin,
            preload=model.preload,
            idle_unload_s=model.idle_unload_s,
            files=_files(model, config.models_dir) if on_gpu else None,
        )
        for name, model in config.settings.models.items()
    }


def _key(model: Model) -> str:
    """What a measurement of it holds for, beside the device."""
    parts = (model.weights, model.file, model.variant, model.projector)
    return "/".join(str(part) for part in parts if part is not None) + f" {model.context}x{model.max_concurrency}"


def _files(model: Model, models_dir: Path) -> Files | None:
    if model.weights is None:
        return None
    folder = models_dir / model.weights
    chat = model.task == "llm"
    match model.runtime:
        case "llama.cpp":
            assert model.file is not None
            weights = [folder / model.file]
        case "transformers":
            weights = [folder / "model.safetensors"]
        case _:
            suffixes = (".safetensors", ".pt")
            weights = [models_dir / path for path in needed_files(model, models_dir) if path.suffix in suffixes]
    return Files(
        runtime=model.runtime,
        weights=tuple(weights),
        config=folder / "config.json" if model.runtime == "transformers" else None,
        projector=folder / model.projector if model.projector is not None else None,
        context=model.context if chat else 0,
        sequences=model.max_concurrency if chat else 1,
    )
