"""The scheduler under random events, as in `python -m bench vram-sim`, only fewer."""

from bench.chaos import chaos


def test_fifty_thousand_random_events_break_no_rule() -> None:
    tally = chaos(50_000, seed=7)
    assert tally.violations == []
    assert tally.events.total() >= 50_000


def test_the_same_seed_is_the_same_life() -> None:
    assert chaos(3_000, seed=3) == chaos(3_000, seed=3) != chaos(3_000, seed=4)


def test_everything_that_can_happen_does() -> None:
    tally = chaos(20_000, seed=1)
    assert set(tally.events) == {
        "request",
        "cancel",
        "release",
        "loaded",
        "loaded late",
        "load failed",
        "load ran out of memory",
        "unloaded",
        "unload asked",
        "memory came back",
        "others come",
        "others go",
        "pin",
        "unpin",
        "device lost",
        "device back",
    }
    assert {f"unload ({reason})" for reason in ("room", "idle", "asked", "reload", "stopping")} <= set(tally.effects)
