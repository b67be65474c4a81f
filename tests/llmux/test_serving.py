"""How the gateway's process begins and is stopped. tests/test_end_to_end.py has what lies between."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from database.files import only_one
from database.postmaster import PidFile
from tests.gateway import ROOT, free_port

CONFIG = """\
model_list:
  - {{model_name: Chat, litellm_params: {{model: llmux/chat}}}}
llmux:
  budget: 1 GB
  database: {database}
  models:
    chat: {{task: llm, runtime: llama.cpp, weights: org/chat, file: chat.gguf, estimate: 1 MB}}
"""


@contextmanager
def started(folder: Path, database: str) -> Iterator[subprocess.Popen[str]]:
    """`llmux serve`, which says what it does on standard error."""
    (folder / "config.yaml").write_text(CONFIG.format(database=database))
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    with subprocess.Popen(
        [sys.executable, "-m", "llmux", "serve", "--config", folder / "config.yaml", "--port", str(free_port())],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process


def test_told_to_stop_while_its_database_starts_it_ends_and_leaves_nothing_running(tmp_path: Path) -> None:
    with started(tmp_path, "embedded") as process:
        assert process.stderr is not None
        assert any("making a PostgreSQL cluster" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
    assert process.returncode == 1
    assert "Traceback" not in said
    assert PidFile.read(tmp_path / "state/database/postgres/data") is None


def test_without_the_address_of_its_database_it_says_where_it_belongs(tmp_path: Path) -> None:
    with started(tmp_path, "external") as process:
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 1
    assert said.splitlines()[-1] == (
        "Error: llmux.database is external: set DATABASE_URL, or write it to state/database_url (chmod 600)"
    )


def test_a_state_folder_that_another_gateway_uses_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with only_one(tmp_path / "state"), started(tmp_path, "none") as process:
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 1
    assert said.splitlines()[-1] == (
        "Error: the folder state is in use by another process: stop that one, or use another folder"
    )
