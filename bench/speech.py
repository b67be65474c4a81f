"""`python -m bench speech`: what the gateway costs a voice, how early it is heard, and whether it is understood.

hibari, and chatterbox's real classes on small random weights, are asked over HTTP by 1 and 4 clients at a time and, in
turns with that, called directly in another process. hibari's sound is transcribed back by Whisper base, and the words
compared. It needs the demo's models: `make demo` fetches them.
"""

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from llmux.litellm_settings import ENVIRONMENT

os.environ.update(ENVIRONMENT)  # the same for both sides, and before anything imports torch

from bench import random_chatterbox
from bench.http_stream import posted
from bench.server import free_port, running
from demo.models import cache_folder
from llmux.config import load_config
from providers.loading import Loading
from providers.runtime import SpeechRuntime
from providers.sentences import pieces

ROOT = Path(__file__).parents[1]

KEY = "sk-bench-of-this-machine-alone"

RATE = 24_000

CONFIG = """\
model_list:
  - {{model_name: hibari, litellm_params: {{model: llmux/hibari}}}}
  - {{model_name: turbo, litellm_params: {{model: llmux/turbo}}}}
  - {{model_name: ears, litellm_params: {{model: llmux/whisper}}}}
llmux:
  budget: 2 GB
  port: {port}
  database: none
  models_dir: {models}
  models:
    hibari: {{task: tts, runtime: hibari, estimate: 100 MB, max_concurrency: 4}}
    turbo: {{task: tts, runtime: chatterbox, variant: turbo, weights: turbo, estimate: 200 MB, max_concurrency: 4}}
    whisper: {{task: asr, runtime: transformers, weights: whisper-base, estimate: 300 MB}}
"""

SENTENCES = (
    "The train to London leaves at noon.",
    "Please close the window before you go.",
    "My sister plays the piano every evening after dinner.",
    "We walked along the river until it was dark.",
    "Nobody knew where the old key had gone.",
    "The children built a small house out of wood and paper.",
    "Can you tell me how to get to the station?",
    "It has been raining since early in the morning.",
    "The doctor said that he should rest for a week.",
    "She opened the letter slowly and read it twice.",
    "There is a little shop on the corner that sells fresh bread.",
    "He forgot to bring his umbrella, so he got very wet.",
    "Our garden is full of red and yellow flowers in the summer.",
    "The teacher asked the class to write a short story about the sea.",
    "I would like a cup of tea, please.",
    "The meeting has been moved to Monday because of the holiday.",
    "Yes.",
    "Good morning.",
    "Thank you very much.",
    "A quiet street is better for sleeping than a busy one.",
)

BUSINESS = " ".join(SENTENCES[:10])
"""What each client says."""

SHARE = 0.9
"""Of the sound a second that the model makes when it is called directly, the gateway must keep so much."""

EARLY = 1.3
"""The first byte of a long text may take so many times as long as that of its first piece alone."""


@dataclass(frozen=True, slots=True)
class Rate:
    """sound_per_s: seconds of sound made a second, by all clients; first_byte_s: the median"""

    sound_per_s: float
    first_byte_s: float


Speak = Callable[[str], Awaitable[tuple[float, int]]]
"""Says a text: seconds to the first of its sound, and how many samples came."""


def main(options: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench speech", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=100, help="texts to transcribe back (default 100)")
    parser.add_argument("--rounds", type=int, default=3, help="times that each client speaks (default 3)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    chosen = parser.parse_args(options)
    cache = cache_folder()
    if not (cache / "whisper-base").is_dir():
        print("speech: the demo's models are missing; run: make demo ONCE=1", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, random_chatterbox.small():
        result = asyncio.run(measure(Path(folder), cache, texts=chosen.texts, rounds=chosen.rounds))
    print(json.dumps(result, indent=2) if chosen.json else "\n".join(table(result)))
    return 1 if missed(result) else 0


async def measure(folder: Path, cache: Path, *, texts: int, rounds: int) -> Mapping[str, Any]:
    random_chatterbox.write(folder / "models" / "turbo", "turbo")
    (folder / "models" / "whisper-base").symlink_to(cache / "whisper-base")
    path = folder / "config.yaml"
    port = free_port()
    path.write_text(CONFIG.format(models=folder / "models", port=port))
    address = f"http://127.0.0.1:{port}"
    with serving(path, address):
        async with httpx.AsyncClient(
            base_url=f"{address}/v1", headers={"Authorization": f"Bearer {KEY}"}, timeout=600
        ) as http:
            rows = []
            loading = Loading(load_config(path))
            for name in ("hibari", "turbo"):
                runtime = await loading.load(name)
                assert isinstance(runtime, SpeechRuntime)
                rows += [
                    {"model": name, "clients": clients, "served": asdict(served), "direct": asdict(direct)}
                    for clients in (1, 4)
                    for served, direct in [await rates(over_http(address, name), directly(runtime), clients, rounds)]
                ]
                await loading.unload(name, runtime)
            early = await first_bytes(over_http(address, "hibari"), rounds)
            errors, words = await understood(http, corpus(texts))
    return {
        "rates": rows,
        "first_byte_s": early,
        "texts": texts,
        "words": words,
        "word_errors": errors,
    }


def over_http(address: str, model: str) -> Speak:
    body = {"model": model, "voice": "default", "response_format": "pcm"}

    async def speak(text: str) -> tuple[float, int]:
        came = await asyncio.to_thread(posted, f"{address}/v1/audio/speech", KEY, {**body, "input": text})
        return came.parts[0][0] - came.asked_s, sum(len(part) for _, part in came.parts) // 2

    return speak


def directly(runtime: SpeechRuntime) -> Speak:
    async def speak(text: str) -> tuple[float, int]:
        began_s, first_s, samples = time.perf_counter(), 0.0, 0
        async with aclosing(runtime.synthesize(text, voice="default", speed=1.0, options={})) as takes:
            async for take in takes:
                first_s = first_s or time.perf_counter() - began_s
                samples += len(take)
        return first_s, samples

    return speak


async def rates(served: Speak, direct: Speak, clients: int, rounds: int) -> tuple[Rate, Rate]:
    """Both, in turns, so that whatever else the machine does meets both alike."""
    for speak in (served, direct):
        await speak(SENTENCES[0])  # loaded, and warm
    taken_s = [0.0, 0.0]
    answers: tuple[list[tuple[float, int]], list[tuple[float, int]]] = ([], [])
    for _ in range(rounds):
        for side, speak in enumerate((served, direct)):
            started_s = time.perf_counter()
            answers[side].extend(await asyncio.gather(*(speak(BUSINESS) for _ in range(clients))))
            taken_s[side] += time.perf_counter() - started_s
    first, second = (
        Rate(sum(samples for _, samples in each) / RATE / took_s, statistics.median(s for s, _ in each))
        for each, took_s in zip(answers, taken_s, strict=True)
    )
    return first, second


async def first_bytes(speak: Speak, rounds: int) -> Mapping[str, float]:
    """Of a text of 2,000 characters, and of its first piece alone: medians, taken in turns."""
    long = (" ".join(SENTENCES[3:]) + " ") * 4
    long = long[:2_000]
    alone: list[float] = []
    whole: list[float] = []
    for _ in range(max(5, rounds)):
        alone.append((await speak(pieces(long)[0]))[0])
        whole.append((await speak(long))[0])
    return {"alone": statistics.median(alone), "whole": statistics.median(whole)}


async def understood(http: httpx.AsyncClient, texts: Sequence[str]) -> tuple[int, int]:
    """Words that Whisper heard otherwise, and all words."""
    errors = words = 0
    for number, text in enumerate(texts, start=1):
        body = {"model": "hibari", "input": text, "voice": "default", "response_format": "flac", "seed": number}
        sound = (await http.post("/audio/speech", json=body)).raise_for_status().content
        answer = await http.post(
            "/audio/transcriptions",
            data={"model": "ears", "language": "en", "response_format": "text"},
            files={"file": ("speech.flac", sound)},
        )
        said, understood_as = words_of(text), words_of(answer.raise_for_status().text)
        errors += distance(said, understood_as)
        words += len(said)
        print(f"\r{number} of {len(texts)} texts, {errors} of {words} words", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return errors, words


def corpus(count: int, *, seed: int = 1) -> list[str]:
    """Texts of 5 to 2,000 characters, as many short ones as long ones by orders of magnitude."""
    chance = random.Random(seed)
    result = []
    for number in range(count):
        length = 5 * (2_000 / 5) ** (number / max(1, count - 1))
        text = chance.choice([sentence for sentence in SENTENCES if len(sentence) <= max(length, 5)])
        while len(text) < length - 10:
            following = [sentence for sentence in SENTENCES if len(text) + 1 + len(sentence) <= length]
            if not following:
                break
            text += f" {chance.choice(following)}"
        result.append(text)
    return result


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def distance(said: Sequence[str], heard_as: Sequence[str]) -> int:
    """Fewest words to change, add or leave out (Levenshtein)."""
    row = list(range(len(heard_as) + 1))
    for number, word in enumerate(said, start=1):
        above, row = row, [number]
        for column, other in enumerate(heard_as, start=1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (word != other)))
    return row[-1]


def missed(result: Mapping[str, Any]) -> list[str]:
    """Goals that were not reached."""
    found = [
        f"{row['model']} at {row['clients']}: {share(row):.0%} of direct, not {SHARE:.0%}"
        for row in result["rates"]
        if share(row) < SHARE
    ]
    early = result["first_byte_s"]
    if early["whole"] > EARLY * early["alone"]:
        found.append(f"the first byte of a long text: {early['whole'] / early['alone']:.2f} times, not {EARLY}")
    return found


def share(row: Mapping[str, Any]) -> float:
    return float(row["served"]["sound_per_s"] / row["direct"]["sound_per_s"])


def table(result: Mapping[str, Any]) -> Iterator[str]:
    yield "| model | clients | sound s/s | direct | share | first byte s | direct |"
    yield "|---|---|---|---|---|---|---|"
    for row in result["rates"]:
        served, direct = row["served"], row["direct"]
        yield (
            f"| {row['model']} | {row['clients']} | {served['sound_per_s']:.2f} | {direct['sound_per_s']:.2f} "
            f"| {share(row):.0%} | {served['first_byte_s']:.3f} | {direct['first_byte_s']:.3f} |"
        )
    early = result["first_byte_s"]
    yield ""
    yield f"first byte of 2,000 characters {early['whole']:.3f} s, of its first piece alone {early['alone']:.3f} s"
    if result["words"]:
        rate = result["word_errors"] / result["words"]
        yield f"word error rate {rate:.1%}: {result['word_errors']} of {result['words']} words, {result['texts']} texts"
    yield from (f"MISSED {goal}" for goal in missed(result))


@contextmanager
def serving(config: Path, url: str) -> Iterator[None]:
    """A gateway in a process of its own, while this lasts."""
    command = [sys.executable, "-m", "bench.small_gateway", "serve", "--config", str(config)]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "LLMUX_MASTER_KEY": KEY, "PYTHONPATH": os.pathsep.join(paths)}
    with running(command, ready=f"{url}/health", log=config.with_name("log"), environment=environment):
        yield
