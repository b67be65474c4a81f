"""The real OpenCode. `python -m tests.clients.opencode` installs it, from npm and from nowhere else."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from database import programs
from tests.clients.kept import cache, kept

_NPM = Path(__file__).parent / "npm"
_PACKAGE, VERSION = next(iter(json.loads((_NPM / "package.json").read_text())["dependencies"].items()))
_NAME = f"opencode-{VERSION}"

_ENVIRONMENT = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
}
"""So that it asks no other host for anything."""


def install() -> None:
    def make(folder: Path) -> None:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(_NPM / name, folder)
        subprocess.run([*programs.npm(), "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder, check=True)

    kept(_NAME, make)


class OpenCode:
    """folder: where it works; home: where it keeps what it likes; key: what it finds in LLMUX_KEY"""

    def __init__(self, folder: Path, home: Path, key: str) -> None:
        self._program = cache() / _NAME / "node_modules" / _PACKAGE / "bin" / "opencode"
        assert self._program.is_file(), "OpenCode is missing; run: make test"
        self._folder, self._home, self._key = folder, home, key

    def run(self, message: str, *options: str) -> Sequence[Mapping[str, Any]]:
        """One task, without anybody to ask. Returns what it reported, as it came."""
        done = subprocess.run(
            [self._program, "run", "--format", "json", *options, message],
            cwd=self._folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self._home), "LLMUX_KEY": self._key, **_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.stdout, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


def said(events: Sequence[Mapping[str, Any]]) -> str:
    """The text of an answer, where nothing failed."""
    assert [event for event in events if event["type"] == "error"] == []
    return "\n".join(event["part"]["text"] for event in events if event["type"] == "text")


if __name__ == "__main__":
    install()
