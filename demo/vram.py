"""What is in VRAM after a step, and what the step moved."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rich.table import Column, Table


@dataclass(frozen=True, slots=True)
class Row:
    """One model, loaded now or until the step."""

    model: str
    task: str
    vram_gb: float
    change: Literal["loaded", "evicted", ""]


def rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Row]:
    """The models of two answers of GET /health, in the gateway's order, the evicted last."""
    old, new = before["loaded_models"], after["loaded_models"]
    stayed_or_came = [
        Row(name, model["type"], model["vram_gb"], "" if name in old else "loaded") for name, model in new.items()
    ]
    left = [Row(name, model["type"], model["vram_gb"], "evicted") for name, model in old.items() if name not in new]
    return stayed_or_came + left


def table(rows: list[Row], available_gb: float) -> Table:
    """The rows as a person reads them, in MB."""
    result = Table(
        Column("model", width=14),
        Column("task", width=4),
        Column("VRAM", width=7, justify="right"),
        Column("this step", width=9),
    )
    styles = {"loaded": "green", "evicted": "red", "": "none"}
    for row in rows:
        size = "-" if row.change == "evicted" else _megabytes(row.vram_gb)
        result.add_row(row.model, row.task, size, row.change, style=styles[row.change])
    result.add_section()
    result.add_row("free", "", _megabytes(available_gb), "")
    return result


def _megabytes(gigabytes: float) -> str:
    return f"{gigabytes * 1000:.0f} MB"
