"""A trace served in virtual time."""

from dataclasses import replace

import pytest

from bench.peers import Fifo, LlamaSwap, Ollama
from bench.replay import Replay
from bench.trace import Asked, Trace, read_trace
from bench.vram_sim import llmux
from vram.model import ModelSpec

TRACE = Trace("two", 16, 2.0, 0.5, (ModelSpec("a", "llm", 10), ModelSpec("b", "asr", 8)), ())


def test_a_request_waits_for_the_unload_and_the_load_before_it() -> None:
    trace = replace(TRACE, requests=(Asked("a", 1.0, 0.0), Asked("b", 1.0, 2.0)))
    outcome = Replay(trace, llmux(trace)).run()
    assert outcome.waits_s == {"llm": [5.0], "asr": [pytest.approx(5 + 1 + 0.5 + 4 - 2)]}
    assert (outcome.loads, outcome.evictions) == (2, 1)


def test_who_follows_asks_after_the_start_or_the_end_of_the_other() -> None:
    trace = replace(TRACE, requests=(Asked("a", 3.0, 0.0), Asked("a", 1.0, 1.0, 0, "start"), Asked("a", 1.0, 1.0, 0)))
    outcome = Replay(trace, llmux(trace)).run()
    assert outcome.waits_s["llm"] == [5.0, 2.0, 0.0]
    assert outcome.arrivals == [(0.0, "a"), (6.0, "a"), (9.0, "a")]


def test_a_load_is_lone_when_nobody_waits_for_another_model() -> None:
    trace = replace(TRACE, requests=(Asked("a", 1.0, 0.0), Asked("b", 1.0, 0.1), Asked("a", 1.0, 60.0)))
    assert Replay(trace, Fifo(trace.models, 16)).run().lone_loads == 3


def test_quantiles_are_waits_that_were_waited() -> None:
    trace = replace(TRACE, requests=tuple(Asked("a", 1.0, 0.0) for _ in range(4)))
    outcome = Replay(trace, llmux(trace)).run()
    assert [outcome.quantile_s("llm", share) for share in (0, 0.5, 0.95, 1)] == [5, 7, 8, 8]


def test_who_is_refused_or_never_served_is_an_error() -> None:
    too_large = replace(TRACE, models=(ModelSpec("a", "llm", 17),), requests=(Asked("a", 1.0, 0.0),))
    with pytest.raises(ValueError, match="request 0 was refused"):
        Replay(too_large, llmux(too_large)).run()
    with pytest.raises(ValueError, match="somebody was never served"):
        Replay(too_large, LlamaSwap(too_large.models, 16)).run()


def test_a_b_a_a_c_a_b_c_costs_three_loads_and_seven_first_in_first_out() -> None:
    trace = read_trace("abaacabc")
    assert Replay(trace, llmux(trace)).run().loads == 3
    assert Replay(trace, Fifo(trace.models, trace.budget_bytes)).run().loads == 7
    assert Replay(trace, Ollama(trace.models, trace.budget_bytes, None)).run().loads == 3
