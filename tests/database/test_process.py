"""A process is watched to its end, and stopped."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from signal import SIGINT, SIGKILL, SIGQUIT

import pytest

from database.process import Process


@pytest.fixture
def server() -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs until it is told to stop."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


async def test_the_end_of_a_process_is_noticed_and_told(server: subprocess.Popen[bytes]) -> None:
    child, stranger = Process(server.pid, server), Process(server.pid)
    os.kill(server.pid, SIGKILL)
    await asyncio.gather(child.ended(), stranger.ended())
    assert not child.is_running
    assert child.how_it_ended == "was ended by SIGKILL"
    assert stranger.how_it_ended == "ended"


async def test_a_process_may_be_waited_for_in_vain(server: subprocess.Popen[bytes]) -> None:
    assert not await Process(server.pid).ended(within_s=0)


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ignores SIGINT."""
    command = ["sh", "-c", "trap '' INT; echo; read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


async def test_what_does_not_stop_when_asked_is_asked_harder(stubborn: subprocess.Popen[bytes]) -> None:
    asked = Process(stubborn.pid, stubborn)
    assert await asked.stop(SIGINT, SIGQUIT, limit_s=0.05)
    assert asked.how_it_ended == "was ended by SIGQUIT"


async def test_what_stops_when_asked_is_not_asked_twice(server: subprocess.Popen[bytes]) -> None:
    asked = Process(server.pid, server)
    assert await asked.stop(SIGINT, SIGQUIT, limit_s=10)
    assert asked.how_it_ended == "was ended by SIGINT"
    assert await asked.stop(SIGINT, SIGQUIT, limit_s=10), "and stopping it again is nothing"


async def test_what_does_not_stop_at_all_is_said(stubborn: subprocess.Popen[bytes]) -> None:
    assert not await Process(stubborn.pid, stubborn).stop(SIGINT, limit_s=0.05)
