"""Brings repositories into the models folder: planned and measured first, held to the lock, verified by hash."""

import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmux.hub import Advance, Hub, HubError, Listing, RemoteFile, sha256_of, take
from llmux.lock import Pinned, Record, Seen, read_record, write_record
from llmux.weights import Repository, read_config

_PARTS = ".parts"

Begin = Callable[[str, int, int], Advance]
"""Told of each file that is to come: its name, its bytes, and how many of these are there already."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A repository that is to be in its folder.

    here: by name, the SHA-256 of files that an earlier fetch verified
    locked: what it must be, if the lock has it
    """

    listing: Listing
    folder: Path
    here: Mapping[str, Seen]
    locked: Pinned | None

    def part(self, file: RemoteFile) -> Path:
        return self.folder / _PARTS / (file.sha256 or file.blob_id)

    def held_bytes(self, file: RemoteFile) -> int:
        """Of a file, what is on the disk: all of it may still turn out to be something else."""
        if _has_size(self.folder / file.name, file.bytes):
            return file.bytes
        part = self.part(file)
        return min(part.stat().st_size, file.bytes) if part.is_file() else 0


def plan(hub: Hub, repository: Repository, models_dir: Path, locked: Pinned | None) -> Plan:
    """What is to be done for a repository. Raises HubError and LockError."""
    listing = hub.listing(repository, locked.revision if locked else None)
    folder = models_dir / repository.name
    record = read_record(folder)
    held = {
        file.name: record.files[file.name]
        for file in listing.files
        if record and _holds(record, file, listing.revision)
    }
    if record and _was_converted(folder):
        intact = all(_has_size(folder / name, seen.bytes) for name, seen in record.converted.items())
        return Plan(listing, folder, held if intact and len(held) == len(listing.files) else {}, locked)
    here = {name: seen for name, seen in held.items() if _has_size(folder / name, seen.bytes)}
    return Plan(listing, folder, here, locked)


def _holds(record: Record, file: RemoteFile, revision: str) -> bool:
    """Whether the record is of this very file: by hash, or by revision where git has a hash of its own."""
    seen = record.files.get(file.name)
    return seen is not None and (seen.sha256 == file.sha256 if file.sha256 else record.revision == revision)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _seen(path: Path) -> Seen:
    return Seen(bytes=path.stat().st_size, sha256=sha256_of(path))


def _is_gpt_oss(folder: Path) -> bool:
    return read_config(folder).get("model_type") == "gpt_oss"


def _was_converted(folder: Path) -> bool:
    if not _is_gpt_oss(folder):
        return False
    from providers import mxfp4  # with torch, for which no other repository should wait

    return mxfp4.was_converted(folder)


def _convert(folder: Path, record: Record) -> Record:
    """Pack a gpt-oss that was published unpacked, which then takes a third of the room. Raises HubError."""
    if not _is_gpt_oss(folder):
        return record
    from providers import mxfp4

    if mxfp4.is_unpacked_gpt_oss(folder):
        needed = sum(path.stat().st_size for path in folder.glob("*.safetensors")) // 2
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise HubError(
                f"{folder.name} is here, and is to be packed: that takes {needed / 1e9:.1f} GB beside it, and "
                f"{free / 1e9:.1f} GB are free; make room and fetch again"
            )
        mxfp4.convert_in_place(folder)
        record = Record(revision=record.revision, files=record.files)
    if mxfp4.was_converted(folder) and not record.converted:
        made = {name: _seen(folder / name) for name in _files(folder) if not name.startswith(".")}
        return record.model_copy(update={"converted": made})
    return record


def shortage(plans: Sequence[Plan], hub: Hub, models_dir: Path) -> tuple[int, int] | None:
    """Bytes that are to come and bytes that are free, where the second are fewer."""
    models_dir.mkdir(parents=True, exist_ok=True)
    to_come: dict[Path, int] = {}
    for each in plans:
        for file in [file for file in each.listing.files if file.name not in each.here]:
            cached = hub.cached(each.listing, file)
            if cached is None or cached.stat().st_dev != models_dir.stat().st_dev:
                to_come[each.folder / file.name] = file.bytes - each.held_bytes(file)
    needed, free = sum(to_come.values()), shutil.disk_usage(models_dir).free
    return (needed, free) if needed > free else None


def bring(hub: Hub, plan: Plan, begin: Begin) -> None:
    """Carry out a plan, file by file, the small ones first. Raises HubError; what is done by then is kept."""
    listing, folder = plan.listing, plan.folder
    (folder / _PARTS).mkdir(parents=True, exist_ok=True)
    earlier = read_record(folder)
    same = earlier is not None and earlier.revision == listing.revision
    record = Record(
        revision=listing.revision,
        files={**(earlier.files if earlier and same else {}), **plan.here},
        converted=earlier.converted if earlier and len(plan.here) == len(listing.files) else {},
    )
    for file in listing.files:
        path, seen = folder / file.name, plan.here.get(file.name)
        sha256 = file.check(path) if seen is None and path.is_file() else None
        comes = seen is None and sha256 is None
        if seen is None:
            seen = Seen(bytes=file.bytes, sha256=sha256 or _obtain(hub, plan, file, begin))
        _hold_to_lock(plan, file.name, seen)
        if comes:
            path.parent.mkdir(parents=True, exist_ok=True)
            plan.part(file).replace(path)
        if file.name not in plan.here:
            record = record.with_file(file.name, seen)
            write_record(folder, record)
    write_record(folder, record)
    shutil.rmtree(folder / _PARTS)
    write_record(folder, _convert(folder, record))


def _obtain(hub: Hub, plan: Plan, file: RemoteFile, begin: Begin) -> str:
    """The SHA-256 of the whole file, which then lies at plan.part(file)."""
    part, advance = plan.part(file), begin(file.name, file.bytes, plan.held_bytes(file))
    cached = hub.cached(plan.listing, file)
    if cached is not None and not part.exists():
        take(cached, part)
        if sha256 := file.check(part):
            advance(file.bytes)
            return sha256
        part.unlink()  # another name for what the cache has, which stays as it is
    hub.download(plan.listing, file, part, advance)
    sha256 = file.check(part)
    if sha256 is None:
        part.unlink()
        raise HubError(f"{file.name} of {plan.listing.repository.name} came damaged and was dropped; fetch again")
    return sha256


def _hold_to_lock(plan: Plan, name: str, seen: Seen) -> None:
    if plan.locked and name in plan.locked.files and plan.locked.files[name] != seen:
        raise HubError(
            f"{name} of {plan.listing.repository.name} is not what the lock pins: nothing was put in its place. "
            "If the new one is wanted: `weights fetch --latest`, then `weights lock`"
        )


Verdict = Literal["good", "missing", "damaged", "other", "unknown"]
"""other: sound, but not what the lock pins. unknown: nobody saw its hash."""


def verify(repository: Repository, models_dir: Path, locked: Pinned | None) -> Iterator[tuple[str, Verdict]]:
    """Every file that the repository was fetched with, or the lock has, by hash. Reads all of them.

    What is damaged loses its place in the record, so that the next fetch replaces it. Raises LockError.
    """
    folder = models_dir / repository.name
    record = read_record(folder)
    seen = record.here if record else {}
    pinned = locked.files if locked else {}
    expected = seen if record and record.converted else {**pinned, **seen}
    for name in sorted(name for name in {*expected, *_files(folder)} if repository.wants(name)):
        path = folder / name
        if not path.is_file():
            yield name, "missing"
        elif name not in expected:
            yield name, "unknown"
        elif _seen(path) == expected[name]:
            yield name, "good" if _as_pinned(name, record, pinned) else "other"
        else:
            if record is not None:
                record = record.without(name)
                write_record(folder, record)
            yield name, "damaged"


def _as_pinned(name: str, record: Record | None, pinned: Mapping[str, Seen]) -> bool:
    """A converted copy is what the lock pins if all that it was made from is."""
    if record is None:
        return True
    names = record.files if record.converted else [name]
    return all(record.files.get(each) == pinned[each] for each in names if each in pinned)


def remove(repository: Repository, models_dir: Path, others: Sequence[Repository]) -> int:
    """Delete what was fetched of a repository and no other model needs. Returns the bytes. Raises LockError."""
    folder = models_dir / repository.name
    record, freed = read_record(folder), 0
    for name in _files(folder):
        if repository.wants(name) and not any(other.name == repository.name and other.wants(name) for other in others):
            freed += (folder / name).stat().st_size
            (folder / name).unlink()
            record = record.without(name) if record else None
    if record is not None:
        write_record(folder, record)
    if not any(repository.name == other.name for other in others):
        shutil.rmtree(folder, ignore_errors=True)
    return freed


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@contextmanager
def alone(models_dir: Path) -> Iterator[None]:
    """Nobody else fetches into the folder meanwhile. Raises HubError where somebody does."""
    models_dir.mkdir(parents=True, exist_ok=True)
    with (models_dir / ".fetching").open("w") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise HubError("another `weights fetch` is at work in this folder; wait for it") from None
        yield
