"""What bench.gpu_vram found, as a table."""

from collections.abc import Iterator, Mapping
from typing import Any


def table(result: Mapping[str, Any]) -> Iterator[str]:
    """As a person reads it."""
    about, rates = result["about"], result["rates"]
    yield f"{about['card']}, driver {about['driver']}, CUDA {about['cuda']}, torch {about['torch']}, " + (
        f"transformers {about['transformers']}, {about['system']}"
    )
    yield (
        f"{result['swaps']} swaps in {result['steps']} steps, {result['runs']} runs, {result['seconds']:.0f} s, "
        f"seed {about['seed']}"
    )
    evictions = ", ".join(f"{why} {count}" for why, count in result["evictions"].items())
    yield f"out of memory: {result['out_of_memory']}; evictions: {evictions or 'none'}"
    yield "GB/s: " + ", ".join(f"{name} {rate / 1e9:.1f}" for name, rate in rates.items())
    yield ""
    yield (
        f"{'':28}{'player':14}{'loads':>6}{'weights':>9}{'taken':>8}{'first':>9}{'later':>8}"
        f"{'load s':>8}{'copy s':>8}{'read s':>8}{'left MB':>9}{'process':>9}"
    )
    for row in result["models"]:
        yield (
            f"{row['model']:28}{row['player']:14}{row['loads']:>6}{row['weights_bytes'] / 1e9:>9.2f}"
            f"{_scaled(row['taken_bytes'], 1e9, 2):>8}{_share(row['first_error']):>9}{_share(row['worst_error']):>8}"
            f"{row['load_s']:>8.1f}{row['copy_s']:>8.1f}{row['read_s']:>8.1f}"
            f"{_scaled(row['left_card_bytes'], 1e6, 0):>9}{_scaled(row['left_process_bytes'], 1e6, 0):>9}"
        )
    yield "weights, taken: GB. first, later: how far the prediction of the first load and the worst later one was off."
    yield "copy, read: seconds that the weights need from pinned memory, and from the page cache."
    yield "left: what an unload does not give back, by what the card and by what this process holds."
    left = _scaled(result["left_at_the_end_bytes"], 1e6, 0)
    yield f"held at the end of the last run, with all models unloaded, beyond its beginning: {left} MB"
    yield from (f"stand-in for {name}: {why}" for name, why in result["stand_ins"].items())
    yield from (f"left out, {name}: {why}" for name, why in result["left_out"].items())
    yield from (f"goal missed: {goal}" for goal in result["missed"])


def _scaled(size: int | None, unit: float, digits: int) -> str:
    return "-" if size is None else f"{size / unit:.{digits}f}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:+.1%}"
