"""What a client meets when memory runs out, a load hangs, the GPU fails or a runtime aborts, and how it goes on.

A real gateway (tests/faulty.py) under a supervisor that starts it again, as systemd does with Restart=on-failure. With
`--log-cli-level=INFO` it says how long that takes.
"""

import json
import logging
import queue
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmux.server import DEVICE_FAILED
from tests.gateway import Gateway, free_port
from tests.llmux.test_frame import OPENCODE_REPEATS
from tests.test_end_to_end import error_of

times = logging.getLogger(__name__)

LOAD_S = 7
STOP_S = 1
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

CONFIG = f"""\
model_list:
  - {{model_name: Chat, litellm_params: {{model: llmux/smollm2}}}}
  - {{model_name: Hangs, litellm_params: {{model: llmux/hangs}}}}
llmux:
  budget: 1 GB
  limits: {{load_s: {LOAD_S}, stop_s: {STOP_S}}}
  models:
    smollm2: {{task: llm, runtime: llama.cpp, weights: smollm2, file: {FILE}, context: 2048, estimate: 300 MB}}
    hangs: {{task: llm, runtime: llama.cpp, weights: smollm2, file: hangs.gguf, context: 2048, estimate: 300 MB}}
"""


class Supervisor:
    """Starts the gateway, and again whenever it ends with another code than 0."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._port = free_port()
        self._stopping = False
        self._restarts: queue.Queue[tuple[int, str, float]] = queue.Queue()
        self.gateway = self._start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _start(self) -> Gateway:
        return Gateway(self._config, module="tests.faulty", port=self._port)

    def _watch(self) -> None:
        while (code := self.gateway.process.wait()) != 0 and not self._stopping:
            ended_s = time.monotonic()
            self.gateway.stop()
            log = "".join(self.gateway.log)
            self.gateway = self._start()
            with self.gateway.http(key=None) as http:
                assert http.get("/health").json()["status"] == "ok"
            self._restarts.put((code, log, time.monotonic() - ended_s))

    def recovers(self) -> tuple[int, str, float]:
        """The exit code and the log of the gateway that just ended, and the seconds until the next was healthy."""
        return self._restarts.get(timeout=180)

    def stop(self) -> int:
        self._stopping = True
        code = self.gateway.stop()
        self._thread.join()
        return code


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, demo_models: Path) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "models" / "smollm2").mkdir(parents=True)
    for name in (FILE, "hangs.gguf"):
        (folder / "models" / "smollm2" / name).symlink_to(demo_models / "smollm2-135m" / FILE)
    return folder


@pytest.fixture(scope="module")
def supervisor(folder: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(folder / "config.yaml")
    yield supervisor
    supervisor.stop()


def ask(supervisor: Supervisor, words: str, model: str = "Chat", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": words}], "max_tokens": 2, "temperature": 0, **more}
    with supervisor.gateway.http() as http:
        return http.post("/v1/chat/completions", json=body)


def is_served(supervisor: Supervisor) -> bool:
    return bool(ask(supervisor, "Say hello.").json()["choices"][0]["message"]["content"])


def last_error(stream: httpx.Response) -> dict[str, Any]:
    """The error frame that ends a stream."""
    *_, name, frame, end = [line for line in stream.text.splitlines() if line and not line.startswith(":")]
    assert (name, end) == ("event: error", "data: [DONE]")
    return dict(json.loads(frame.removeprefix("data: "))["error"])


def test_out_of_memory_costs_one_request_and_a_reload(supervisor: Supervisor) -> None:
    assert is_served(supervisor)
    refused = ask(supervisor, "exhaust")
    assert (refused.status_code, error_of(refused)["code"]) == (503, "load_failed")
    assert int(refused.headers["retry-after"]) >= 1
    assert is_served(supervisor)
    with supervisor.gateway.http() as http:
        assert 'llmux_out_of_memory_total{model="smollm2"} 1.0' in http.get("/metrics").text


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "begin, then exhaust"}]}),
        ("/v1/completions", {"prompt": "begin, then exhaust"}),
        ("/v1/responses", {"input": "begin, then exhaust"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "begin, then exhaust"}], "max_tokens": 9}),
    ],
)
def test_out_of_memory_in_the_midst_of_a_stream_ends_it_with_its_reason(
    supervisor: Supervisor, path: str, asked: dict[str, Any]
) -> None:
    with supervisor.gateway.http() as http:
        ended = http.post(path, json={"model": "Chat", "stream": True, **asked})
    assert "Well," in ended.text, ended.text
    error = last_error(ended)
    assert (error["code"], error["type"]) == ("load_failed", "invalid_request_error")
    assert OPENCODE_REPEATS.search(ended.text.rpartition("event: error")[2]) is None
    assert is_served(supervisor)


def test_a_load_that_hangs_is_given_up_and_everybody_else_is_served(supervisor: Supervisor) -> None:
    with ThreadPoolExecutor(2) as pool:
        plain = pool.submit(ask, supervisor, "hello", "Hangs")
        stream = pool.submit(ask, supervisor, "hello", "Hangs", stream=True)
        assert is_served(supervisor)
        refused, ended = plain.result(), stream.result()
    assert (refused.status_code, error_of(refused)["code"]) == (503, "load_failed")
    assert int(refused.headers["retry-after"]) >= 1
    assert (ended.status_code, last_error(ended)["code"]) == (200, "load_failed")
    assert ": waiting, position" in ended.text
    at_once = ask(supervisor, "hello", "Hangs", stream=True)
    assert (at_once.status_code, error_of(at_once)["code"]) == (503, "load_failed")
    assert supervisor.gateway.vram()["models"]["hangs"]["state"] == "stuck"
    with supervisor.gateway.http(key=None) as http:
        assert http.get("/health").json()["status"] == "ok"
    assert is_served(supervisor)


def test_a_gpu_that_fails_is_a_503_and_another_process(supervisor: Supervisor, folder: Path) -> None:
    """One load still hangs, and does not keep the process from ending."""
    assert is_served(supervisor)
    known = json.loads((folder / "state" / "ledger.json").read_text())
    refused = ask(supervisor, "assert")
    assert (refused.status_code, error_of(refused)["code"]) == (503, "device_failed")
    assert int(refused.headers["retry-after"]) >= 1
    answered_s = time.monotonic()
    code, log, healthy_s = supervisor.recovers()
    ended_s = time.monotonic() - answered_s - healthy_s
    assert code == DEVICE_FAILED
    assert "the device failed (CUDA error: device-side assert triggered)" in log
    assert "Traceback" not in log
    assert json.loads((folder / "state" / "ledger.json").read_text()) == known
    assert is_served(supervisor)
    first_s = time.monotonic() - answered_s
    times.info(
        "failed: ended %.1f s after its 503, healthy %.1f s later, answered at %.1f s", ended_s, healthy_s, first_s
    )


def test_a_runtime_that_aborts_says_so_last_and_leaves_its_state_whole(supervisor: Supervisor, folder: Path) -> None:
    assert is_served(supervisor)
    known = json.loads((folder / "state" / "ledger.json").read_text())
    with pytest.raises(httpx.RemoteProtocolError):
        ask(supervisor, "abort")
    died_s = time.monotonic()
    code, log, healthy_s = supervisor.recovers()
    assert code == -signal.SIGABRT
    last_line = log.splitlines()[-1]
    assert last_line.endswith(f" {FILE}: llama.cpp aborts the process: ggml-cuda.cu:98: CUDA error")
    assert json.loads((folder / "state" / "ledger.json").read_text()) == known
    assert is_served(supervisor)
    times.info("aborted: healthy %.1f s later, answered at %.1f s", healthy_s, time.monotonic() - died_s)


def test_a_stop_is_in_order_after_all_that(supervisor: Supervisor) -> None:
    assert supervisor.stop() == 0
