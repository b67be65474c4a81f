from pathlib import Path

import pytest

from llmux.config import Config, load_config
from llmux.lock import LockError, Pinned, Record, Seen, lock_path, read_lock, read_record, write_lock, write_record

SHIPPED = Path(__file__).parents[2] / "litellm_config.yaml"
PINNED = Pinned(revision="0" * 40, files={"config.json": Seen(bytes=2, sha256="1" * 64)})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "litellm_config.yaml").write_text(SHIPPED.read_text())
    return load_config(tmp_path / "litellm_config.yaml")


def test_a_lock_lies_beside_its_configuration_and_says_what_was_written(config: Config) -> None:
    assert read_lock(config) == {}
    write_lock(config, {"org/b": PINNED, "org/a": PINNED})
    assert lock_path(config) == config.path.parent / "litellm_config.lock.json"
    assert list(read_lock(config)) == ["org/a", "org/b"]
    assert read_lock(config)["org/a"] == PINNED


def test_a_record_grows_and_shrinks_by_files(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    record = Record(revision=PINNED.revision, files=PINNED.files)
    more = record.with_file("model.safetensors", Seen(bytes=3, sha256="2" * 64))
    write_record(tmp_path, more)
    assert read_record(tmp_path) == more
    assert more.without("model.safetensors") == record
    assert record.pinned == PINNED


def test_a_converted_copy_is_whole_or_nothing() -> None:
    packed = {"config.json": Seen(bytes=3, sha256="3" * 64)}
    record = Record(revision=PINNED.revision, files=PINNED.files, converted=packed)
    assert record.here == packed
    assert record.pinned == PINNED
    assert record.without("config.json").files == {}


@pytest.mark.parametrize("content", ["", "[]", '{"a": {}}', '{"a": {"revision": "1", "files": {"b": {"bytes": "x"}}}}'])
def test_a_lock_that_cannot_be_read_is_an_error_and_not_an_empty_one(config: Config, content: str) -> None:
    lock_path(config).write_text(content)
    with pytest.raises(LockError, match="beside the configuration"):
        read_lock(config)
    (config.path.parent / ".fetched.json").write_text(content)
    with pytest.raises(LockError, match="fetch again"):
        read_record(config.path.parent)
