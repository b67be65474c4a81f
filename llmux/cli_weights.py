"""`llmux weights`: the only commands that ask the Hugging Face hub, and only for what the configuration names."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llmux.config import Config
from llmux.lock import LockError, Pinned, lock_path, read_lock, read_record, write_lock
from llmux.options import config_option, load
from llmux.weights import Repository, kernel_repositories, missing_files, model_repository

if TYPE_CHECKING:
    from llmux.fetching import Begin
    from llmux.hub import Advance, Hub


@click.group()
def weights() -> None:
    """The files of the models: what each needs, fetched, verified, pinned."""


def _hub() -> "Hub":
    os.environ.pop("HF_HUB_OFFLINE", None)  # which is for serving; read as huggingface_hub is imported
    from llmux.hub import Hub

    return Hub()


def _chosen(config: Config, models: tuple[str, ...]) -> list[str]:
    """These physical models, or all. Raises click.ClickException for an unknown one."""
    for name in models:
        if name not in config.settings.models:
            known = ", ".join(config.settings.models)
            raise click.ClickException(f"there is no physical model {name!r} under llmux.models; known: {known}")
    return list(dict.fromkeys(models)) or list(config.settings.models)


def _repositories(config: Config, name: str) -> list[Repository]:
    model = config.settings.models[name]
    own = model_repository(model)
    return [] if own is None else [own, *kernel_repositories(model, config.models_dir)]


@contextmanager
def _told() -> Iterator[None]:
    """Whatever cannot be done is one line that says so."""
    from llmux.hub import HubError

    try:
        yield
    except (HubError, LockError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"the models folder cannot be used: {error.strerror}") from None


@weights.command("fetch")
@config_option
@click.option("--latest", is_flag=True, help="Fetch the newest revision, whatever the lock says.")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
def fetch(config_path: Path, latest: bool, models: tuple[str, ...]) -> None:
    """Fetch the weights of physical models, or of all; goes on where an earlier fetch stopped.

    A model that cannot be had, such as a gated one, is explained, and the others are fetched.

    \b
    Examples:
      python -m llmux weights fetch
      python -m llmux weights fetch qwen3.5-4b cohere-transcribe
    """
    config = load(config_path)
    chosen, hub = _chosen(config, models), _hub()
    from llmux import fetching

    with _told(), fetching.alone(config.models_dir), _bars() as begin:
        failed = _fetch(config, chosen, hub, {} if latest else read_lock(config), begin)
    for name, why in failed.items():
        click.echo(f"{name}: {why}", err=True)
    if failed:
        raise click.ClickException(f"{len(failed)} of {len(chosen)} models could not be fetched: {', '.join(failed)}")


def _fetch(config: Config, names: list[str], hub: "Hub", lock: Mapping[str, Pinned], begin: "Begin") -> dict[str, str]:
    """Why models could not be fetched, by name. Raises click.ClickException where the disk has no room."""
    from llmux import fetching
    from llmux.hub import HubError

    failed: dict[str, str] = {}
    plans: dict[str, list[fetching.Plan]] = {}
    for name in names:
        try:
            plans[name] = [
                fetching.plan(hub, each, config.models_dir, lock.get(each.name)) for each in _repositories(config, name)
            ]
        except HubError as error:
            failed[name] = str(error)
    short = fetching.shortage([each for planned in plans.values() for each in planned], hub, config.models_dir)
    if short is not None:
        needed, free = (f"{size / 1e9:.1f} GB" for size in short)
        raise click.ClickException(
            f"{needed} are to come and {free} are free in llmux.models_dir: nothing was fetched. "
            "Make room, set it elsewhere, or name fewer models"
        )
    for name, planned in plans.items():
        try:
            for each in planned:
                fetching.bring(hub, each, begin)
            known = {each.listing.repository for each in planned}
            for kernel in _repositories(config, name):  # its config.json, which names them, is there by now
                if kernel not in known:
                    fetching.bring(hub, fetching.plan(hub, kernel, config.models_dir, lock.get(kernel.name)), begin)
            click.echo(f"{name}: complete", err=True)
        except HubError as error:
            failed[name] = str(error)
    return failed


@contextmanager
def _bars() -> Iterator["Begin"]:
    """A bar for each file under way, and one for all that was begun."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        whole = progress.add_task("all files", total=0)

        def begin(name: str, size: int, held: int) -> "Advance":
            task = progress.add_task(name, total=size, completed=held)
            progress.update(whole, total=(progress.tasks[0].total or 0) + size, advance=held)

            def advance(more: int) -> None:
                progress.advance(whole, more)
                progress.advance(task, more)
                progress.update(task, visible=not next(each for each in progress.tasks if each.id == task).finished)

            return advance

        yield begin


@weights.command("list")
@config_option
def list_weights(config_path: Path) -> None:
    """What each physical model needs, from where, how large it is, and what of it is here."""
    from rich.console import Console
    from rich.table import Table

    config, hub = load(config_path), _hub()
    table = Table("model", "from", "GB", "here", box=None)
    with _told():
        lock = read_lock(config)
        for name, model in config.settings.models.items():
            own = model_repository(model)
            if own is None:
                table.add_row(name, "its package", "", "yes")
                continue
            size = _bytes(config, own, hub, lock.get(own.name))
            missing = missing_files(model, config.models_dir)
            here = "yes" if not missing else f"no: {', '.join(path.name for path in missing[:2])} ..."
            gated = " (gated)" if model.gated else ""
            table.add_row(name, own.name + gated, "?" if size is None else f"{size / 1e9:.1f}", here)
    Console().print(table)


def _bytes(config: Config, repository: Repository, hub: "Hub", locked: Pinned | None) -> int | None:
    """By the lock, by what was fetched, or by the hub; None where it does not answer."""
    from llmux.hub import HubError

    known = locked or read_record(config.models_dir / repository.name)
    sizes = [seen.bytes for name, seen in known.files.items() if repository.wants(name)] if known else []
    try:
        return sum(sizes or (file.bytes for file in hub.listing(repository).files))
    except HubError:
        return None


@weights.command("verify")
@config_option
@click.argument("models", nargs=-1, metavar="[MODEL]...")
def verify(config_path: Path, models: tuple[str, ...]) -> None:
    """Read every file and compare its hash with the lock, or with what the first fetch saw.

    What is damaged is replaced by the next fetch. Ends with 1 unless all is good.

    \b
    Example:
      python -m llmux weights verify qwen3.5-4b
    """
    from llmux import fetching

    config = load(config_path)
    bad = 0
    with _told():
        lock = read_lock(config)
        for name in _chosen(config, models):
            found = {str(path): "missing" for path in missing_files(config.settings.models[name], config.models_dir)}
            for repository in _repositories(config, name):
                verdicts = list(fetching.verify(repository, config.models_dir, lock.get(repository.name)))
                found |= {f"{repository.name}/{file}": verdict for file, verdict in verdicts}
                if not any(path.startswith(f"{repository.name}/") for path in found):
                    found[repository.name] = "missing"
            for path, verdict in found.items():
                bad += verdict != "good"
                click.echo(f"{verdict:8} {name}: {path}")
    if bad:
        raise click.ClickException(f"{bad} files are not as they should be: python -m llmux weights fetch")


@weights.command("remove")
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
def remove(config_path: Path, yes: bool, models: tuple[str, ...]) -> None:
    """Delete the files of physical models, but for those that another model needs too."""
    from llmux import fetching

    config = load(config_path)
    chosen = _chosen(config, models)
    if not yes:
        click.confirm(f"Delete the files of {', '.join(chosen)}?", abort=True)
    kept = [each for name in config.settings.models if name not in chosen for each in _repositories(config, name)]
    with _told():
        freed = sum(
            fetching.remove(repository, config.models_dir, kept)
            for repository in dict.fromkeys(each for name in chosen for each in _repositories(config, name))
        )
    click.echo(f"{freed / 1e9:.1f} GB are free again")


@weights.command("lock")
@config_option
def lock(config_path: Path) -> None:
    """Record the revisions and hashes that were fetched, beside the configuration; fetch and verify hold to them.

    What is not here keeps the entry that it has.
    """
    config = load(config_path)
    with _told():
        pinned = read_lock(config)
        for repository in {each for name in config.settings.models for each in _repositories(config, name)}:
            record = read_record(config.models_dir / repository.name)
            if record is None:
                click.echo(f"not fetched, so not locked: {repository.name}", err=True)
            else:
                pinned[repository.name] = record.pinned
        write_lock(config, pinned)
    click.echo(f"{len(pinned)} repositories are pinned in {lock_path(config).name}")
