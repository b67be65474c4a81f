"""`python -m bench vram-sim` prints what was found."""

import pytest

from bench import vram_sim
from bench.tally import Tally


def test_it_prints_events_violations_seed_and_every_scheduler_beside_llmux(capsys: pytest.CaptureFixture[str]) -> None:
    assert vram_sim.main(["--events", "500", "--seed", "9"]) == 0
    printed = capsys.readouterr().out
    assert "seed 9" in printed
    assert "0 violations" in printed
    for name in vram_sim.SCHEDULERS:
        assert f"\n{name}" in printed
    assert "one day of a small office" in printed
    assert "with the future known" in printed


def test_another_day_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert vram_sim.main(["--events", "500", "--day", "3"]) == 0
    assert "one day of a small office, seed 3: 2124 requests" in capsys.readouterr().out


def test_a_violation_is_printed_and_is_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Tally(violations=["episode 1:1: overtaken"])
    monkeypatch.setattr(vram_sim, "chaos", lambda events, seed: broken)
    assert vram_sim.main([]) == 1
    assert "1 violations\n  episode 1:1: overtaken" in capsys.readouterr().out
