"""`llmux keys`: in the database of the gateway that runs, or in a file where the configuration wants no database."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from llmux.config import Config
from llmux.keys import KeyFile
from llmux.litellm_settings import ACCESS_GROUPS
from llmux.options import config_option, load, port_option
from llmux.running import NoAnswer, RunningGateway
from llmux.secrets import MASTER_KEY_VARIABLE, master_key
from llmux.virtual_keys import Limits, VirtualKey, VirtualKeys, table

_NONE = "none"


class _Limit(click.ParamType[Any]):
    """A number from 0 on, or `none`."""

    def __init__(self, number: type[int] | type[float]) -> None:
        self.name = "number|none"
        self._number = number

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float | str:
        if value == _NONE:
            return _NONE
        try:
            limit = self._number(value)
        except ValueError:
            limit = -1
        if not 0 <= limit < float("inf"):
            self.fail(f"{value!r} is no {'whole ' if self._number is int else ''}number from 0 on; `none` lifts it")
        return limit


class _Lifetime(click.ParamType[str]):
    """Such as 30d, or `none`."""

    name = "time|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value != _NONE and re.fullmatch(r"[1-9]\d{0,5}[smhdw]", value) is None:
            self.fail(f"{value!r} is no time such as 12h, 30d or 8w; `none` means for ever")
        return str(value)


_OPTIONS: dict[str, tuple[str, click.ParamType[Any], str]] = {
    "max_budget": ("--max-budget", _Limit(float), "What it may spend, in the currency of the models' prices."),
    "rpm_limit": ("--rpm", _Limit(int), "Requests a minute."),
    "tpm_limit": ("--tpm", _Limit(int), "Tokens a minute."),
    "max_parallel_requests": ("--parallel", _Limit(int), "Requests at one time."),
    "duration": ("--expires", _Lifetime(), "When it ends, from now: 12h, 30d, 8w."),
}
"""By LiteLLM's name: how the command line spells it, what it takes, and what it means."""


def _limits(command: Callable[..., None]) -> Callable[..., None]:
    for name, (spelt, kind, means) in reversed(_OPTIONS.items()):
        command = click.option(spelt, name, type=kind, help=means)(command)
    groups = ", ".join(ACCESS_GROUPS.values())
    means = f"Comma-separated names that it may use, or groups: {groups}. Default: all."
    return click.option("--models", callback=_names, help=means)(command)


def _names(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    if value is None:
        return None
    if value == _NONE:
        return []
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names:
        raise click.BadParameter("it names no model; leave it out for all of them")
    return names


def _given(config: Config, models: list[str] | None, limits: dict[str, Any]) -> Limits:
    """What the command line says, by LiteLLM's names."""
    entries = config.litellm["model_list"]
    groups = [group for entry in entries for group in (entry.get("model_info") or {}).get("access_groups", ())]
    known = {*ACCESS_GROUPS.values(), *groups, *(entry["model_name"] for entry in entries)}
    for model in models or ():
        if model not in known:
            raise click.ClickException(f"there is no model {model!r}; `python -m llmux check` lists the names")
    given = {name: None if value == _NONE else value for name, value in limits.items() if value is not None}
    return given if models is None else {"models": models, **given}


@contextmanager
def _told() -> Iterator[None]:
    """Whatever cannot be done is one line that says so."""
    try:
        yield
    except (NoAnswer, ValueError) as error:
        raise click.ClickException(str(error)) from None


def _file_takes(limits: Limits) -> None:
    for name in limits:
        if name != "models":
            raise ValueError(f"{_OPTIONS[name][0]} needs a database, and llmux.database is none")


@click.group()
def keys() -> None:
    """Keys for clients: one each, with the models and limits that it has.

    They live in the gateway's database, so the gateway must run (python -m llmux serve). Where llmux.database is none,
    they live in a file, and know no limits but their models.
    """


@keys.command("create")
@config_option
@port_option
@click.argument("name")
@_limits
def create(config_path: Path, port: int | None, name: str, models: list[str] | None, **limits: Any) -> None:
    """Make a key and show it, this once.

    \b
    Examples:
      python -m llmux keys create "Living room" --models Qwen3.5-4B-Instruct,speech
      python -m llmux keys create Guest --max-budget 5 --rpm 20 --parallel 1 --expires 7d
    """
    config = load(config_path)
    given = _given(config, models, limits)
    if not name.strip() or not name.isprintable():
        raise click.ClickException("a key needs a name of one line")
    with _told():
        if config.settings.database == "none":
            _file_takes(given)
            click.echo(KeyFile(config.state_dir).create(name, models or ()))
        else:
            click.echo(VirtualKeys(RunningGateway.of(config, port)).create(name, given))


@keys.command("update")
@config_option
@port_option
@click.argument("name")
@_limits
def update(config_path: Path, port: int | None, name: str, models: list[str] | None, **limits: Any) -> None:
    """Change what a key may do. What is not named stays; `none` lifts a limit.

    \b
    Examples:
      python -m llmux keys update Guest --max-budget 10 --rpm none
      python -m llmux keys update "Living room" --models none
    """
    config = load(config_path)
    given = _given(config, models, limits)
    if not given:
        raise click.UsageError("name what is to change, such as --max-budget 10")
    with _told():
        if config.settings.database == "none":
            _file_takes(given)
            KeyFile(config.state_dir).update(name, models or ())
        else:
            VirtualKeys(RunningGateway.of(config, port)).update(name, given)
    click.echo(f"updated {name}")


@keys.command("list")
@config_option
@port_option
def list_keys(config_path: Path, port: int | None) -> None:
    """Names, limits and spend of the keys. Never the keys."""
    from rich.console import Console

    config = load(config_path)
    with _told():
        if config.settings.database == "none":
            entries = KeyFile(config.state_dir).all()
            found = [VirtualKey(entry.name, entry.models) for entry in entries]
        else:
            found = list(VirtualKeys(RunningGateway.of(config, port)).all())
    Console().print(table(found) if found else "There is no key yet.")


@keys.command("revoke")
@config_option
@port_option
@click.argument("name")
def revoke(config_path: Path, port: int | None, name: str) -> None:
    """Make a key worthless, at once."""
    config = load(config_path)
    with _told():
        if config.settings.database == "none":
            KeyFile(config.state_dir).revoke(name)
        else:
            VirtualKeys(RunningGateway.of(config, port)).revoke(name)
    click.echo(f"revoked {name}")


@keys.command("master")
@config_option
def show_master(config_path: Path) -> None:
    """Show the master key (made now if there is none). It may do everything: clients want a key of their own."""
    try:
        click.echo(master_key(load(config_path).state_dir))
    except ValueError as error:
        raise click.ClickException(f"{error} (or set {MASTER_KEY_VARIABLE})") from None
