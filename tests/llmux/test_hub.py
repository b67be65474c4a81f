import hashlib
import socket
from pathlib import Path

import pytest

from llmux.hub import Hub, HubError, RemoteFile, take
from llmux.weights import Repository
from tests.hub import git_blob, hub

CONTENT = b"weights" * 500


def test_a_file_is_told_by_its_sha256_or_by_gits_hash(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    large = RemoteFile("file", len(CONTENT), sha256, "")
    small = RemoteFile("file", len(CONTENT), None, git_blob(CONTENT))
    assert large.check(tmp_path / "file") == small.check(tmp_path / "file") == sha256
    for content in (CONTENT[:-1] + b"x", CONTENT[:-1]):
        (tmp_path / "file").write_bytes(content)
        assert large.check(tmp_path / "file") is None
        assert small.check(tmp_path / "file") is None


def test_a_listing_has_what_is_wanted_the_small_ones_first() -> None:
    with hub() as remote:
        commit = remote.publish("org/m", {"a.safetensors": CONTENT, "config.json": b"{}", "a.bin": CONTENT})
        listing = Hub(remote.url).listing(Repository("org/m", ("*.json", "*.safetensors")))
    assert listing.revision == commit
    assert [file.name for file in listing.files] == ["config.json", "a.safetensors"]
    assert [file.sha256 for file in listing.files] == [None, hashlib.sha256(CONTENT).hexdigest()]


def test_a_kernel_is_listed_as_one() -> None:
    with hub() as remote:
        remote.publish(
            "org/k", {"build/torch-cuda/k/a.py": b"a", "build/torch212-cu130/k.so": CONTENT, "README.md": b"b"}
        )
        listing = Hub(remote.url).listing(Repository("org/k", ("build/torch-cuda/*",), "kernel", "v1"))
    assert [file.name for file in listing.files] == ["build/torch-cuda/k/a.py"]


def test_a_part_that_is_longer_than_the_file_is_begun_anew(tmp_path: Path) -> None:
    came: list[int] = []
    with hub() as remote:
        remote.publish("org/m", {"a.safetensors": CONTENT})
        here = Hub(remote.url)
        listing = here.listing(Repository("org/m", ("*",)))
        (tmp_path / "part").write_bytes(CONTENT + b"more")
        here.download(listing, listing.files[0], tmp_path / "part", came.append)
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert came == [-len(CONTENT) - 4, len(CONTENT)]


def test_a_hub_that_cannot_be_reached_says_so_in_one_line() -> None:
    with socket.socket() as unheard, hub():
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        with pytest.raises(HubError, match="cannot be reached"):
            Hub(url).listing(Repository("org/m", ("*",)))


def test_a_file_is_taken_by_a_second_name_or_else_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    take(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").samefile(tmp_path / "a")

    def another_file_system(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", another_file_system)
    take(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == CONTENT
    assert not (tmp_path / "c").samefile(tmp_path / "a")
