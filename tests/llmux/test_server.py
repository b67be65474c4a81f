"""How the process ends, in processes of their own."""

import os
import subprocess
import sys

import pytest

from llmux.server import DEVICE_FAILED, HUNG
from tests.gateway import ROOT

SERVES = """
import asyncio, signal, sys, threading
import uvicorn
from llmux import server

why, hangs = sys.argv[1:]
server._MARGIN_S = 0.3
signal.signal(signal.SIGTERM, lambda *_: None)

async def app(scope, receive, send):
    raise AssertionError("nobody asks")

class Server(server.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        if why == "failed":
            self.fail()
        else:
            signal.raise_signal(signal.SIGTERM)

if hangs == "hangs":
    threading.Thread(target=threading.Event().wait).start()
config = uvicorn.Config(app, port=0, lifespan="off", log_config=None)
serving = Server(config, lambda: print("closed"), stop_s=0.1)
serving.run()
serving.end()
print("the end of Python")
"""


@pytest.mark.parametrize(
    ("why", "hangs", "code", "said"),
    [
        ("told", "", 0, "closed\nthe end of Python\n"),
        ("told", "hangs", HUNG, "closed\nthe end of Python\n"),
        ("failed", "", DEVICE_FAILED, ""),
        ("failed", "hangs", DEVICE_FAILED, ""),
    ],
)
def test_the_process_ends_in_time_with_a_code_that_says_why(why: str, hangs: str, code: int, said: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SERVES, why, hangs]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (code, said), ended.stderr
