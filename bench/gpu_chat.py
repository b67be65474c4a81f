"""`python -m bench gpu-chat`: chat on a real GPU with random weights of the real sizes: tokens a second at 1 and 8
streams, from the runtime alone and the gateway, beside `transformers serve`, and as a share of what the card's memory
allows. Needs CUDA.

Each token of a step has to read the weights once: so the rate at which the memory can be read is a limit that no
program passes, whatever it does with the cores.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.chat import Alone, Contender, by_turns, question
from bench.chat_client import Client
from bench.gateway import MASTER_KEY, Gateway
from bench.gpu_vram import CannotRun, card_bytes, configuration, machine
from bench.shipped import WEIGHTS, checkpoint, write_random
from bench.transformers_serve import serving
from llmux.config import Model
from providers.checkpoint import missing_kernels
from vram.device import DeviceError, NvmlDevice

STREAMS = (1, 8)

PLAYERS = ("qwen3.5-4b", "qwen3.5-9b-fp8", "gpt-oss-20b")


@dataclass(frozen=True, slots=True)
class Row:
    """limit_per_s: tokens a second at which the memory is read all of the time"""

    model: str
    contender: str
    streams: int
    tokens_per_s: float
    first_s: float
    limit_per_s: float

    @property
    def share(self) -> float:
        return self.tokens_per_s / self.limit_per_s


def main(options: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench gpu-chat", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(PLAYERS), choices=PLAYERS)
    parser.add_argument("--rounds", type=int, default=3, help="of each (default 3)")
    parser.add_argument("--without-serve", action="store_true", help="leave transformers serve out")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "llmux-gpu-vram")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    given = parser.parse_args(options)
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here is to be fetched
    try:
        card_bytes()
        folder = given.folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        config = configuration(folder)
        about = machine(NvmlDevice())
        bytes_per_s = memory_bytes_per_s()
        rows: list[Row] = []
        for name in given.models:
            model = config.settings.models[name].model_copy(update={"max_concurrency": max(STREAMS)})
            if why := why_not(name, model):
                print(f"{name} is left out: {why}", file=sys.stderr)
                continue
            write_random(name, model, config.models_dir)
            beside = not given.without_serve
            rows += asyncio.run(measure(name, model, config.models_dir, bytes_per_s, given.rounds, serve=beside))
    except (CannotRun, DeviceError) as error:
        print(f"gpu-chat: {error}", file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps({"about": about, "rows": [{**asdict(row), "share": row.share} for row in rows]}, indent=2))
    else:
        print("\n".join([*(f"{key}: {value}" for key, value in about.items()), *table(rows)]))
    return 0


def why_not(name: str, model: Model) -> str:
    quantisation = {"qwen3.5-9b-fp8": "fp8", "gpt-oss-20b": "mxfp4"}.get(name)
    missing = missing_kernels(quantisation) if quantisation else []
    return f"it needs {', '.join(missing)}" if missing else ""


def memory_bytes_per_s() -> float:
    """What the card's memory could deliver: two transfers a clock over the whole bus, as NVML tells both."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    mhz = pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM)
    return float(2 * mhz * 1e6 * pynvml.nvmlDeviceGetMemoryBusWidth(handle) / 8)


async def measure(
    name: str,
    model: Model,
    models_dir: Path,
    bytes_per_s: float,
    rounds: int,
    *,
    serve: bool,
    tiny: bool = False,
    streams: Sequence[int] = STREAMS,
) -> list[Row]:
    """The runtime alone, the gateway and `transformers serve`, one after the other: two copies might not fit."""
    from providers import transformers_chat

    assert model.weights is not None
    folder = models_dir / model.weights
    spell(folder)
    measured: dict[tuple[str, int], Any] = {}
    runtime = await transformers_chat.load(model, folder)
    try:
        await _of(Alone(runtime), "runtime", measured, rounds, streams)
    finally:
        await runtime.close()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        gateway = Gateway(home, served(name, model, models_dir, budget="100 GB" if tiny else "auto"))
        await asyncio.to_thread(gateway.start)
        stack.callback(gateway.stop)
        await _of(Client(gateway.address, MASTER_KEY, name), "gateway", measured, rounds, streams)
    if serve:
        with ExitStack() as stack:
            batching = "qwen" not in name  # linear attention is not among what its batching carries
            address, called = await asyncio.to_thread(stack.enter_context, serving(folder, batching=batching))
            await _of(
                Client(address, "none", called), "serve, batching" if batching else "serve", measured, rounds, streams
            )
    return [
        Row(
            name,
            contender,
            count,
            result.tokens_per_s,
            result.first_s,
            count * bytes_per_s / step_bytes(name, model, count, tiny=tiny),
        )
        for (contender, count), result in measured.items()
    ]


def served(name: str, model: Model, models_dir: Path, *, budget: str) -> Mapping[str, object]:
    """The configuration of a gateway with this model alone."""
    entry = model.model_dump(mode="json", include={"task", "runtime", "weights", "context", "max_concurrency"})
    entry |= {"capabilities": sorted(model.capabilities), "estimate": f"{model.estimate / 1e6:g} MB"}
    return {
        "model_list": [{"model_name": name, "litellm_params": {"model": f"llmux/{name}"}}],
        "llmux": {
            "budget": budget,
            "database": "none",
            "models_dir": str(models_dir),
            "models": {name: entry},
        },
    }


def spell(folder: Path) -> None:
    """Give each token a text. Random weights pick from all of the vocabulary, and the checkpoint's tokenizer knows but
    its bytes.
    """
    config = json.loads((folder / "config.json").read_text())
    size = config.get("text_config", config)["vocab_size"]
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    taken = {*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer["added_tokens"])}
    tokenizer["model"]["vocab"] |= {f"\u0120w{token}": token for token in range(size) if token not in taken}
    path.write_text(json.dumps(tokenizer))


async def _of(
    contender: Contender,
    called: str,
    measured: dict[tuple[str, int], Any],
    rounds: int,
    streams: Sequence[int],
) -> None:
    await contender.ask(question("warm", 0), 32)
    for count in streams:
        measured[called, count] = (await by_turns({called: contender}, count, rounds))[called]


def step_bytes(name: str, model: Model, streams: int, *, tiny: bool = False) -> float:
    """Of the weights that a step reads for so many streams: all but the eyes, the embeddings (a row each, unless they
    are the output layer too), and the experts that nobody's token was sent to, if tokens are sent by lot.
    """
    tensors: Mapping[str, Any] = checkpoint(name, model, tiny=tiny).files[WEIGHTS]
    tied = not any("lm_head" in tensor for tensor in tensors)
    read = 0.0
    for tensor_name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if "visual" in tensor_name or ("embed_tokens" in tensor_name and not tied):
            continue
        if ".experts." in tensor_name:
            experts = tensor.shape[0]
            size *= 1 - (1 - min(4, experts) / experts) ** streams
        read += size
    return read


def table(rows: Sequence[Row]) -> Iterator[str]:
    yield f"{'':16}{'':17}{'streams':>8}{'tokens/s':>10}{'first, ms':>11}{'of the limit':>14}"
    for row in rows:
        yield (
            f"{row.model:16}{row.contender:17}{row.streams:8}{row.tokens_per_s:10.1f}{row.first_s * 1e3:11.1f}"
            f"{row.share:14.1%}"
        )
