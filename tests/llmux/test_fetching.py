import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest

from llmux import fetching
from llmux.hub import Advance, Hub, HubError
from llmux.lock import Pinned, Seen, read_record
from llmux.weights import Repository
from providers import mxfp4
from tests import checkpoints
from tests.hub import StandIn, git_blob, hub

NAME = "org/model"
MODEL = Repository(NAME, ("*.json", "*.safetensors"))
WEIGHTS = bytes(range(256)) * 40
FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"the same, in another format" * 100,
    "original/model.safetensors": WEIGHTS,
}


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub() as stand_in:
        stand_in.publish(NAME, FILES)
        yield stand_in


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def unseen(name: str, size: int, held: int) -> Advance:
    return lambda more: None


def fetch(remote: StandIn, models: Path, begin: fetching.Begin = unseen, locked: Pinned | None = None) -> None:
    here = Hub(remote.url)
    fetching.bring(here, fetching.plan(here, MODEL, models, locked), begin)


def interrupted_after(chunks: int) -> fetching.Begin:
    """Ctrl-C while the weights come."""

    def begin(name: str, size: int, held: int) -> Advance:
        left = [chunks]

        def advance(more: int) -> None:
            left[0] -= 1
            if name == "model.safetensors" and left[0] < 0:
                raise KeyboardInterrupt

        return advance

    return begin


def verdicts(models: Path, locked: Pinned | None = None) -> dict[str, str]:
    return dict(fetching.verify(MODEL, models, locked))


GOOD = {"config.json": "good", "model.safetensors": "good"}


def test_what_is_wanted_is_fetched_and_nothing_twice_in_another_format(remote: StandIn, models: Path) -> None:
    fetch(remote, models)
    there = sorted(path.name for path in (models / NAME).iterdir())
    assert there == [".fetched.json", "config.json", "model.safetensors"]
    assert (models / NAME / "model.safetensors").read_bytes() == WEIGHTS
    assert verdicts(models) == GOOD


def test_the_record_holds_the_commit_and_the_sha256_of_every_file(remote: StandIn, models: Path) -> None:
    fetch(remote, models)
    record = read_record(models / NAME)
    assert record is not None
    assert record.revision == next(iter(remote.of(NAME)))
    assert record.files == {
        name: Seen(bytes=len(FILES[name]), sha256=hashlib.sha256(FILES[name]).hexdigest())
        for name in ("config.json", "model.safetensors")
    }


def test_a_second_fetch_asks_for_no_bytes(remote: StandIn, models: Path) -> None:
    fetch(remote, models)
    remote.asked.clear()
    fetch(remote, models)
    assert remote.asked == []


def test_an_interrupted_fetch_goes_on_where_it_was(remote: StandIn, models: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch(remote, models, interrupted_after(3))
    begun: list[tuple[str, int, int]] = []

    def begin(name: str, size: int, held: int) -> Advance:
        begun.append((name, size, held))
        return lambda more: None

    fetch(remote, models, begin)
    assert remote.bytes_asked("model.safetensors") == [None, "bytes=3072-"]
    assert remote.bytes_asked("config.json") == [None]
    assert begun == [("model.safetensors", len(WEIGHTS), 3072)]
    assert verdicts(models) == GOOD


def test_what_comes_damaged_takes_no_place(remote: StandIn, models: Path) -> None:
    remote.damaged = {"model.safetensors", "config.json"}
    for name in ("config.json", "model.safetensors"):
        with pytest.raises(HubError, match=f"{name} of org/model came damaged"):
            fetch(remote, models)
        assert not (models / NAME / name).exists()
        remote.damaged.discard(name)
    fetch(remote, models)
    assert verdicts(models) == GOOD


def test_verify_finds_damage_and_the_next_fetch_mends_it(remote: StandIn, models: Path) -> None:
    fetch(remote, models)
    weights = models / NAME / "model.safetensors"
    weights.write_bytes(bytes(len(WEIGHTS)))
    assert verdicts(models) == {**GOOD, "model.safetensors": "damaged"}
    fetch(remote, models)
    assert verdicts(models) == GOOD
    weights.unlink()
    assert verdicts(models) == {**GOOD, "model.safetensors": "missing"}


def test_files_that_somebody_else_put_there_are_taken_if_they_are_the_same(remote: StandIn, models: Path) -> None:
    (models / NAME).mkdir(parents=True)
    (models / NAME / "model.safetensors").write_bytes(WEIGHTS)
    assert verdicts(models) == {"model.safetensors": "unknown"}
    fetch(remote, models)
    assert remote.bytes_asked("model.safetensors") == []
    assert verdicts(models) == GOOD


def test_a_whole_file_is_not_replaced_by_what_was_left_of_a_fetch(remote: StandIn, models: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch(remote, models, interrupted_after(3))
    (models / NAME / "model.safetensors").write_bytes(WEIGHTS)
    fetch(remote, models)
    assert verdicts(models) == GOOD


def test_the_hugging_face_cache_is_used_and_left_as_it_is(remote: StandIn, models: Path, tmp_path: Path) -> None:
    commit = next(iter(remote.of(NAME)))
    snapshot = tmp_path / "cache" / "models--org--model" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(WEIGHTS)
    fetch(remote, models)
    assert remote.bytes_asked("model.safetensors") == []
    assert (models / NAME / "model.safetensors").samefile(snapshot / "model.safetensors")
    (snapshot / "config.json").write_bytes(b"damaged in the cache..")
    (models / NAME / "config.json").unlink()
    fetch(remote, models)
    assert (snapshot / "config.json").read_bytes() == b"damaged in the cache.."
    assert verdicts(models) == GOOD


def test_a_gated_repository_is_explained_by_what_is_missing(
    remote: StandIn, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.gated.add(NAME)
    with pytest.raises(HubError, match=r"accept its terms at https://huggingface.co/org/model, make a token"):
        fetch(remote, models)
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(HubError, match="the account of this HF_TOKEN has no access"):
        fetch(remote, models)
    assert remote.asked == []


def test_a_full_disk_is_foreseen(remote: StandIn, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Hub(remote.url)
    plan = fetching.plan(here, MODEL, models, None)
    assert fetching.shortage([plan], here, models) is None
    whole = len(WEIGHTS) + len(FILES["config.json"])

    monkeypatch.setattr("llmux.fetching.shutil.disk_usage", lambda path: SimpleNamespace(free=whole - 1))
    assert fetching.shortage([plan, plan], here, models) == (whole, whole - 1)
    part = plan.part(plan.listing.files[-1])
    part.parent.mkdir(parents=True)
    part.write_bytes(WEIGHTS[:100])
    assert fetching.shortage([plan], here, models) is None


def test_a_disk_that_fills_up_keeps_what_came(remote: StandIn, models: Path) -> None:
    here = Hub(remote.url)
    plan = fetching.plan(here, MODEL, models, None)
    part = plan.part(plan.listing.files[-1])
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(HubError, match="the disk is full"):
        fetching.bring(here, plan, unseen)
    part.unlink()
    fetch(remote, models)
    assert remote.bytes_asked("config.json") == [None]


def test_the_lock_pins_the_revision(remote: StandIn, models: Path) -> None:
    fetch(remote, models)
    locked = read_record(models / NAME)
    remote.publish(NAME, {**FILES, "model.safetensors": WEIGHTS[::-1]})
    fetch(remote, models, locked=locked)
    assert (models / NAME / "model.safetensors").read_bytes() == WEIGHTS
    fetch(remote, models)
    assert (models / NAME / "model.safetensors").read_bytes() == WEIGHTS[::-1]
    assert verdicts(models) == GOOD
    assert verdicts(models, locked) == {**GOOD, "model.safetensors": "other"}


def test_what_is_not_what_the_lock_pins_takes_no_place(remote: StandIn, models: Path) -> None:
    commit = next(iter(remote.of(NAME)))
    other = Seen(bytes=len(WEIGHTS), sha256=hashlib.sha256(b"other").hexdigest())
    with pytest.raises(HubError, match="not what the lock pins"):
        fetch(remote, models, locked=Pinned(revision=commit, files={"model.safetensors": other}))
    assert not (models / NAME / "model.safetensors").exists()
    with pytest.raises(HubError, match="no longer has the revision"):
        fetch(remote, models, locked=Pinned(revision="0" * 40, files={}))


def test_a_repository_that_is_not_there_and_a_hub_that_is_not_there_are_told_apart(
    remote: StandIn, models: Path
) -> None:
    with pytest.raises(HubError, match="org/other is not on the hub"):
        Hub(remote.url).listing(Repository("org/other", ("*",)))
    with pytest.raises(HubError, match="holds nothing that this model needs"):
        Hub(remote.url).listing(Repository(NAME, ("*.gguf",)))


def test_files_that_another_model_needs_are_not_removed(remote: StandIn, models: Path) -> None:
    fetch(remote, models)
    assert fetching.remove(MODEL, models, [Repository(NAME, ("*.json",))]) == len(WEIGHTS)
    assert verdicts(models) == {"config.json": "good"}
    fetching.remove(MODEL, models, [])
    assert not (models / NAME).exists()


@pytest.fixture
def unpacked(remote: StandIn, tmp_path: Path) -> str:
    """The commit of a tiny gpt-oss in plain numbers."""
    checkpoints.write_gpt_oss(tmp_path / "published")
    return remote.publish(NAME, {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()})


def test_a_gpt_oss_that_was_published_unpacked_is_packed_once(remote: StandIn, models: Path, unpacked: str) -> None:
    fetch(remote, models)
    assert mxfp4.was_converted(models / NAME)
    record = read_record(models / NAME)
    assert record is not None
    published = remote.of(NAME)[unpacked]
    assert {name: seen.bytes for name, seen in record.files.items()} == {
        name: len(content) for name, content in published.items() if MODEL.wants(name)
    }
    assert set(verdicts(models, record.pinned).values()) == {"good"}
    remote.asked.clear()
    here = Hub(remote.url)
    with pytest.MonkeyPatch.context() as full:
        full.setattr("llmux.fetching.shutil.disk_usage", lambda path: SimpleNamespace(free=0))
        assert fetching.shortage([fetching.plan(here, MODEL, models, None)], here, models) is None
    fetch(remote, models, locked=record.pinned)
    assert remote.asked == []
    assert read_record(models / NAME) == record


def test_a_damaged_packed_copy_is_made_anew_from_what_was_published(
    remote: StandIn, models: Path, unpacked: str
) -> None:
    fetch(remote, models)
    whole = (models / NAME / "model.safetensors").read_bytes()
    (models / NAME / "model.safetensors").write_bytes(bytes(len(whole)))
    assert verdicts(models)["model.safetensors"] == "damaged"
    fetch(remote, models)
    assert (models / NAME / "model.safetensors").read_bytes() == whole
    assert set(verdicts(models).values()) == {"good"}


def test_packing_needs_room_beside_what_was_fetched(
    remote: StandIn, models: Path, unpacked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmux.fetching.shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(HubError, match="is to be packed"):
        fetch(remote, models)
    monkeypatch.undo()
    remote.asked.clear()
    fetch(remote, models)
    assert remote.asked == []
    assert mxfp4.was_converted(models / NAME)


def test_two_fetches_into_one_folder_do_not_meet(models: Path) -> None:
    with fetching.alone(models), pytest.raises(HubError, match="another"), fetching.alone(models):
        pass


def test_git_and_the_stand_in_hash_alike() -> None:
    assert git_blob(b"what is up, doc?") == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"  # Pro Git, chapter 10.2
