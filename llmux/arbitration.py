"""The arbiter as the configuration wants it: which models, what device, how long anybody waits."""

from llmux.config import Config
from providers.loading import Loading
from providers.runtime import Runtime
from vram.arbiter import Arbiter
from vram.device import find_device
from vram.ledger import Ledger
from vram.model import ModelSpec


def arbiter_of(config: Config) -> Arbiter[Runtime]:
    """The arbiter for a configuration's models. Raises vram.device.DeviceError without GPU and without budget."""
    settings = config.settings
    device = find_device(settings.budget)
    wait = settings.max_wait_s
    return Arbiter(
        {
            name: ModelSpec(
                name,
                model.task,
                model.estimate,
                max_concurrency=model.max_concurrency,
                ledger_key=f"{model.weights}/{model.file}/{model.variant} {model.context}x{model.max_concurrency}",
            )
            for name, model in settings.models.items()
        },
        device,
        Ledger(config.state_dir / "ledger.json", device.name),
        Loading(config),
        max_wait_s={"asr": wait.asr, "tts": wait.tts, "llm": wait.llm},
        queue_per_model=settings.queue.per_model,
        queue_total=settings.queue.total,
        load_s=settings.limits.load_s,
    )
