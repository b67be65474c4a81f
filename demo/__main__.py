"""`make demo`: the whole of llmux in a minute, on three small models."""

import os
import secrets
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import openai
from rich.console import Console
from rich.markup import escape

from demo import models, round_trip, vram
from demo.gateway import LOG, Gateway, GatewayFailed, is_free


class Report:
    """Prints each step, with the VRAM table after it."""

    def __init__(self, console: Console, gateway: Gateway) -> None:
        self._console = console
        self._gateway = gateway
        self.readings: list[Mapping[str, Any]] = [gateway.health()]

    def step(self, outcome: round_trip.Outcome) -> None:
        console = self._console
        console.print(f"[bold]POST {outcome.request}[/bold], model {outcome.model}")
        console.print(f"  sent      {escape(outcome.sent)}")
        console.print(f"  received  {escape(outcome.received)}")
        console.print(f"  time      first byte {outcome.first_byte_s:.2f} s, all of it {outcome.total_s:.2f} s")
        self.readings.append(self._gateway.health())
        before, after = self.readings[-2:]
        console.print(vram.table(vram.rows(before, after), after["available_vram_gb"]))
        console.print()


def _round_trip(console: Console, gateway: Gateway, key: str) -> None:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0, timeout=300)
    report = Report(console, gateway)
    with console.status("Hibari speaks (the model is loaded first)"):
        outcome, sound = round_trip.speak(client)
    report.step(outcome)
    with console.status("Whisper listens (the model is loaded first)"):
        outcome, transcript = round_trip.transcribe(client, sound)
    report.step(outcome)
    with console.status("SmolLM2 answers (the model is loaded first)") as status:
        words: list[str] = []

        def show(piece: str) -> None:
            words.append(piece)
            status.update(escape("".join(words)))

        outcome = round_trip.chat(client, transcript, show)
    report.step(outcome)
    round_trip.check_eviction(report.readings)
    console.print("[green]Round trip complete:[/green] 3 requests, 3 loads, and 1 eviction to make room.")


def _invite(console: Console, gateway: Gateway, key: str) -> None:
    curl = f"""curl {gateway.url}/v1/chat/completions \\
  -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
  -d '{{"model": "SmolLM2-135M", "messages": [{{"role": "user", "content": "Hello!"}}]}}'"""
    console.print("\nThe gateway goes on serving, until Ctrl-C.")
    console.print(f"  address  {gateway.url}/v1")
    console.print(f"  key      {key}   (of this run only)\n")
    click.echo(curl + "\n")  # as it is: rich would break the lines


def _run(console: Console, gateway: Gateway, key: str, once: bool) -> None:
    with console.status("starting") as status:
        gateway.wait_until_healthy(lambda waited_s: status.update(f"starting, {waited_s:.0f} s"))
    console.print()
    _round_trip(console, gateway, key)
    if not once:
        _invite(console, gateway, key)
        with suppress(KeyboardInterrupt):
            gateway.wait()
        console.print("Stopping the gateway.")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@click.command()
@click.option("--once", is_flag=True, help="Stop after the round trip; exit 0 when all of it went well.")
@click.option("--port", type=click.IntRange(1, 65535), default=8081, show_default=True, help="Where to listen.")
def main(once: bool, port: int) -> None:
    """Speak a sentence, transcribe it and chat about it, on three small models that do not fit together."""
    console = Console(highlight=False)
    if not is_free(port):
        raise click.ClickException(
            f"port {port} is taken; stop what listens there, or choose another: make demo ARGS='--port 8082'"
        )
    if code := models.main():
        sys.exit(code)
    key = f"sk-{secrets.token_urlsafe(24)}"
    signal.signal(signal.SIGTERM, _interrupt)
    console.print(f"Starting the gateway: 10 to 20 seconds. Its log: {LOG}")
    gateway = Gateway(port, key)
    failure: str | None = None
    try:
        _run(console, gateway, key, once)
    except (GatewayFailed, round_trip.StepFailed, openai.APIError) as error:
        failure = str(error)
    except KeyboardInterrupt:
        failure = "interrupted before the round trip was complete"
    finally:
        stopped = gateway.stop()
    if failure is None and stopped != 0:
        failure = f"the gateway stopped with exit code {stopped}; see {LOG}"
    if failure is not None:
        raise click.ClickException(failure)


if __name__ == "__main__":
    os.chdir(Path(__file__).parent.parent)
    main()
