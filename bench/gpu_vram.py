"""`python -m bench gpu-vram`: models of true size come and go on a real GPU, cut down to 16 GB. Needs CUDA.

The arbiter, its ledger, NVML and the runtimes are llmux's own, on the models of the shipped configuration; only the
weights are random. Another process holds what the card has beyond 16 GB. Work beyond --limit-s is left to the next run:
what was measured, and the weights, stay in --folder.
"""

import argparse
import asyncio
import importlib
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from bench.cast import ANSWER_TOKENS, PROMPT_TOKENS, RECORDING_S, Cast, cast, serve
from bench.copy_rate import CopyRates, copy_rates
from bench.held_card import CannotHold, hold_all_but
from bench.shipped import bytes_of, disk_folder, write_random
from bench.swap_table import table
from bench.swapping import Swapping
from bench.swaps import Progress, missed, resume, rows, steps
from llmux.arbitration import specs
from llmux.config import Config, load_config
from providers.runtime import Runtime
from vram.arbiter import Arbiter
from vram.device import Device, DeviceError, NvmlDevice, open_context
from vram.ledger import Ledger

CAP_BYTES = 16 * 10**9

DEVICE = "cuda"
"""As torch calls it."""

_SHIPPED = Path(__file__).parents[1] / "litellm_config.yaml"

_SPARE = 1.1
"""By how much a card must be larger than a model's weights for it to take part."""

_LOAD_S = 180.0

_STOP_S = 60.0


class CannotRun(Exception):
    """Not on this machine, or not like this. The message says what to do."""


def main(options: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench gpu-vram", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--swaps", type=int, default=200, help="loads over all runs (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="of the plan (default 1)")
    parser.add_argument("--limit-s", type=float, default=540, help="seconds that this run may take (default 540)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "llmux-gpu-vram")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    chosen = parser.parse_args(options)
    until_s = time.monotonic() + chosen.limit_s
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here is to be fetched
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    try:
        result = measure(chosen.folder.resolve(), chosen.swaps, chosen.seed, until_s)
    except (CannotRun, CannotHold, DeviceError) as error:
        print(f"gpu-vram: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=2) if chosen.json else "\n".join(table(result)))
    return 1 if result["missed"] else 0


def measure(folder: Path, swaps: int, seed: int, until_s: float) -> Mapping[str, Any]:
    """One run. Raises CannotRun, CannotHold and DeviceError."""
    total_bytes = card_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    config = configuration(folder)
    say("rehearsing each model on a few numbers")
    players = without_too_large(cast(config), total_bytes)
    if not players.models:
        raise CannotRun(
            "no model can take part: " + "; ".join(f"{name}: {why}" for name, why in players.left_out.items())
        )
    provide(players, config.models_dir)
    with hold_all_but(CAP_BYTES) as free_bytes:
        say(f"another process holds the card but for {free_bytes / 1e9:.2f} GB")
        device = NvmlDevice(min(CAP_BYTES, total_bytes))
        open_context()
        rates = copy_rates(largest_file(config.models_dir))
        about = {"seed": seed, **machine(device), "players": {name: players.plays(name) for name in players.models}}
        path = folder / "progress.json"
        progress = resume(path, about)
        progress.runs += 1
        left = asyncio.run(
            swap(
                players,
                config,
                device,
                progress,
                keep=lambda: progress.save(path),
                swaps=swaps,
                until_s=until_s,
            )
        )
        progress.save(path)
    return report(progress, players, rates, left, swaps)


def card_bytes() -> int:
    """The size of CUDA's first GPU. Raises CannotRun where torch has none, and DeviceError."""
    try:
        total_bytes = NvmlDevice().budget_bytes
    except DeviceError as error:
        raise CannotRun(f"{error}; run it on a machine with an NVIDIA GPU and its driver") from None
    import torch

    if not torch.cuda.is_available():
        raise CannotRun(
            f"torch {torch.__version__} cannot use the GPU; `make setup` installs a build for CUDA, unless "
            "PIP_FIND_LINKS names a folder with another"
        )
    return total_bytes


def configuration(folder: Path) -> Config:
    """The shipped one, but for where weights and measurements lie, and for files that nobody reads here."""
    data = yaml.safe_load(_SHIPPED.read_text(encoding="utf-8"))
    data["llmux"] |= {"models_dir": str(folder / "models"), "state_dir": str(folder / "state"), "budget": "auto"}
    for model in data["llmux"]["models"].values():
        model.pop("projector", None)
    path = folder / "litellm_config.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return load_config(path)


def without_too_large(players: Cast, total_bytes: int) -> Cast:
    fits, left_out = {}, dict(players.left_out)
    for name, model in players.models.items():
        try:
            if bytes_of(name, model) * _SPARE > total_bytes:
                left_out[name] = "larger than the card"
            else:
                fits[name] = model
        except (KeyError, ImportError) as error:
            left_out[name] = f"no random weights can be made for it ({error})"
    return Cast(fits, players.stand_ins, left_out)


def provide(players: Cast, models_dir: Path) -> None:
    """Write the weights that are not there yet. Raises CannotRun where the disk is too small."""
    models_dir.mkdir(parents=True, exist_ok=True)
    absent = {
        disk_folder(model): (name, model)
        for name, model in players.models.items()
        if not (models_dir / disk_folder(model)).exists()
    }
    needed_bytes = sum(bytes_of(name, model) for name, model in absent.values())
    free_bytes = shutil.disk_usage(models_dir).free
    if needed_bytes * 1.02 > free_bytes:
        raise CannotRun(
            f"the weights need {needed_bytes / 1e9:.0f} GB in {models_dir}, where {free_bytes / 1e9:.0f} GB are free; "
            "name another place with --folder (/dev/shm, where there is so much memory)"
        )
    for name, model in players.models.items():
        started_s = time.monotonic()
        try:
            write_random(name, model, models_dir)
        except OSError as error:
            raise CannotRun(f"the weights of {name} cannot be written: {error.strerror}") from error
        took_s = time.monotonic() - started_s
        if disk_folder(model) in absent and took_s > 1:
            say(f"wrote {name}, {bytes_of(name, model) / 1e9:.1f} GB in {took_s:.0f} s")


def largest_file(models_dir: Path) -> Path:
    return max((path for path in models_dir.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


async def swap(
    players: Cast,
    config: Config,
    device: Device,
    progress: Progress,
    *,
    keep: Callable[[], None],
    swaps: int,
    until_s: float,
) -> int | None:
    """Go on with the swaps. In bytes, what the card holds more at the end, when no model is loaded, than before."""
    models = {name: spec for name, spec in specs(config, on_gpu=True).items() if name in players.models}
    ledger = Ledger(config.state_dir / "ledger.json", device.name)

    async def load(model: str) -> Runtime:
        say(f"{len(progress.stays)} swaps done; loads {model}")
        return await players.load(model, config, DEVICE)

    swapping = Swapping(
        load, serve, device, lambda model: ledger.figures(models[model]).measured_bytes is not None, progress, keep
    )
    wait = config.settings.max_wait_s
    arbiter = Arbiter(
        models,
        device,
        ledger,
        swapping,
        max_wait_s={"asr": wait.asr, "tts": wait.tts, "llm": wait.llm},
        queue_per_model=config.settings.queue.per_model,
        queue_total=config.settings.queue.total,
        load_s=_LOAD_S,
        observer=swapping,
    )
    before = device.read()
    started_s = time.monotonic()
    await arbiter.start()
    try:
        await swapping.run(arbiter, steps(list(models), progress.of["seed"]), swaps=swaps, until_s=until_s)
    finally:
        await arbiter.stop(_STOP_S)
        progress.seconds += time.monotonic() - started_s
    after = device.read()
    return None if before is None or after is None else after.used_bytes - before.used_bytes


def machine(device: Device) -> Mapping[str, str]:
    import torch

    pynvml = importlib.import_module("pynvml")
    return {
        "card": device.name,
        "driver": pynvml.nvmlSystemGetDriverVersion(),
        "cuda": str(torch.version.cuda),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def report(
    progress: Progress, players: Cast, rates: CopyRates, left_bytes: int | None, swaps: int
) -> Mapping[str, Any]:
    """The result as plain values: bytes, seconds, bytes a second."""
    sizes = {name: bytes_of(name, model) for name, model in players.models.items()}
    return {
        "about": progress.of,
        "work": {"prompt_tokens": PROMPT_TOKENS, "answer_tokens": ANSWER_TOKENS, "recording_s": RECORDING_S},
        "stand_ins": dict(players.stand_ins),
        "left_out": dict(players.left_out),
        "rates": asdict(rates),
        "runs": progress.runs,
        "seconds": progress.seconds,
        "steps": progress.steps,
        "swaps": len(progress.stays),
        "evictions": progress.evictions,
        "out_of_memory": progress.out_of_memory,
        "left_at_the_end_bytes": left_bytes,
        "models": [
            {
                **asdict(row),
                "player": players.plays(row.model),
                "weights_bytes": sizes[row.model],
                "copy_s": sizes[row.model] / rates.pinned,
                "read_s": sizes[row.model] / rates.cached,
            }
            for row in rows(progress.stays)
        ],
        "missed": missed(progress, swaps),
    }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
