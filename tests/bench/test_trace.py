"""Traces are kept as files, one request a line."""

import pytest

from bench.trace import TRACES, Asked, parse, read_trace

NAMES = sorted(path.stem for path in TRACES.glob("*.jsonl"))


def test_a_request_comes_at_its_time_or_after_another() -> None:
    header = (
        '{"about": "two", "budget_bytes": 9, "load_bytes_per_s": 2.0, "unload_s": 0.5, "models": {"a": ["llm", 4]}}'
    )
    trace = parse([header, '["a",1.5,3.0]', '["a",0.5,0.1,0,"start"]'])
    assert trace.requests == (Asked("a", 1.5, 3.0), Asked("a", 0.5, 0.1, 0, "start"))
    assert [(model.id, model.task, model.estimate_bytes) for model in trace.models] == [("a", "llm", 4)]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_what_was_read(name: str) -> None:
    trace = read_trace(name)
    assert parse(trace.text().splitlines()) == trace


@pytest.mark.parametrize("name", NAMES)
def test_nobody_follows_one_who_comes_later_and_every_model_is_known(name: str) -> None:
    trace = read_trace(name)
    models = {model.id for model in trace.models}
    for index, asked in enumerate(trace.requests):
        assert asked.model in models
        assert asked.after is None or asked.after < index
