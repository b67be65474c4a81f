"""What the arbiter knows about a physical model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Task = Literal["asr", "tts", "llm"]

PRIORITY: Mapping[Task, int] = {"llm": 0, "tts": 1, "asr": 2}
"""The higher goes first as a waiter and leaves last as a resident."""


@dataclass(frozen=True, slots=True)
class Files:
    """What a load will read, and how it will be used: enough to predict what it takes.

    runtime: its name in the configuration
    weights: safetensors files, whole or sharded, or one GGUF; they need not be there yet
    config: the model's config.json, for runtimes that read one
    projector: what turns images into embeddings, where that is a file of its own
    context: tokens per sequence; sequences: how many are held at one time
    """

    runtime: str
    weights: tuple[Path, ...]
    config: Path | None = None
    projector: Path | None = None
    context: int = 0
    sequences: int = 1


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A physical model, as configured.

    estimate_bytes: what it occupies on the device, believed while there are no files to look at and no measurement
    max_concurrency: leases at one time
    ledger_key: what its memory depends on (weights, context, parallel sequences); None stands for the id
    pinned: never evicted once it is resident, until it is unpinned
    preload: loaded when the arbiter starts, if it fits then
    idle_unload_s: seconds without a lease after which it is unloaded; None: only when others need the room
    files: what its first load is predicted from
    """

    id: str
    task: Task
    estimate_bytes: int
    max_concurrency: int = 1
    ledger_key: str | None = None
    pinned: bool = False
    preload: bool = False
    idle_unload_s: float | None = None
    files: Files | None = None
