"""How well and how fast is speech written down, what does that hold, and what survives damaged files?

Speech is made by the voice that comes with llmux, and heard by Whisper base (`make models`), through the gateway as
clients meet it. faster-whisper hears the same files with the same weights; it is installed into a folder of its own.
"""

import argparse
import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from llmux.litellm_settings import ENVIRONMENT

os.environ.update(ENVIRONMENT)  # the same for both sides, and before anything imports torch

from bench.faster_whisper_peer import Peer
from bench.mutation import mutated
from bench.sentences import sentences
from bench.served import served
from bench.word_errors import word_error_rate
from demo.models import cache_folder
from llmux.config import Model
from providers import audio
from providers.runtime import Samples
from providers.vad import FRAME
from providers.window import Window, windows

FOLDER = Path("state/bench/transcription")
_RATE = 16_000

_CONFIG = """\
model_list:
  - {{model_name: Ears, litellm_params: {{model: llmux/whisper}}}}
llmux:
  budget: 1 GB
  database: none
  models_dir: {models}
  models:
    whisper: {{task: asr, runtime: transformers, weights: whisper-base, estimate: 300 MB, max_concurrency: 8}}
"""


@dataclass(frozen=True, slots=True)
class Spoken:
    """text: what was said; file: a WAV"""

    text: str
    file: Path
    length_s: float


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench transcription", description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given several times")
    parser.add_argument("--count", type=int, default=100, help="sentences to speak (default 100)")
    parser.add_argument("--mutated", type=int, default=500, help="damaged files to send (default 500)")
    parser.add_argument("--minutes", type=float, default=120, help="length of the long recording (default 120)")
    options = parser.parse_args(arguments)
    FOLDER.mkdir(parents=True, exist_ok=True)
    config = FOLDER / "config.yaml"
    config.write_text(_CONFIG.format(models=cache_folder()))
    spoken = speak(sentences(options.count))
    print(f"{len(spoken)} texts, {sum(each.length_s for each in spoken):.0f} s of speech", flush=True)
    kept = [PARTS[part](spoken, config, options) for part in options.only or PARTS]
    return 0 if all(kept) else 1


def speak(texts: Sequence[str]) -> list[Spoken]:
    """Each as a WAV file, made once."""
    voice: Any = None
    spoken = []
    for number, text in enumerate(texts):
        file = FOLDER / f"{number:03}-of-{len(texts)}.wav"
        if not file.exists():
            if voice is None:
                from hibari import Hibari

                voice = Hibari()
            file.write_bytes(_wav(np.concatenate([voice(part, seed=1) for part in text.split(". ")]), 24_000))
        spoken.append(Spoken(text, file, (file.stat().st_size - 44) / 2 / 24_000))
    return spoken


def _wav(samples: Samples, rate: int) -> bytes:
    encoder = audio.Encoder("wav", rate)
    return encoder.encode(samples) + encoder.finish()


def word_errors(spoken: Sequence[Spoken], config: Path, options: argparse.Namespace) -> bool:
    """Keeps within half a point of faster-whisper."""
    with served(config) as gateway, gateway.client() as http:
        heard = [_transcribed(http, each) for each in spoken]
    theirs, _ = Peer(FOLDER / "faster-whisper").transcribe([each.file for each in spoken])
    texts = [each.text for each in spoken]
    ours_rate = word_error_rate(list(zip(texts, heard, strict=True)))
    their_rate = word_error_rate(list(zip(texts, theirs, strict=True)))
    rows = [
        {"said": each.text, "llmux": our, "faster-whisper": their}
        for each, our, their in zip(spoken, heard, theirs, strict=True)
    ]
    (FOLDER / "heard.json").write_text(json.dumps(rows, indent=1))
    print(f"word error rate: llmux {ours_rate:.2f} %, faster-whisper {their_rate:.2f} %", flush=True)
    return ours_rate <= their_rate + 0.5


def _transcribed(http: httpx.Client, spoken: Spoken) -> str:
    answer = http.post(
        "/v1/audio/transcriptions",
        data={"model": "Ears"},
        files={"file": ("speech.wav", spoken.file.read_bytes(), "audio/wav")},
    )
    answer.raise_for_status()
    return str(answer.json()["text"])


def throughput(spoken: Sequence[Spoken], config: Path, options: argparse.Namespace) -> bool:
    """The gateway gives at least nine tenths of what the runtime gives that is called directly."""
    return asyncio.run(_throughput(spoken[2::5], config))


async def _throughput(spoken: Sequence[Spoken], config: Path) -> bool:
    from providers.transformers_asr import load

    model = Model.model_validate(
        {"task": "asr", "runtime": "transformers", "weights": "whisper-base", "estimate": "1 GB"}
    )
    runtime = await load(model, cache_folder() / "whisper-base")
    total_s = sum(each.length_s for each in spoken)
    kept = True
    for clients in (1, 4):
        direct_s = ours_s = 0.0
        with served(config) as gateway, gateway.client() as http, ThreadPoolExecutor(clients) as threads:
            await asyncio.to_thread(_transcribed, http, spoken[0])
            await _directly(runtime, spoken[:1], 1)
            loop = asyncio.get_running_loop()
            for some in (spoken[::2], spoken[1::2]):  # by turns: how fast the machine is, changes with the minutes
                direct_s += await _directly(runtime, some, clients)
                started_s = time.perf_counter()
                await asyncio.gather(*(loop.run_in_executor(threads, _transcribed, http, each) for each in some))
                ours_s += time.perf_counter() - started_s
        _, theirs_s = Peer(FOLDER / "faster-whisper").transcribe([each.file for each in spoken], clients=clients)
        print(
            f"{clients} clients: gateway {total_s / ours_s:.1f} s of speech a second, runtime alone "
            f"{total_s / direct_s:.1f} ({direct_s / ours_s:.0%}), faster-whisper {total_s / theirs_s:.1f}",
            flush=True,
        )
        kept = kept and direct_s / ours_s >= 0.9
    await runtime.close()
    return kept


async def _directly(runtime: Any, spoken: Sequence[Spoken], clients: int) -> float:
    """Seconds that the runtime takes for windows that are already cut, so many recordings at one time."""
    waiting = [_cut(each) for each in spoken]

    async def hear(window: Window, language: str | None) -> str | None:
        heard = runtime.transcribe(window.samples, language=language, prompt=None, temperature=0.0)
        found = [segment async for segment in heard]
        return found[0].language if found else None

    async def client() -> None:
        while waiting:
            first, *rest = waiting.pop(0)
            language = await hear(first, None)
            for pair in (rest[at : at + 2] for at in range(0, len(rest), 2)):
                await asyncio.gather(*(hear(window, language) for window in pair))

    started_s = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - started_s


def _cut(spoken: Spoken) -> list[Window]:
    sound = audio.blocks(spoken.file.read_bytes(), _RATE, max_s=3600, size=160 * FRAME)
    return [window for found in windows(sound) for window in found]


def mutations(spoken: Sequence[Spoken], config: Path, options: argparse.Namespace) -> bool:
    """Damaged files are heard or refused, memory stays flat, and the gateway lives."""
    chance = random.Random(1)
    samples = audio.decode(spoken[0].file.read_bytes(), 24_000, max_s=60)
    originals = []
    for encoding in ("wav", "mp3", "opus", "aac", "flac"):
        encoder = audio.Encoder(encoding, 24_000)
        originals.append(encoder.encode(samples) + encoder.finish())
    counts: dict[int, int] = {}
    middle_bytes = 0
    with served(config) as gateway, gateway.client() as http:
        for number in range(options.mutated):
            name, data = mutated(chance.choice(originals), chance)
            files = {"file": (name or "x", data, chance.choice(("audio/wav", "text/html", "application/octet-stream")))}
            answer = http.post("/v1/audio/transcriptions", data={"model": "Ears"}, files=files)
            counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
            if number == options.mutated // 2:
                middle_bytes = gateway.peak_bytes()
        end_bytes = gateway.peak_bytes()
        alive = bool(_transcribed(http, spoken[0]))
    print(
        f"{options.mutated} damaged files: answers {counts}, peak memory {middle_bytes / 1e6:.0f} MB half-way, "
        f"{end_bytes / 1e6:.0f} MB at the end; {'alive' if alive else 'dead'} afterwards",
        flush=True,
    )
    return set(counts) <= {200, 400} and end_bytes < 1.1 * middle_bytes and alive


def memory(spoken: Sequence[Spoken], config: Path, options: argparse.Namespace) -> bool:
    """What a long recording holds beside its upload is what a minute holds, give or take a tenth."""
    speech = np.concatenate([audio.decode(each.file.read_bytes(), 24_000, max_s=3600) for each in spoken[-5:]])
    peaks = []
    for minutes in (1.0, options.minutes):
        encoder = audio.Encoder("mp3", 24_000)
        wanted = round(minutes * 60 * 24_000)
        parts = [encoder.encode(speech[: min(len(speech), wanted - at)]) for at in range(0, wanted, len(speech))]
        upload = b"".join([*parts, encoder.finish()])
        with served(config) as gateway, gateway.client() as http:
            started_s = time.perf_counter()
            answer = http.post("/v1/audio/transcriptions", data={"model": "Ears"}, files={"file": ("x.mp3", upload)})
            answer.raise_for_status()
            peaks.append(gateway.peak_bytes() - len(upload))
            print(
                f"{minutes:g} min in a file of {len(upload) / 1e6:.1f} MB: {peaks[-1] / 1e6:.0f} MB at most beside it, "
                f"{len(answer.json()['text'].split())} words in {time.perf_counter() - started_s:.0f} s",
                flush=True,
            )
    return peaks[1] <= 1.1 * peaks[0]


PARTS: dict[str, Callable[[Sequence[Spoken], Path, argparse.Namespace], bool]] = {
    "word-errors": word_errors,
    "throughput": throughput,
    "mutations": mutations,
    "memory": memory,
}
