"""LiteLLM's own keys, over HTTP, on a database of ours and on somebody else's."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from database.postmaster import PidFile
from tests.database.conftest import copy
from tests.gateway import ROOT, free_port

MASTER_KEY = "sk-master-key-of-the-database-tests"


class LiteLLM:
    """A LiteLLM in a process of its own. `http` speaks to it as its administrator; `said` holds what it wrote."""

    def __init__(self, state_dir: Path, url: str | None) -> None:
        port = free_port()
        config = state_dir.with_name("litellm.yaml")
        config.write_text("model_list: []\ngeneral_settings: {disable_spend_logs: true}\n")
        environment = {
            **{name: value for name, value in os.environ.items() if name != "DATABASE_URL"},
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "CONFIG_FILE_PATH": str(config),
            "LITELLM_MASTER_KEY": MASTER_KEY,
            **({} if url is None else {"DATABASE_URL": url}),
        }
        self.said = ""
        self._more = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("serving.py"), state_dir, str(port)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        headers = {"Authorization": f"Bearer {MASTER_KEY}"}
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30)

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                with self._more:
                    self.said += line
                    self._more.notify_all()

    def says(self, words: str) -> None:
        """Wait until it has written these words."""
        with self._more:
            assert self._more.wait_for(lambda: words in self.said, timeout=60), self.said

    def stop(self) -> None:
        self.http.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=30)
        self._reading.join()


@contextmanager
def litellm(state_dir: Path, url: str | None = None) -> Iterator[LiteLLM]:
    """A LiteLLM that serves; stopped in order."""
    started = LiteLLM(state_dir, url)
    try:
        started.says("Uvicorn running on")
        yield started
    finally:
        started.stop()
    assert "Traceback" not in started.said, started.said


def create(http: httpx.Client, name: str) -> str:
    answer = http.post("/key/generate", json={"key_alias": name, "models": ["one"], "max_budget": 2.5})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["key"])


def info(http: httpx.Client, key: str) -> httpx.Response:
    """What a key may ask about itself."""
    return http.get("/key/info", headers={"Authorization": f"Bearer {key}"})


def test_keys_are_made_found_and_deleted_and_outlive_a_restart(tmp_path: Path, litellms_client: Path) -> None:
    state_dir = tmp_path / "state"
    copy(litellms_client, state_dir / "client")
    with litellm(state_dir) as proxy:
        http = proxy.http
        kept, deleted = create(http, "Open WebUI"), create(http, "OpenCode")
        assert info(http, kept).json()["info"]["key_alias"] == "Open WebUI"
        assert http.post("/key/delete", json={"keys": [deleted]}).status_code == 200
        assert info(http, deleted).status_code == 401
    assert PidFile.read(state_dir / "postgres" / "data") is None, "PostgreSQL was stopped with it"

    with litellm(state_dir) as proxy:
        http = proxy.http
        assert info(http, kept).json()["info"]["max_budget"] == 2.5
        assert info(http, deleted).status_code == 401
        server = PidFile.read(state_dir / "postgres" / "data")
        assert server is not None
        os.kill(server.pid, signal.SIGKILL)
        proxy.says("PostgreSQL runs again")
        assert create(http, "after the crash").startswith("sk-")
        assert info(http, kept).status_code == 200


def test_keys_live_in_a_database_of_somebody_elses(
    tmp_path: Path, litellms_client: Path, new_database: Callable[[], str]
) -> None:
    copy(litellms_client, tmp_path / "state" / "client")
    with litellm(tmp_path / "state", new_database()) as proxy:
        http = proxy.http
        key = create(http, "Open WebUI")
        assert info(http, key).json()["info"]["models"] == ["one"]
        assert http.post("/key/delete", json={"keys": [key]}).status_code == 200
        assert info(http, key).status_code == 401
