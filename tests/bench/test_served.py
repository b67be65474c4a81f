import os

from bench.served import Served


def test_the_peak_is_what_the_system_says_of_the_process() -> None:
    before = Served("", "", os.getpid()).peak_bytes()
    held = b"x" * 300_000_000
    after = Served("", "", os.getpid()).peak_bytes()

    assert len(held) == 300_000_000
    assert after > 300_000_000
    assert after >= before
