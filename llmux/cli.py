"""The command line: serve, status, check, bench, acceptance, connect, keys, weights."""

import json
from pathlib import Path

import click

from llmux.cli_acceptance import acceptance
from llmux.cli_connect import connect
from llmux.cli_keys import keys
from llmux.cli_weights import weights
from llmux.options import config_option, load, port_option
from llmux.running import NoAnswer, RunningGateway
from llmux.secrets import master_key


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """One GPU, many models, one OpenAI-compatible address."""


@main.command()
@config_option
@click.option("--host", help="Listen here instead of llmux.host, as a container must.")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen here instead of llmux.port.")
def serve(config_path: Path, host: str | None, port: int | None) -> None:
    """Start the gateway and serve until it is told to stop (Ctrl-C, or SIGTERM).

    \b
    Examples:
      python -m llmux serve
      python -m llmux serve --config demo/litellm_config.yaml --port 8082
    """
    config = load(config_path)
    try:
        key = master_key(config.state_dir)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"llmux: starting with {len(config.virtual)} models, which takes 10 to 20 seconds", err=True)

    from database import DatabaseError
    from llmux import serving  # with uvicorn, for which no other command should wait
    from vram.device import DeviceError

    try:
        settings = config.settings
        serving.serve(config, key, host or settings.host, settings.port if port is None else port)
    except (DatabaseError, DeviceError, ValueError) as error:
        raise click.ClickException(str(error)) from None


@main.command("status")
@config_option
@port_option
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
    config = load(config_path)
    try:
        gateway = RunningGateway.of(config, port)
        if live:
            status.watch(lambda: gateway.get("/vram"), Console())
        elif as_json:
            click.echo(json.dumps(gateway.get("/vram"), indent=2))
        else:
            Console().print(status.table(gateway.get("/vram")))
    except (ValueError, NoAnswer) as error:
        raise click.ClickException(str(error)) from None


@main.command()
@config_option
def check(config_path: Path) -> None:
    """Read the configuration and say what is wrong with it, or what it would serve."""
    from llmux.weights import missing_files

    config = load(config_path)
    for name, virtual in config.virtual.items():
        missing = missing_files(config.physical(name), config.models_dir)
        state = f"weights missing: python -m llmux weights fetch {virtual.physical}" if missing else "ready"
        click.echo(f"{name:42} {virtual.physical:28} {state}")


@main.command("bench")
@config_option
@port_option
@click.argument("model", metavar="MODEL")
def time_model(config_path: Path, port: int | None, model: str) -> None:
    """Time a physical model in the running gateway, and say whether it is fast enough.

    What chats or listens is timed on the GPU and on the CPU, what speaks against the clock. The gateway serves nobody
    else meanwhile, and refuses while it serves somebody. Ends with 1 unless the model passes.

    \b
    Example:
      python -m llmux bench qwen3.5-4b
    """
    config = load(config_path)
    try:
        gateway = RunningGateway.of(config, port)
        answer_s = config.settings.limits.request_s
        report = gateway.post("/admin/test/performance", {"physical_model_id": model}, answer_s=answer_s)
    except (ValueError, NoAnswer) as error:
        raise click.ClickException(str(error)) from None
    click.echo(json.dumps(report, indent=2))
    if not report["pass"]:
        raise SystemExit(1)


main.add_command(acceptance)
main.add_command(connect)
main.add_command(keys)
main.add_command(weights)
