"""The environment is the one that the locks describe."""

import ast
import re
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def locked(name: str) -> list[Requirement]:
    """The packages of a lock that are meant for this machine."""
    lines = re.findall(r"^[a-z][^\\\n]*", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE)
    requirements = [Requirement(line) for line in lines]
    return [wanted for wanted in requirements if wanted.marker is None or wanted.marker.evaluate()]


def direct(name: str) -> list[str]:
    """The packages that llmux itself asks for."""
    lines = (ROOT / "requirements" / f"{name}.in").read_text().splitlines()
    return [Requirement(line).name for line in lines if line and not line.startswith(("#", "-"))]


@pytest.mark.parametrize("lock", ["uv", "torch", "llama", "runtime", "speech", "dev"])
def test_installed_is_what_the_lock_says(lock: str) -> None:
    assert not [
        f"{wanted}, but {version(wanted.name)} is installed"
        for wanted in locked(lock)
        if not wanted.specifier.contains(version(wanted.name))
    ]


def test_litellms_proprietary_part_is_absent() -> None:
    with pytest.raises(PackageNotFoundError):
        version("litellm-enterprise")


def test_every_direct_dependency_is_explained() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text().lower()
    names = [name for file in ("uv", "torch", "llama", "runtime", "speech", "dev") for name in direct(file)]

    assert names
    assert not [name for name in names if f"| {name.lower()} |" not in page]


def test_every_import_is_of_a_direct_dependency() -> None:
    """What others bring along may go when they change their minds."""
    ours = ("llmux", "hooks", "providers", "vram", "database", "demo", "bench", "tests")
    files = [path for folder in ours for path in (ROOT / folder).rglob("*.py")]
    trees = [ast.walk(ast.parse(path.read_text())) for path in files]
    imports = {name.partition(".")[0] for tree in trees for node in tree for name in imported(node)}
    others = imports - sys.stdlib_module_names - set(ours)
    declared = {
        canonicalize_name(name) for file in ("torch", "llama", "runtime", "speech", "dev") for name in direct(file)
    }
    owners = packages_distributions()

    assert others
    assert not [name for name in others if not declared & {canonicalize_name(owner) for owner in owners.get(name, [])}]


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
