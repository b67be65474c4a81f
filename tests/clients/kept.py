"""Clients as their makers publish them, in the user's cache: installed once, for every checkout."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from demo.models import cache_folder


def cache() -> Path:
    return cache_folder().parent / "clients"


def kept(name: str, make: Callable[[Path], None]) -> None:
    """A folder of the cache: what is there is whole, because it is made elsewhere and then gets its name."""
    if (cache() / name).exists():
        return
    cache().mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=cache(), prefix=f".{name}-"))
    try:
        make(fresh)
        fresh.rename(cache() / name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
