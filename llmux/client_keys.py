"""The keys that a new installation begins with, one for each client that llmux is made for.

They are made once. What is revoked later stays revoked, and another start makes no new one.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import httpx

from llmux.secrets import new_key, read_private, write_private

CLIENTS: Mapping[str, tuple[str, ...]] = {
    "Open WebUI": (),
    "OpenCode": (),
    "Remote Whisper clients": ("transcription",),
}
"""Models or groups of models that each may use; none means all."""

FILE = "client_keys.json"


async def make_client_keys(http: httpx.AsyncClient, state_dir: Path) -> Mapping[str, str]:
    """The key of each client, by name, where they were made now; empty where they had been made before.

    They are kept in a file of the state folder, and each of them is chosen before LiteLLM hears of it, so that a start
    that was broken off is taken up where it was. Raises httpx.HTTPStatusError where LiteLLM refuses one.

    http: speaks to LiteLLM as its administrator
    """
    path, begun = state_dir / FILE, state_dir / f"{FILE}.new"
    if path.exists():
        return {}
    if not begun.exists():
        write_private(begun, json.dumps({name: new_key() for name in CLIENTS}, indent=2) + "\n")
    keys: dict[str, str] = json.loads(begun.read_text(encoding="utf-8"))
    for name, key in keys.items():
        known = await http.get("/key/info", params={"key": key})
        if known.status_code == httpx.codes.NOT_FOUND:
            made = await http.post("/key/generate", json={"key": key, "key_alias": name, "models": CLIENTS[name]})
            made.raise_for_status()
    begun.replace(path)
    return keys


def client_key(state_dir: Path, client: str) -> str:
    """The key that the first start made for one of CLIENTS. Raises ValueError where it is not known."""
    path = state_dir / FILE
    try:
        key = json.loads(read_private(path))[client]
    except FileNotFoundError:
        raise ValueError(
            f"state/{FILE} is missing: the first start makes it (python -m llmux serve), where there is a database. Or "
            f'make a key with `python -m llmux keys create "{client}"`, and name the variable that holds it: '
            "--key-variable LLMUX_KEY"
        ) from None
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(
            f'state/{FILE} holds no key for {client}; make one with `python -m llmux keys create "{client}"`, and name '
            "the variable that holds it: --key-variable LLMUX_KEY"
        ) from None
    return str(key)


def show(keys: Mapping[str, str]) -> None:
    """Tell whoever started llmux, on a terminal and nowhere else: a log is no place for a key."""
    if keys and sys.stderr.isatty():
        lines = [f"  {name:24} {key}" for name, key in keys.items()]
        click.echo("\n".join(["", "Keys for your first clients, shown this once:", *lines, ""]), err=True)
