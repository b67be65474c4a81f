"""The command line: serve, status, check, keys, weights."""

import json
import os
import signal
from pathlib import Path

import click

from llmux.config import Config, ConfigError, load_config
from llmux.keys import KeyFile
from llmux.litellm_settings import ENVIRONMENT
from llmux.logs import log_to_stderr
from llmux.secrets import MASTER_KEY_VARIABLE, master_key

_config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("litellm_config.yaml"),
    show_default=True,
    help="The configuration file.",
)


def _load(path: Path) -> Config:
    try:
        return load_config(path)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """One GPU, many models, one OpenAI-compatible address."""


@main.command()
@_config_option
@click.option("--port", type=click.IntRange(0, 65535), help="Listen here instead of llmux.port.")
def serve(config_path: Path, port: int | None) -> None:
    """Start the gateway and serve until it is told to stop (Ctrl-C, or SIGTERM).

    \b
    Examples:
      python -m llmux serve
      python -m llmux serve --config demo/litellm_config.yaml --port 8082
    """
    config = _load(config_path)
    try:
        key = master_key(config.state_dir)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"llmux: starting with {len(config.virtual)} models, which takes 10 to 20 seconds", err=True)

    os.environ.update(ENVIRONMENT)
    import uvicorn  # with the gateway it takes seconds to import, which no other command should wait for

    from llmux import gateway
    from llmux.server import Server
    from vram.device import DeviceError

    log_to_stderr()
    settings = config.settings
    try:
        built = gateway.build(config, key, on_failure=lambda: server.fail())  # which is made from it
    except DeviceError as error:
        raise click.ClickException(str(error)) from None
    server = Server(
        uvicorn.Config(
            built.app,
            host=settings.host,
            port=settings.port if port is None else port,
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(settings.limits.stop_s)),
        ),
        built.close,
        stop_s=settings.limits.stop_s,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises it again after its orderly stop, which would kill us
    server.run()
    server.end()


@main.command("status")
@_config_option
@click.option("--port", type=click.IntRange(1, 65535), help="Ask there instead of llmux.port.")
@click.option("--watch", "live", is_flag=True, help="Keep the table up to date until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print what GET /vram answers.")
def show_status(config_path: Path, port: int | None, live: bool, as_json: bool) -> None:
    """Show what the running gateway has in VRAM, and who waits for it.

    \b
    Examples:
      python -m llmux status
      python -m llmux status --watch
    """
    from rich.console import Console

    from llmux import status

    if live and as_json:
        raise click.UsageError("--watch draws a table: leave out --json")
    settings = (config := _load(config_path)).settings
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{port or settings.port}"
    try:
        key = master_key(config.state_dir)
        if live:
            status.watch(lambda: status.ask(url, key), Console())
        elif as_json:
            click.echo(json.dumps(status.ask(url, key), indent=2))
        else:
            Console().print(status.table(status.ask(url, key)))
    except (ValueError, status.NoAnswer) as error:
        raise click.ClickException(str(error)) from None


@main.command()
@_config_option
def check(config_path: Path) -> None:
    """Read the configuration and say what is wrong with it, or what it would serve."""
    from llmux.weights import missing_files

    config = _load(config_path)
    for name, virtual in config.virtual.items():
        missing = missing_files(config.physical(name), config.models_dir)
        state = f"weights missing: python -m llmux weights fetch {virtual.physical}" if missing else "ready"
        click.echo(f"{name:42} {virtual.physical:28} {state}")


@main.group()
def keys() -> None:
    """Named keys for clients (where no database keeps them)."""


@keys.command("create")
@_config_option
@click.argument("name")
@click.option("--models", default="", help="Comma-separated names that the key may use. Default: all.")
def keys_create(config_path: Path, name: str, models: str) -> None:
    """Make a key and show it, this once.

    \b
    Example:
      python -m llmux keys create "Open WebUI" --models Qwen3.5-4B-Instruct,cohere-transcribe
    """
    config = _load(config_path)
    wanted = [model.strip() for model in models.split(",") if model.strip()]
    if models and not wanted:
        raise click.ClickException("--models names no model; leave it out for all of them")
    unknown = [model for model in wanted if model not in config.virtual]
    if unknown:
        raise click.ClickException(f"there is no model {unknown[0]!r}; `python -m llmux check` lists the names")
    try:
        click.echo(KeyFile(config.state_dir).create(name, wanted))
    except ValueError as error:
        raise click.ClickException(str(error)) from None


@keys.command("list")
@_config_option
def keys_list(config_path: Path) -> None:
    """Names, dates and models of the keys. Never the keys."""
    try:
        entries = KeyFile(_load(config_path).state_dir).all()
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    for entry in entries:
        click.echo(f"{entry.name:30} {entry.created:%Y-%m-%d}  {', '.join(entry.models) or 'all models'}")


@keys.command("revoke")
@_config_option
@click.argument("name")
def keys_revoke(config_path: Path, name: str) -> None:
    """Make a key worthless, at once."""
    try:
        KeyFile(_load(config_path).state_dir).revoke(name)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"revoked {name}")


@keys.command("master")
@_config_option
def keys_master(config_path: Path) -> None:
    """Show the master key (made now if there is none)."""
    try:
        click.echo(master_key(_load(config_path).state_dir))
    except ValueError as error:
        raise click.ClickException(f"{error} (or set {MASTER_KEY_VARIABLE})") from None


@main.group()
def weights() -> None:
    """The files of the models."""


@weights.command("fetch")
@_config_option
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
def weights_fetch(config_path: Path, models: tuple[str, ...]) -> None:
    """Fetch the weights of physical models from Hugging Face; goes on where it stopped.

    \b
    Example:
      python -m llmux weights fetch qwen3.5-4b cohere-transcribe
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    from llmux.weights import fetch

    config = _load(config_path)
    for name in models:
        if name not in config.settings.models:
            raise click.ClickException(f"there is no physical model {name!r} under llmux.models")
    for name in models:
        click.echo(f"fetching {name}", err=True)
        try:
            fetch(config.settings.models[name], config.models_dir)
        except GatedRepoError:
            raise click.ClickException(
                f"{name} is gated: accept its terms on its Hugging Face page, then set HF_TOKEN and try again"
            ) from None
        except (HfHubHTTPError, OSError) as error:
            raise click.ClickException(f"{name} could not be fetched ({type(error).__name__}); try again") from None
