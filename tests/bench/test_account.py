"""Who waits, holds and is where, from events and effects alone; and effects that cannot be."""

import pytest

from bench.account import Account, Violation
from vram.effect import Effect, Grant, Load, Refuse, Unload
from vram.model import ModelSpec


@pytest.fixture
def account() -> Account:
    models = [ModelSpec("llm", "llm", 9), ModelSpec("asr", "asr", 4, pinned=True), ModelSpec("tts", "tts", 2)]
    return Account(models, lambda model: 5.0, {"asr": 1, "tts": 2, "llm": 20}, load_s=600)


def loaded(account: Account, ticket: int, model: str, now_s: float = 0) -> None:
    """Asked for with this ticket, and there."""
    account.request(ticket, model, now_s)
    account.apply([Load(model)])
    account.loaded(model, now_s)


def test_it_follows_a_model_from_its_load_to_its_unload(account: Account) -> None:
    loaded(account, 1, "llm")
    account.apply([Grant(1, "llm")])
    assert (list(account.held), account.places["llm"].leases) == ([1], 1)

    account.release(1, 7)
    assert account.apply([Unload("llm", "room")]) == ([], [account.places["llm"]])
    account.unloaded("llm", 8)

    assert (account.places["llm"].phase, account.moving, account.waiting) == ("absent", {}, {})


@pytest.mark.parametrize(
    ("effect", "violation"),
    [
        (Load("tts"), "tts is loaded for nobody"),
        (Load("llm"), "llm is loaded while it is resident"),
        (Unload("tts", "room"), "tts is unloaded while it is absent"),
        (Unload("asr", "room"), "asr is evicted although it is pinned"),
        (Unload("llm", "idle"), "llm is unloaded as idle after 0 s"),
        (Unload("llm", "reload"), "llm is unloaded to be loaded afresh, for no reason"),
        (Unload("llm", "stopping"), "llm is unloaded although nobody stops"),
        (Grant(1, "tts"), "ticket 1 is granted tts, but does not wait for it"),
        (Refuse(9, OSError()), "ticket 9 is refused, but does not wait"),
    ],
)
def test_an_effect_that_cannot_be_is_a_violation(account: Account, effect: Effect, violation: str) -> None:
    loaded(account, 1, "llm")
    loaded(account, 2, "asr")

    with pytest.raises(Violation, match=violation):
        account.apply([effect])


def test_nobody_overtakes_an_earlier_waiter_that_is_overdue(account: Account) -> None:
    loaded(account, 1, "llm")
    account.request(2, "tts", 0)
    account.request(3, "llm", 0)
    account.apply([Grant(1, "llm")])
    account.release(1, 2)

    with pytest.raises(Violation, match="ticket 3 overtakes 2"):
        account.apply([Grant(3, "llm")])


def test_all_that_is_idle_leaves_when_a_load_runs_out_of_memory_for_those_who_wait(account: Account) -> None:
    loaded(account, 1, "llm")
    account.cancel(1, 0)
    account.request(2, "tts", 0)
    account.apply([Load("tts")])
    account.load_failed("tts", 1, out_of_memory=True)

    with pytest.raises(Violation, match="a model stays idle although a load ran out of memory"):
        account.apply([])


def test_it_knows_for_how_long_a_model_lingers(account: Account) -> None:
    loaded(account, 1, "llm")
    account.apply([Grant(1, "llm")])
    account.release(1, 10)
    account.request(2, "llm", 12)

    assert (account.places["llm"].gaps_s, account.places["llm"].linger_s) == ([2], 3)
