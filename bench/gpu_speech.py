"""`python -m bench gpu-speech`: chatterbox's three variants at their real sizes, on random weights. Needs CUDA.

Time to the first piece, seconds of sound a second, and the GPU's memory before a load, while the model is loaded, at
its most, and after the unload. Untrained, a voice hardly ever comes to an end by itself, so each piece is given as many
speech tokens as a trained one needs for it: 25 a second, at 15 characters a second.
"""

import argparse
import asyncio
import importlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args
from unittest import mock

from bench import random_chatterbox
from bench.random_chatterbox import Variant
from bench.speech import SENTENCES
from llmux.config import Model
from providers import chatterbox

TOKENS_PER_S = 25

CHARACTERS_PER_S = 15

TEXT = " ".join(SENTENCES)


def main(options: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench gpu-speech", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="times that the text is spoken (default 3)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    chosen = parser.parse_args(options)
    import torch

    if not torch.cuda.is_available():
        print("gpu-speech: torch has no GPU here; run it on a machine with CUDA", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        rows = [asyncio.run(measure(variant, Path(folder), chosen.rounds)) for variant in get_args(Variant)]
    result = {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "variants": rows}
    print(json.dumps(result, indent=2) if chosen.json else "\n".join(table(result)))
    return 0


async def measure(variant: Variant, folder: Path, rounds: int) -> Mapping[str, Any]:
    """Of one variant: bytes, seconds, and seconds of sound a second."""
    import torch

    given = {"task": "tts", "runtime": "chatterbox", "weights": variant, "variant": variant, "estimate": "1 GB"}
    random_chatterbox.write(folder / variant, variant)
    before_bytes = used_bytes()
    started_s = time.perf_counter()
    runtime = await chatterbox.load(Model.model_validate(given), folder / variant)
    load_s = time.perf_counter() - started_s
    loaded_bytes = used_bytes()
    torch.cuda.reset_peak_memory_stats()
    firsts: list[float] = []
    sounds, began_s = 0, time.perf_counter()
    with lengths_as_trained():
        for number in range(rounds + 1):  # the first warms the kernels
            if number == 1:
                firsts, sounds, began_s = [], 0, time.perf_counter()
            asked_s, heard = time.perf_counter(), 0
            async for take in runtime.synthesize(TEXT, voice="default", speed=1.0, options={"seed": number}):
                if not heard:
                    firsts.append(time.perf_counter() - asked_s)
                heard += len(take)
            sounds += heard
    took_s = time.perf_counter() - began_s
    most_bytes = torch.cuda.max_memory_reserved() - torch.cuda.memory_reserved() + used_bytes()
    rate = runtime.sample_rate
    await runtime.close()
    return {
        "variant": variant,
        "load_s": load_s,
        "first_piece_s": statistics.median(firsts),
        "realtime_factor": sounds / rate / took_s,
        "before_bytes": before_bytes,
        "loaded_bytes": loaded_bytes - before_bytes,
        "most_bytes": most_bytes - before_bytes,
        "left_bytes": used_bytes() - before_bytes,
    }


def used_bytes() -> int:
    """What the whole card holds, CUDA's own included."""
    import torch

    torch.cuda.synchronize()
    free_bytes, total_bytes = torch.cuda.mem_get_info()
    return int(total_bytes - free_bytes)


def tokens_for(characters: int) -> int:
    """Speech tokens that a trained voice needs for a text."""
    return max(TOKENS_PER_S, round(characters / CHARACTERS_PER_S * TOKENS_PER_S))


@contextmanager
def lengths_as_trained() -> Iterator[None]:
    """While this lasts, each piece has as many speech tokens as its text tokens, read as characters, call for."""
    model = importlib.import_module("chatterbox.models.t3.t3").T3
    spoken, turbo = model.inference, model.inference_turbo

    def inference(self: Any, **how: Any) -> Any:
        return spoken(self, **{**how, "max_new_tokens": tokens_for(how["text_tokens"].shape[-1])})

    def inference_turbo(self: Any, *arguments: Any, **how: Any) -> Any:
        return turbo(self, *arguments, **{**how, "max_gen_len": tokens_for(how["text_tokens"].shape[-1])})

    with mock.patch.multiple(model, inference=inference, inference_turbo=inference_turbo):
        yield


def table(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"{result['card']}, torch {result['torch']}; GB are 10^9 bytes"
    yield ""
    yield "| variant | load s | first piece s | sound s/s | loaded GB | at most GB | left GB |"
    yield "|---|---|---|---|---|---|---|"
    for row in result["variants"]:
        yield (
            f"| {row['variant']} | {row['load_s']:.1f} | {row['first_piece_s']:.2f} | {row['realtime_factor']:.2f} "
            f"| {row['loaded_bytes'] / 1e9:.2f} | {row['most_bytes'] / 1e9:.2f} | {row['left_bytes'] / 1e9:.2f} |"
        )
