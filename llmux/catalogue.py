"""What a configuration offers to clients: which names do what, and which cost nothing to switch to."""

from collections.abc import Sequence

from llmux.config import Config, Task

_EFFORTS = (None, "low", "medium", "high")


def names(config: Config, task: Task) -> Sequence[str]:
    """In the order of the configuration."""
    return [name for name in config.virtual if config.physical(name).task == task]


def thinks(config: Config, name: str) -> bool:
    """Whether a chat model answers with reasoning, unless it is asked for something else."""
    view = config.virtual[name].view
    return bool(view.enable_thinking or view.reasoning_effort)


def quickest(config: Config, name: str) -> str:
    """The view of the same physical model that thinks least: switching to it loads nothing."""
    physical = config.virtual[name].physical
    views = [each for each in config.virtual.values() if each.physical == physical]
    least = min(views, key=lambda each: (each.view.enable_thinking is True, _EFFORTS.index(each.view.reasoning_effort)))
    return least.name
