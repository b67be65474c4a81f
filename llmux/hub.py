"""The Hugging Face hub: what a repository holds, and its files; a fetch goes on where another was broken off.

huggingface_hub does the talking (endpoint, token, retries, cache). Its own downloads begin anew in a new process since
version 1.0, which matters for files of 20 GB: so only its transfer is used here, onto a file that stays.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import HfApi, get_token, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers

from llmux.weights import Repository

Advance = Callable[[int], None]
"""Told how many more bytes are there; a negative number takes back what was lost."""


class HubError(Exception):
    """A repository cannot be had. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the hub describes it.

    sha256: of its bytes, where the hub keeps it outside git; else git's own hash of it is `blob_id`
    """

    name: str
    bytes: int
    sha256: str | None
    blob_id: str

    def check(self, path: Path) -> str | None:
        """The SHA-256 of a local file if it is this one, else None. Reads all of it."""
        if path.stat().st_size != self.bytes:
            return None
        sha256 = sha256_of(path)
        same = sha256 == self.sha256 if self.sha256 else _git_blob(path) == self.blob_id
        return sha256 if same else None


@dataclass(frozen=True, slots=True)
class Listing:
    """What is wanted of a repository, at one commit."""

    repository: Repository
    revision: str
    files: tuple[RemoteFile, ...]


class Hub:
    """endpoint: None takes HF_ENDPOINT, or the hub itself"""

    def __init__(self, endpoint: str | None = None) -> None:
        self._api = HfApi(endpoint=endpoint)

    def listing(self, repository: Repository, revision: str | None = None) -> Listing:
        """Its wanted files at a commit, or at the end of its branch. Raises HubError, also where terms bar the way."""
        with _explained(repository):
            info = self._api.repo_info(
                repository.name, repo_type=repository.kind, revision=revision or repository.branch
            )
            if info.gated:
                self._api.auth_check(repository.name, repo_type=repository.kind)
            tree = self._api.list_repo_tree(
                repository.name, recursive=True, repo_type=repository.kind, revision=info.sha
            )
            files = [
                RemoteFile(each.path, each.size, each.lfs.sha256 if each.lfs else None, each.blob_id)
                for each in tree
                if isinstance(each, RepoFile) and repository.wants(each.path)
            ]
        if not files:
            raise HubError(f"{repository.name} holds nothing that this model needs; see its weights, file and variant")
        return Listing(repository, info.sha, tuple(sorted(files, key=lambda file: file.bytes)))

    def cached(self, listing: Listing, file: RemoteFile) -> Path | None:
        """The file in this user's Hugging Face cache."""
        repository = listing.repository
        found = try_to_load_from_cache(repository.name, file.name, revision=listing.revision, repo_type=repository.kind)
        return Path(found).resolve() if isinstance(found, str) else None

    def download(self, listing: Listing, file: RemoteFile, onto: Path, advance: Advance) -> None:
        """Fetch what `onto` does not hold yet of the file. Raises HubError; what came by then stays."""
        repository = listing.repository
        url = hf_hub_url(
            repository.name,
            file.name,
            repo_type=repository.kind,
            revision=listing.revision,
            endpoint=self._api.endpoint,
        )
        with _explained(repository), onto.open("ab") as part:
            if part.tell() > file.bytes:
                advance(-part.tell())
                part.truncate(0)
                part.seek(0)
            http_get(
                url,
                part,
                resume_size=part.tell(),
                headers=build_hf_headers(token=self._api.token),
                expected_size=file.bytes,
                tqdm_class=_told(advance),
            )


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_blob(path: Path) -> str:
    """git's own hash of a file: only of small ones, which are read whole."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def take(source: Path, target: Path) -> None:
    """A second name for a file, or a copy of it where it lies on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _told(advance: Advance) -> Any:
    """A progress bar, as huggingface_hub drives one, that only passes on how far it got."""

    class Bar:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, more: int) -> None:
            advance(more)

    return Bar


@contextmanager
def _explained(repository: Repository) -> Iterator[None]:
    name = repository.name
    try:
        yield
    except GatedRepoError:
        if get_token() is None:
            raise HubError(
                f"{name} is gated: accept its terms at https://huggingface.co/{name}, make a token at "
                "https://huggingface.co/settings/tokens, set HF_TOKEN to it, and fetch again"
            ) from None
        raise HubError(
            f"{name} is gated, and the account of this HF_TOKEN has no access: accept its terms at "
            f"https://huggingface.co/{name} (they may take time to be granted), and fetch again"
        ) from None
    except RevisionNotFoundError:
        raise HubError(f"{name} no longer has the revision that is wanted; see `weights fetch --latest`") from None
    except (RepositoryNotFoundError, EntryNotFoundError):
        raise HubError(f"{name} is not on the hub, or not for this HF_TOKEN; see the configuration") from None
    except HfHubHTTPError as error:
        raise HubError(f"the hub answered {error.response.status_code} for {name}; fetch again later") from None
    except httpx.HTTPError:
        raise HubError(f"the hub cannot be reached for {name}; what is there is kept, fetch again") from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise HubError(f"the disk is full; what came of {name} is kept, make room and fetch again") from None
        raise HubError(f"{name} came incompletely ({type(error).__name__}); what came is kept, fetch again") from None
