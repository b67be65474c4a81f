"""What the documentation tells people to type works."""

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import click
import pytest
from click.testing import CliRunner

from llmux.cli import main
from llmux.surface import ROUTES, is_open

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for page, text in TEXT.items():
        for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL):
            yield page, block


def commands() -> list[str]:
    """Every command in the pages' shell blocks, continued lines joined, comments dropped."""
    lines = [line for _, block in blocks("sh") for line in block.replace("\\\n", " ").splitlines()]
    return sorted({line.strip() for line in lines if line.strip() and not line.startswith("#")})


COMMANDS = commands()


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make ")])
def test_a_make_target_exists(command: str) -> None:
    target = shlex.split(command, comments=True)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"make bench NAME=([\w-]+)", "".join(TEXT.values())))))
def test_a_bench_exists(name: str) -> None:
    assert (ROOT / "bench" / f"{name.replace('-', '_')}.py").is_file()


def understood(arguments: list[str]) -> click.Context:
    """The command with its options, parsed but not carried out. Raises click.UsageError."""
    name, command = "llmux", cast(click.Command, main)
    context = click.Context(command, info_name=name)
    while isinstance(command, click.Group):
        _, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command = found
    return command.make_context(command.name, arguments, parent=context)


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("python -m llmux")])
def test_a_command_of_llmux_does_what_it_says(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "litellm_config.yaml").write_text((ROOT / "litellm_config.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(command, comments=True)[3:]
    needs_more = ("serve", "weights", "status", "keys", "bench", "acceptance", "connect")  # a network, a gateway, a key
    if arguments[0] in needs_more:
        assert understood(arguments)
    else:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("curl ")])
def test_an_address_is_one_that_the_gateway_serves(command: str) -> None:
    (url,) = (word for word in shlex.split(command) if word.startswith("http"))
    assert is_open(re.sub(r"^http://127\.0\.0\.1:8081", "", url), ROUTES)


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("deploy/")])
def test_a_script_is_there_and_knows_its_arguments(command: str) -> None:
    script, *arguments = shlex.split(command, comments=True)
    assert os.access(ROOT / script, os.X_OK)
    assert all(argument in (ROOT / script).read_text() for argument in arguments)  # what they do: tests/deploy


def test_every_command_is_of_a_kind_that_is_tested() -> None:
    assert [line for line in COMMANDS if not line.startswith(("make ", "python -m llmux ", "curl ", "deploy/"))] == []


@pytest.mark.parametrize(("page", "block"), list(blocks("json")))
def test_a_json_example_is_json(page: str, block: str) -> None:
    assert json.loads(block), page


@pytest.mark.parametrize("page", TEXT)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", TEXT[page]):
        assert ((ROOT / page).parent / target).exists(), target
