"""`llmux acceptance`: whether the gateway that runs does what it should."""

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llmux.config import Config
from llmux.options import load
from llmux.running import listening_url
from llmux.secrets import MASTER_KEY_VARIABLE, master_key

if TYPE_CHECKING:
    from acceptance.check import Case

PHASES = ("integration", "function", "vram", "performance", "remote")

_CONFIG = Path("litellm_config.yaml")


@click.command()
@click.option("--phase", "phases", type=click.Choice(PHASES), multiple=True, help="Only this one; may be repeated.")
@click.option("--url", help="Where the gateway listens. Default: where the configuration says.")
@click.option("--key", envvar="LLMUX_KEY", help="A key for every model, or LLMUX_KEY. Default: the master key.")
@click.option("--admin-key", help=f"The master key. Default: {MASTER_KEY_VARIABLE}, or the state folder's.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help=f"What the gateway should serve. Default: {_CONFIG}, or with --url whatever it lists.",
)
@click.option("--remote", help="Where a reverse proxy listens, for the phase of that name.")
@click.option("--host", help="The Host header for it, where its name leads elsewhere.")
@click.option("--open-webui", help="Where an Open WebUI listens; its API key in OPEN_WEBUI_KEY.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
def acceptance(
    phases: tuple[str, ...],
    url: str | None,
    key: str | None,
    admin_key: str | None,
    config_path: Path | None,
    remote: str | None,
    host: str | None,
    open_webui: str | None,
    as_json: bool,
) -> None:
    """Check that the gateway that runs does what it should: pass, fail, or skipped and why.

    The phases integration and vram are for a gateway that serves nobody else: the first restarts its service, the other
    unloads models. Ends with 1 where something failed, or nothing could be checked.

    \b
    Examples:
      python -m llmux acceptance --phase integration --phase function
      python -m llmux acceptance --url http://127.0.0.1:8082 --key sk-... --config demo/litellm_config.yaml
      python -m llmux acceptance --phase remote --url https://llmux.example.org --key sk-...
    """
    from rich.console import Console
    from rich.markup import escape

    from acceptance import report
    from acceptance.gateway import Gateway, Unreachable
    from acceptance.phases import PHASES, run

    wanted = [phase for phase in PHASES if phase in phases or not phases]
    config = load(config_path or _CONFIG) if config_path or not url else None
    try:
        admin_key = admin_key or _kept_master_key(config)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    key = key or admin_key
    if key is None:
        raise click.UsageError(f"there is no key: give --key, LLMUX_KEY or {MASTER_KEY_VARIABLE}")
    if url is None:
        assert config is not None
        url = listening_url(config)
    webui = (open_webui, os.environ.get("OPEN_WEBUI_KEY", "")) if open_webui else None

    progress = Console(stderr=True, highlight=False)
    with ExitStack() as stack, progress.status("Looking for the gateway") as status:

        def begins(case: "Case") -> None:
            status.update(escape(f"{case.phase}: {case.model} {case.check.name}"))

        if remote:
            proxied = stack.enter_context(Gateway(remote, key, config=config, host=host))
            gateway = Gateway(url, key, admin_key=admin_key, config=config, remote=proxied, webui=webui)
        else:  # where nothing else is asked for, the address is the proxy's
            gateway = Gateway(url, key, admin_key=admin_key, config=config, host=host, webui=webui)
            gateway.remote = gateway if wanted == ["remote"] else None
        try:
            gateway.require_answer()
            results = list(run(stack.enter_context(gateway), wanted, begins))
        except Unreachable as error:
            raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(report.as_json(results), indent=2))
    else:
        Console(highlight=False).print(report.table(results))
    if not report.passed(results):
        raise SystemExit(1)


def _kept_master_key(config: Config | None) -> str | None:
    """None where there is none: a key that is made now would not be the gateway's."""
    if config is None:
        return os.environ.get(MASTER_KEY_VARIABLE)
    if os.environ.get(MASTER_KEY_VARIABLE) is None and not (config.state_dir / "master_key").exists():
        return None
    return master_key(config.state_dir)
