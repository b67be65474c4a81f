"""What is in VRAM and who waits for it: as JSON for GET /vram, as a table for `llmux status`."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from vram.snapshot import ModelState, Snapshot

_WATCH_S = 1.0
"""How often a table that lives is drawn anew."""

_STYLES: Mapping[str, str] = {
    "absent": "dim",
    "loading": "yellow",
    "resident": "green",
    "busy": "bold green",
    "unloading": "yellow",
    "stuck": "bold red",
}


def report(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot in GB (10^9 bytes) and seconds."""
    return {
        "budget_gb": _gb(snapshot.budget_bytes),
        "used_gb": _gb(snapshot.charged_bytes),
        "unreturned_gb": _gb(snapshot.unreturned_bytes),
        "foreign_gb": _gb(snapshot.others_bytes),
        "free_gb": _gb(snapshot.available_bytes),
        "device_error": snapshot.device_error,
        "waiting": sum(model.waiting for model in snapshot.models),
        "models": {model.id: _model(model) for model in snapshot.models},
    }


def _model(model: ModelState) -> dict[str, Any]:
    return {
        "type": model.task,
        "state": _state(model),
        "load_percent": model.load_percent,
        "leases": model.leases,
        "pinned": model.pinned,
        "used_gb": 0.0 if model.phase == "absent" else _gb(model.bytes),
        "predicted_gb": _gb(model.predicted_bytes),
        "measured_gb": None if model.measured_bytes is None else _gb(model.measured_bytes),
        "last_used_s_ago": None if model.last_used_s_ago is None else round(model.last_used_s_ago, 1),
        "waiting": model.waiting,
        "queue": [
            {
                "position": wait.position,
                "waiting_for": wait.waiting_for,
                "load_percent": wait.load_percent,
                "expected_s": None if wait.expected_s is None else round(wait.expected_s, 1),
            }
            for wait in model.queue
        ],
    }


def _state(model: ModelState) -> str:
    if model.stuck:
        return "stuck"
    return "busy" if model.leases and model.phase == "resident" else model.phase


def _gb(size: int) -> float:
    return round(size / 1e9, 3)


def table(vram: Mapping[str, Any]) -> Group:
    """What GET /vram answered, for a terminal."""
    models = Table(
        Column("\nmodel", no_wrap=True),
        "\ntype",
        Column("\nstate", no_wrap=True),
        Column("GB\nnow", justify="right"),
        Column("GB\npred.", justify="right"),
        Column("GB\nmeas.", justify="right"),
        Column("last\nused", justify="right"),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for name, model in vram["models"].items():
        models.add_row(
            name,
            model["type"],
            _state_in_words(model),
            _size(model["used_gb"] or None),
            _size(model["predicted_gb"]),
            _size(model["measured_gb"]),
            _ago(model["last_used_s_ago"]),
            style=_STYLES[model["state"]],
        )
    lines = [Text(f"{name}: {_queue(model['queue'])}") for name, model in vram["models"].items() if model["queue"]]
    lines.append(Text(_device_in_words(vram)))
    if vram["device_error"] is not None:
        lines.append(Text(f"The device cannot be read: {vram['device_error']}", style="bold red"))
    return Group(models, *lines)


def _state_in_words(model: Mapping[str, Any]) -> str:
    state = str(model["state"])
    if state == "loading" and model["load_percent"] is not None:
        state = f"loading {model['load_percent']} %"
    elif state == "busy":
        state = f"busy {model['leases']}"
    return f"{state}, pinned" if model["pinned"] else state


def _queue(queue: list[Mapping[str, Any]]) -> str:
    """Who waits, by position, for what, and for about how long."""
    positions = ", ".join(f"#{wait['position']}" for wait in queue)
    first = queue[0]
    reason = {"queue": "its turn", "eviction": "room", "load": "its load"}[first["waiting_for"]]
    about = "" if first["expected_s"] is None else f", about {first['expected_s']:.0f} s"
    return f"{positions} in the queue wait for {reason}{about}"


def _device_in_words(vram: Mapping[str, Any]) -> str:
    return (
        f"budget {vram['budget_gb']:.2f} GB: models {vram['used_gb']:.2f}, unreturned {vram['unreturned_gb']:.2f}, "
        f"other processes {vram['foreign_gb']:.2f}, free {vram['free_gb']:.2f}"
    )


def _size(gigabytes: float | None) -> str:
    return "-" if gigabytes is None else f"{gigabytes:.2f}"


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.0f} h"


def watch(vram: Callable[[], Mapping[str, Any]], console: Console) -> None:
    """Draw the table anew every second, until Ctrl-C."""
    try:
        with Live(table(vram()), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(_WATCH_S)
                live.update(table(vram()), refresh=True)
    except KeyboardInterrupt:
        return
