"""The real Open WebUI, each version in a folder of its own; `python -m tests.clients.open_webui` installs it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from llmux.bootstrap import installer_environment
from tests.clients.kept import cache, kept
from tests.gateway import free_port

_PYPI = Path(__file__).parent / "pypi"
VERSIONS = ("0.8.12", "0.12.4")

_START_S = 180
_ENVIRONMENT = {
    "ENABLE_OLLAMA_API": "false",
    "ENABLE_VERSION_UPDATE_CHECK": "false",
    "OFFLINE_MODE": "true",
    "RAG_EMBEDDING_ENGINE": "openai",  # its own needs torch, which is not installed
}
"""So that it asks no other host for anything, and starts without a model of its own."""


def install() -> None:
    uv = Path(sys.executable).parent / "uv"
    for version in VERSIONS:

        def make(folder: Path, lock: Path = _PYPI / f"open-webui-{version}.txt") -> None:
            print(f"tests: installing {lock.stem}", file=sys.stderr, flush=True)  # noqa: T201
            environment = installer_environment(os.environ)
            # Relocatable, because the folder gets its name when it is whole.
            python = folder / "environment"
            for command in (
                ("venv", "--relocatable", "--python", sys.executable, python),
                ("pip", "install", "--python", python, "--no-deps", "--require-hashes", "-r", lock),
            ):
                subprocess.run([uv, "--quiet", *command], check=True, env=environment)

        kept(f"open-webui-{version}", make)


class OpenWebUI:
    """One that runs, new, once this is made. environment: what it is told beside what the tests need"""

    def __init__(self, version: str, folder: Path, environment: Mapping[str, str]) -> None:
        program = cache() / f"open-webui-{version}" / "environment" / "bin" / "open-webui"
        assert program.is_file(), "Open WebUI is missing; run: make test-openwebui"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "log"
        (folder / "data").mkdir()
        own = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "DATA_DIR": str(folder / "data"),
            "CORS_ALLOW_ORIGIN": self.url,
            "WEBUI_SECRET_KEY": "the secret key of these tests, which is no secret",
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, "serve", "--host", "127.0.0.1", "--port", str(port)],
                cwd=folder,
                env={**own, **_ENVIRONMENT, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + _START_S
        while True:
            try:
                httpx.get(f"{self.url}/health", timeout=5).raise_for_status()
            except httpx.HTTPError:
                if self._process.poll() is not None or time.monotonic() > end:
                    self.stop()
                    raise AssertionError(f"Open WebUI did not start:\n{self.log[-3000:]}") from None
                time.sleep(0.2)
            else:
                return

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def sign_up(self) -> str:
        """The first who does is its administrator. Returns a token."""
        who = {"name": "Ada", "email": "ada@example.org", "password": "a password of the tests"}
        answer = httpx.post(f"{self.url}/api/v1/auths/signup", json=who, timeout=60)
        return str(answer.raise_for_status().json()["token"])

    def http(self, token: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=300)

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


if __name__ == "__main__":
    install()
