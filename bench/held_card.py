"""Another process that holds a part of the card, so that what is left is as small as a smaller card."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PAGE_BYTES = 2 * 2**20
"""What the driver and torch's allocator hand out at least."""

_CHUNK_BYTES = 4096 * _PAGE_BYTES

_START_S = 180
"""How long it may take to import torch and to allocate."""


class CannotHold(Exception):
    """The other process did not start or found no GPU. The message says what it said."""


@contextmanager
def hold_all_but(free_bytes: int) -> Iterator[int]:
    """Within it, another process holds so much of CUDA's first GPU that no more than free_bytes are free; yields what
    is free. Start it before this process has a CUDA context, which is then part of what is left.

    The other process ends with the block, and with this process in any case: it waits for its input to end.
    """
    with subprocess.Popen(
        [sys.executable, "-m", __spec__.name, str(free_bytes)],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        patience = threading.Timer(_START_S, child.kill)
        patience.start()
        try:
            said = child.stdout.readline()
            patience.cancel()
            if not said:
                lines = child.stderr.read().strip().splitlines() or ["nothing"]
                raise CannotHold(lines[-1])
            yield int(json.loads(said)["free_bytes"])
        finally:
            patience.cancel()
            child.stdin.close()


def chunks(free_bytes: int, keep_bytes: int) -> list[int]:
    """What to allocate, in whole pages, so that at least keep_bytes of free_bytes stay free."""
    left = max(0, free_bytes - keep_bytes) // _PAGE_BYTES * _PAGE_BYTES
    whole, rest = divmod(left, _CHUNK_BYTES)
    return [_CHUNK_BYTES] * whole + ([rest] if rest else [])


def main(keep_bytes: int) -> None:
    import torch

    torch.cuda.init()
    torch.empty(1, device="cuda")  # its context and first block are there before it is asked what is free
    free_bytes, _ = torch.cuda.mem_get_info()
    held = [torch.empty(size, dtype=torch.uint8, device="cuda") for size in chunks(free_bytes, keep_bytes)]
    free_bytes, _ = torch.cuda.mem_get_info()
    print(json.dumps({"free_bytes": free_bytes}), flush=True)
    sys.stdin.read()
    del held


if __name__ == "__main__":
    main(int(sys.argv[1]))
