"""`llmux connect`: the settings of the clients that llmux is made for, with this gateway's address and their key."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from llmux.catalogue import names
from llmux.config import Config
from llmux.connection import Connection
from llmux.options import config_option, load
from llmux.secrets import write_private

TOKEN_VARIABLE = "OPEN_WEBUI_TOKEN"  # noqa: S105 (the name of a variable)

_ENOUGH_CONTEXT = 32_768
"""OpenCode's first request is 7,000 tokens before its user has said anything, and the first files come on top."""

_HIDDEN = "(not shown here: --show-key)"


def _reached(command: Callable[..., None]) -> Callable[..., None]:
    """What each of the commands must know: the gateway's address, and where its key comes from."""
    url = click.option("--url", help="Where the client finds the gateway, if not where it listens on this machine.")
    variable = click.option(
        "--key-variable", metavar="NAME", help="Take the key from this environment variable, not from the state folder."
    )
    shown = click.option("--show-key", is_flag=True, help="Print the key even where no terminal is.")
    return config_option(url(variable(shown(command))))


@contextmanager
def _told() -> Iterator[None]:
    """Whatever cannot be done is one line that says so."""
    from llmux.open_webui_api import OpenWebUIError

    try:
        yield
    except (ValueError, OpenWebUIError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None


def _connection(config: Config, client: str, url: str | None, key_variable: str | None) -> Connection:
    """With a key that the gateway takes, if it runs. Raises ValueError."""
    connection = Connection.of(config, client, url, key_variable)
    if connection.models() is None:
        click.echo(f"Nothing answers at {connection.url} from here, so the key was not tried.", err=True)
    return connection


def _shown(key: str, show_key: bool) -> str:
    return key if show_key or sys.stdout.isatty() else _HIDDEN


def _chat_model(config: Config, name: str | None) -> None:
    if name and name not in names(config, "llm"):
        raise ValueError(f"there is no chat model {name!r}; `python -m llmux check` lists the names")


@click.group()
def connect() -> None:
    """Settings for clients: this gateway's address, the client's own key, and what it must know of the models.

    The key is the one that the first start made for the client, in the state folder. It is printed on a terminal, and
    elsewhere only when asked for.
    """


@connect.command("open-webui")
@_reached
@click.option("--model", help="What a new chat talks to. Default: the first chat model.")
@click.option(
    "--task-model",
    help="What writes titles and tags: name one if you mostly use one model. Default: the model of the chat.",
)
@click.option("--hide-speech", is_flag=True, help="Leave the models for speech out of the list.")
@click.option("--write", type=click.Path(path_type=Path, dir_okay=False), help="Write the environment to this file.")
@click.option("--configure", metavar="URL", help="Set up the Open WebUI that runs there, instead.")
def open_webui(
    config_path: Path,
    url: str | None,
    key_variable: str | None,
    show_key: bool,
    model: str | None,
    task_model: str | None,
    hide_speech: bool,
    write: Path | None,
    configure: str | None,
) -> None:
    """Open WebUI, 0.8.12 and 0.12: chat, speech and its recognition.

    A new one takes its environment from a file (podman run --env-file, EnvironmentFile=). One that was started before
    goes by its database: --configure sets it up through its API, with an administrator's token (Settings, Account) in
    OPEN_WEBUI_TOKEN, or asked for. Its other settings and connections stay.

    \b
    Examples:
      python -m llmux connect open-webui --write open-webui.env
      python -m llmux connect open-webui --configure http://127.0.0.1:8080
      python -m llmux connect open-webui --url https://llm.example.org --hide-speech
    """
    from llmux.open_webui import Setup
    from llmux.open_webui_api import OpenWebUI

    if write is not None and configure is not None:
        raise click.UsageError("--write makes a file for a new Open WebUI, --configure speaks to one that runs")
    config = load(config_path)
    with _told():
        _chat_model(config, model)
        _chat_model(config, task_model)
        connection = _connection(config, "Open WebUI", url, key_variable)
        setup = Setup.of(config, connection, model=model, task_model=task_model, hide_speech=hide_speech)
        if configure is not None:
            listed = OpenWebUI(configure, _token()).set_up(setup)
            wanted = setup.shown or tuple(config.virtual)
            missing = [name for name in wanted if name not in listed]
            if missing:
                raise ValueError(
                    f"Open WebUI is set up, but does not list {', '.join(missing)}: does it reach {connection.url} "
                    "from where it runs? If not, give the address that does with --url"
                )
            click.echo(f"Open WebUI is set up, and lists all {len(wanted)} models.")
        elif write is not None:
            write_private(write, _environment_file(setup.environment(), connection.key))
            click.echo(f"Wrote {write}, which holds the key: only you can read it.")
        else:
            click.echo(
                _environment_file(setup.environment(), _shown(connection.key, show_key), connection.key), nl=False
            )


def _token() -> str:
    given = os.environ.get(TOKEN_VARIABLE)
    if given:
        return given
    if not sys.stdin.isatty():
        raise ValueError(f"set {TOKEN_VARIABLE} to the token of an administrator of Open WebUI (Settings, Account)")
    token: str = click.prompt("Token of an administrator of Open WebUI (Settings, Account)", hide_input=True, err=True)
    return token


def _environment_file(environment: Any, shown: str, key: str | None = None) -> str:
    """As podman, docker and systemd read it: a name and its value a line, nothing quoted."""
    lines = [
        "# Open WebUI and llmux. Read at Open WebUI's first start, after which its database has the last word,",
        "# unless ENABLE_PERSISTENT_CONFIG=false: then nothing set in its admin pages outlives a restart.",
        *(f"{name}={shown if value == key else value}" for name, value in environment.items() if value),
    ]
    return "\n".join(lines) + "\n"


@connect.command("opencode")
@_reached
@click.option("--model", help="What OpenCode is to work with. Default: the first that can call tools.")
@click.option("--write", type=click.Path(path_type=Path, dir_okay=False), help="Put it into this opencode.json.")
def opencode(
    config_path: Path, url: str | None, key_variable: str | None, show_key: bool, model: str | None, write: Path | None
) -> None:
    """OpenCode: a provider with each chat model's limits, and a model for titles that never swaps.

    The configuration names no key: OpenCode reads it from LLMUX_KEY. What else stands in the file that --write names
    stays as it is. A file with comments is refused, because they would be lost.

    \b
    Examples:
      python -m llmux connect opencode
      python -m llmux connect opencode --write ~/.config/opencode/opencode.json
      python -m llmux connect opencode --model Qwen3.5-4B-Thinking --write opencode.json
    """
    from llmux.opencode import KEY_VARIABLE, merged

    config = load(config_path)
    with _told():
        _chat_model(config, model)
        if not names(config, "llm"):
            raise ValueError("the configuration has no chat model")
        connection = _connection(config, "OpenCode", url, key_variable)
        path = None if write is None else write.expanduser()
        result = merged({} if path is None else _opencode_file(path), config, connection.url, model)
        text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        if path is None:
            click.echo(text, nl=False)
        else:
            _replace(path, text)
            click.echo(f"Wrote {path}.")
    short = [name for name in names(config, "llm") if config.physical(name).context < _ENOUGH_CONTEXT]
    if short:
        click.echo(
            f"OpenCode needs {_ENOUGH_CONTEXT} tokens of context to work with files: too short are {', '.join(short)}",
            err=True,
        )
    click.echo(f"OpenCode's environment: export {KEY_VARIABLE}={_shown(connection.key, show_key)}", err=True)


def _opencode_file(path: Path) -> Any:
    """What is in it; nothing where there is none. Raises ValueError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8") or "{}")
    except FileNotFoundError:
        return {}
    except ValueError:
        raise ValueError(
            f"{path} is no plain JSON: comments would be lost. Name an opencode.json beside it, which OpenCode reads "
            "too, or leave out --write and copy what is printed"
        ) from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object")
    return found


def _replace(path: Path, text: str) -> None:
    """Whole or not at all; a file that is there keeps its mode, and a link stays one."""
    real = path.resolve()
    mode = real.stat().st_mode & 0o777 if real.exists() else None
    write_private(real, text)
    if mode is not None:
        real.chmod(mode)


@connect.command("whisper")
@_reached
@click.option("--model", help="What transcribes. Default: the first that does.")
def whisper(config_path: Path, url: str | None, key_variable: str | None, show_key: bool, model: str | None) -> None:
    """Dictation and anything else that speaks to OpenAI's transcription.

    \b
    Examples:
      python -m llmux connect whisper
      python -m llmux connect whisper --url https://llm.example.org
    """
    from llmux import dictation

    config = load(config_path)
    with _told():
        listening = names(config, "asr")
        chosen = model or dictation.model(config)
        if chosen not in listening or chosen is None:
            raise ValueError(f"there is no model {model!r} that transcribes" if model else "no model transcribes")
        connection = _connection(config, "Remote Whisper clients", url, key_variable)
        for line in dictation.settings(config, connection, chosen, _shown(connection.key, show_key)):
            click.echo(line)
