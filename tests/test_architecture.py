"""Who may know whom (docs/architecture.md), held against the imports as they are."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("llmux", "hooks", "providers", "vram", "database", "demo", "bench", "acceptance")

FORBIDDEN = {
    "vram": {"llmux", "hooks", "providers", "database", "demo", "bench", "acceptance"},
    "database": {"llmux", "hooks", "providers", "vram", "demo", "bench", "acceptance"},
    "providers": {"hooks", "database", "demo", "bench", "acceptance", "llmux.cli", "llmux.gateway"},
    "hooks": {"database", "demo", "bench", "acceptance", "llmux.cli", "llmux.gateway"},
    "llmux": {"demo", "bench"},
    "acceptance": {"hooks", "providers", "vram", "database", "demo", "bench"},
}
LAUNCHERS = {"llmux.cli": {"llmux.__main__"}, "llmux.gateway": {"llmux.serving"}}
CONFIGURATION = ("llmux.config", "llmux.config.Config", "llmux.config.Task", "llmux.config.View")
RUNTIMES = {"llamacpp", "transformers_asr", "transformers_chat", "chatterbox", "hibari"}


def modules() -> Iterator[tuple[str, Path]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


ALL = dict(modules())


def reaches(imported: set[str], target: str) -> bool:
    return any(name == target or name.startswith(f"{target}.") for name in imported)


@pytest.mark.parametrize("module", ALL)
def test_a_room_knows_only_whom_it_may(module: str) -> None:
    imported = imports(ALL[module])
    assert [target for target in FORBIDDEN.get(module.split(".")[0], ()) if reaches(imported, target)] == []


@pytest.mark.parametrize("module", ALL)
def test_only_the_launcher_knows_the_launcher(module: str) -> None:
    imported = imports(ALL[module])
    for launcher, allowed in LAUNCHERS.items():
        assert module in {launcher, *allowed} or not reaches(imported, launcher)


@pytest.mark.parametrize("module", [name for name in ALL if name.startswith("acceptance.")])
def test_acceptance_is_a_client_that_can_read_the_configuration(module: str) -> None:
    assert {name for name in imports(ALL[module]) if reaches({name}, "llmux")} <= set(CONFIGURATION)


@pytest.mark.parametrize("task", ["chat", "speech", "transcription", "dialect", "leased", "litellm_audio"])
def test_the_openai_side_knows_no_runtime_by_name(task: str) -> None:
    imported = imports(ALL[f"providers.{task}"])
    assert [runtime for runtime in RUNTIMES if reaches(imported, f"providers.{runtime}")] == []


@pytest.mark.parametrize("module", ALL)
def test_every_module_says_why_it_is_here(module: str) -> None:
    source = ALL[module].read_text(encoding="utf-8")
    assert not source.strip() or ast.get_docstring(ast.parse(source))


def decides(path: Path) -> bool:
    """Whether a module does anything, or only declares shapes for others."""
    functions = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)]
    return any(isinstance(node, ast.If | ast.Return | ast.For) for function in functions for node in ast.walk(function))


@pytest.mark.parametrize("module", [name for name in ALL if "__" not in name and decides(ALL[name])])
def test_every_module_that_decides_something_has_its_test_module(module: str) -> None:
    room, name = module.split(".", 1)
    if module == "llmux.gateway":  # puts everything together, and is tested so
        room, name = ".", "end_to_end"
    assert (ROOT / "tests" / room / f"test_{name}.py").is_file()
