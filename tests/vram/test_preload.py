"""What is loaded at the start: by priority, one after the other, as far as there is room."""

import logging
from dataclasses import replace

import pytest

from vram.model import ModelSpec, Task
from vram.preload import preload, room
from vram.refusal import Stopping
from vram.snapshot import ModelState, Snapshot


def spec(name: str, task: Task, taken: int, *, wanted: bool = True) -> ModelSpec:
    return ModelSpec(name, task, taken, preload=wanted)


class Loads:
    """16 GB, and loads that fail as they are told to."""

    def __init__(self, models: list[ModelSpec], **errors: Exception) -> None:
        self.models = {model.id: model for model in models}
        self.errors = errors
        self.tried: list[str] = []
        self.free = 16 * 10**9

    async def load(self, model: str) -> None:
        self.tried.append(model)
        if model in self.errors:
            raise self.errors[model]
        self.free -= self.models[model].estimate_bytes * 10**9

    def snapshot(self) -> Snapshot:
        states = tuple(
            ModelState(
                id=model.id,
                task=model.task,
                phase="absent",
                bytes=model.estimate_bytes * 10**9,
                leases=0,
                waiting=0,
                last_used_s_ago=None,
                pinned=False,
                stuck=False,
                predicted_bytes=model.estimate_bytes * 10**9,
            )
            for model in self.models.values()
        )
        return Snapshot(16 * 10**9, 0, 0, 0, self.free, states)


async def test_the_highest_class_first_and_within_one_as_they_are_listed() -> None:
    models = [spec("chat", "llm", 4), spec("other", "llm", 1), spec("no", "asr", 1, wanted=False)]
    models += [spec("voice", "tts", 2), spec("ears", "asr", 4)]
    loads = Loads(models)

    await preload(loads, models)

    assert loads.tried == ["ears", "voice", "chat", "other"]


async def test_what_does_not_fit_or_does_not_load_costs_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    models = [spec("ears", "asr", 4), spec("broken", "tts", 2), spec("large", "llm", 13), spec("chat", "llm", 9)]
    loads = Loads(models, broken=OSError("/a/path/of/this/machine"))

    await preload(loads, models)

    assert loads.tried == ["ears", "broken", "chat"]
    assert [record.getMessage() for record in caplog.records] == [
        "broken was not preloaded: OSError",
        "large is not preloaded: it takes 13.00 GB, and 12.00 GB are free",
    ]


async def test_it_ends_when_the_arbiter_stops(caplog: pytest.LogCaptureFixture) -> None:
    models = [spec("ears", "asr", 4), spec("voice", "tts", 2)]
    loads = Loads(models, ears=Stopping())

    await preload(loads, models)

    assert loads.tried == ["ears"]
    assert caplog.records == []


async def test_what_others_wait_for_is_not_taken_by_a_preload() -> None:
    snapshot = Loads([spec("chat", "llm", 9), spec("ears", "asr", 4)]).snapshot()
    awaited, ears = snapshot.models
    busy = replace(snapshot, models=(replace(awaited, waiting=1), ears))

    assert room(snapshot, "ears") == (4 * 10**9, 16 * 10**9)
    assert room(busy, "ears") == (4 * 10**9, 7 * 10**9)
    assert room(busy, "chat") == (9 * 10**9, 16 * 10**9)
