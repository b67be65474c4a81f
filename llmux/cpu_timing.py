"""Times a model on the CPU, in a process of its own that sees no GPU.

Every runtime then takes the CPU by itself, unpacks what has no kernels there if the memory suffices, and all of that
memory is back when the process ends.
"""

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from llmux.config import Config, load_config
from llmux.errors import LlmuxError, LoadFailed

_ROOT = Path(__file__).resolve().parents[1]
_WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": ""}


async def on_cpu(model: str, config: Config) -> float:
    """Seconds that the work of performance.timed takes there. Raises LoadFailed, saying why.

    Cancelled, it ends the process.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "llmux.cpu_timing", str(config.path), model),
        cwd=_ROOT,
        env={**os.environ, **_WITHOUT_GPU},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        said, _ = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode != 0:
        raise LoadFailed(f"{model} could not be timed on the CPU: its process ended with {process.returncode}")
    answer = json.loads(said.splitlines()[-1])
    if "error" in answer:
        raise LoadFailed(f"{model} could not be timed on the CPU: {answer['error']}")
    return float(answer["seconds"])


async def _time(config: Config, model: str) -> dict[str, float | str]:
    from llmux.performance import timed
    from providers.loading import Loading

    try:
        runtime = await Loading(config).load(model)
        try:
            timing = await timed(config.settings.models[model].task, runtime)
        finally:
            await runtime.close()
    except (LlmuxError, MemoryError) as error:
        return {"error": str(error) or "there is not enough memory"}
    return {"seconds": timing.seconds}


if __name__ == "__main__":
    _, _path, _model = sys.argv
    sys.stdout.write(json.dumps(asyncio.run(_time(load_config(Path(_path)), _model))) + "\n")
